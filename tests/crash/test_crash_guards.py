"""Every guard matters: with any of them taken away the matrix finds a violation.

Children are forked, so what is patched here holds in them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from abixio.errors import Unavailable
from abixio.store.asking import Asker
from abixio.store.commit import Committer
from abixio.store.completion import Completion
from abixio.store.health import Healed
from abixio.store.lane import Lane
from abixio.store.mend import Mender, Rest
from abixio.store.multipart import upload_name
from abixio.store.pool import Pool
from abixio.store.record import Record
from abixio.store.resolve import View
from abixio.store.settle import Settler
from abixio.store.upload import Received
from abixio.store.versions import Shadow
from abixio.volume.catalog import Catalog
from abixio.volume.interface import Drop
from abixio.volume.local import LocalVolume
from abixio.volume.shardfile import ShardFileWriter
from tests.crash import child
from tests.crash.matrix import Case, Matrix
from tests.crash.rows import ROWS

Patch = pytest.MonkeyPatch


# ---- guards, each taken away -----------------------------------------------------------------------------------------
def shard_files_are_synced(patch: Patch) -> None:
    patch.setattr(ShardFileWriter, "_sync", lambda self: None)


def their_directory_is_synced(patch: Patch) -> None:
    patch.setattr(ShardFileWriter, "_sync_directory", lambda self: None)


def rows_are_synced(patch: Patch) -> None:
    real = Catalog.apply
    patch.setattr(Catalog, "apply", lambda self, changes, durable, full: real(self, changes, False, full))


def files_are_in_place_before_their_row(patch: Patch) -> None:
    late: list[tuple[Received, bytes]] = []
    finish, commit = Received.finish, Committer.commit

    async def first_the_row(self: Committer, draft: Any) -> Any:
        record = await commit(self, draft)
        while late:
            await finish(*late.pop())
        return record

    async def later(self: Received, record: bytes) -> set[int]:
        late.append((self, record))
        return self.slots

    patch.setattr(Received, "finish", later)
    patch.setattr(Committer, "commit", first_the_row)


def files_are_verified_after_a_power_cut(patch: Patch) -> None:
    real = LocalVolume._recover

    def trusting(self: LocalVolume) -> None:
        real(self)
        self.clean = True

    patch.setattr(LocalVolume, "_recover", trusting)


def unfinished_files_are_removed_at_the_start(patch: Patch) -> None:
    def idle(self: LocalVolume) -> None:
        self.clean = False

    patch.setattr(LocalVolume, "_recover", idle)


def marking_waits_for_a_barrier(patch: Patch) -> None:
    async def everybody(self: Settler) -> set[int]:
        return {lane.slot for lane in self.pool.up()}

    patch.setattr(Settler, "barrier", everybody)


def tombstones_go_in_a_second_round(patch: Patch) -> None:
    real = Settler._t2

    def eager(self: Settler, lane: Any, id: Any, entry: Any) -> Any:
        ops = real(self, lane, id, entry)
        return [*ops, Drop(id)] if entry.record.kind == "tombstone" else ops

    patch.setattr(Settler, "_t2", eager)


def kills_go_in_a_second_round(patch: Patch) -> None:
    real = Settler._t2

    def eager(self: Settler, lane: Any, id: Any, entry: Any) -> Any:
        ops = real(self, lane, id, entry)
        return [*ops, Drop(id)] if entry.record.kind == "kill" else ops

    patch.setattr(Settler, "_t2", eager)


def a_null_version_that_goes_takes_along_what_it_hid(patch: Patch) -> None:
    real = Shadow.add

    def forgetful(self: Shadow, record: Record) -> None:
        real(self, structs.replace(record, hides="one") if record.kind == "kill" else record)

    patch.setattr(Shadow, "add", forgetful)


def a_null_version_hides_no_other_versions(patch: Patch) -> None:
    real = Shadow.add

    def greedy(self: Shadow, record: Record) -> None:
        real(self, structs.replace(record, hides="older") if record.hides == "null" else record)

    patch.setattr(Shadow, "add", greedy)


def a_failed_sync_takes_the_volume_out_of_service(patch: Patch) -> None:
    """Both the volume's own guard and that of its lane."""
    def go_on(self: object, error: Exception) -> None: ...

    patch.setattr(LocalVolume, "_fail", go_on)
    patch.setattr(Lane, "fail", go_on)


def an_answer_waits_for_w_volumes(patch: Patch) -> None:
    patch.setattr(Committer, "quorum", lambda self, view, k: 1)


def a_write_without_its_quorum_is_taken_back(patch: Patch) -> None:
    async def leave(self: Committer, *_: object) -> None:
        raise Unavailable("as it is")

    patch.setattr(Committer, "_take_back", leave)


def an_upload_ends_after_its_object_is_there(patch: Patch) -> None:
    real = Completion._complete

    async def first_the_end(self: Any, bucket: Any, key: str, upload_id: str, *rest: Any) -> Any:
        space, name = upload_name(bucket, key, upload_id)
        upload = await self._committer.current(space, name)
        bury, commit = self._bury, self._commit_object

        async def buried_first(*args: Any) -> Any:
            await bury(space, name, bytes.fromhex(upload_id))
            return await commit(*args)

        async def not_again(*_: Any) -> None: ...

        if upload is not None:
            self._commit_object, self._bury = buried_first, not_again
        return await real(self, bucket, key, upload_id, *rest)

    patch.setattr(Completion, "_complete", first_the_end)


def what_volumes_missed_is_brought_to_them(patch: Patch) -> None:
    async def idle(self: Mender, space: bytes, key: bytes) -> Rest:
        return Rest(True, Healed())

    patch.setattr(Mender, "settle_claimed", idle)


def the_first_barrier_covers_what_a_killed_process_left(patch: Patch) -> None:
    real = LocalVolume._recover

    def calm(self: LocalVolume) -> None:
        real(self)
        self._dirty = False

    patch.setattr(LocalVolume, "_recover", calm)


def a_start_in_the_other_mode_makes_certain_what_it_finds(patch: Patch) -> None:
    real = child.verify_unclean

    async def trusting(pool: Pool) -> None:
        for lane in pool.up():
            lane.volume.orderly = True
        await real(pool)

    patch.setattr(child, "verify_unclean", trusting)


def old_versions_go_after_the_new_is_safe(patch: Patch) -> None:
    """In mode page-cache: T2 of rows that no barrier covered."""
    real = Settler.cycle

    async def hasty(self: Settler) -> None:
        durable = self.pool.config.durability
        object.__setattr__(self.pool.config, "durability", "fsync")
        try:
            await real(self)
        finally:
            object.__setattr__(self.pool.config, "durability", durable)

    patch.setattr(Settler, "cycle", hasty)


def a_filling_volume_denies_what_it_took_part_in(patch: Patch) -> None:
    patch.setattr(Asker, "view", lambda self, rows: View.of(
        self._pool.n, rows, frozenset(self._pool.filling), frozenset(self._pool.regressed)
    ))


def parts_stay_until_the_end_of_their_upload_is_safe(patch: Patch) -> None:
    async def surely(self: Mender, space: bytes, key: bytes) -> bool:
        return True

    patch.setattr(Mender, "_ended_for_good", surely)


@dataclass(frozen=True)
class Without:
    """A guard, and where in the matrix its absence shows."""

    guard: Callable[[Patch], None]
    row: str
    mode: str
    kinds: tuple[str, ...]


WITHOUT = [
    Without(shard_files_are_synced, "put a file", "fsync", ("drop", "mixed", "pages")),
    Without(their_directory_is_synced, "put a file", "fsync", ("drop", "mixed", "pages")),
    Without(rows_are_synced, "put inline", "fsync", ("drop", "mixed", "pages")),
    Without(files_are_in_place_before_their_row, "put a file", "fsync", ("kill",)),
    Without(files_are_verified_after_a_power_cut, "overwrite large with small with large", "page-cache", ("pages", "mixed")),
    Without(unfinished_files_are_removed_at_the_start, "put a file", "fsync", ("kill",)),
    Without(marking_waits_for_a_barrier, "overwrite small with large with small", "page-cache", ("mixed", "pages", "drop")),
    Without(old_versions_go_after_the_new_is_safe, "overwrite small with large with small", "page-cache", ("mixed", "pages")),
    Without(
        the_first_barrier_covers_what_a_killed_process_left,
        "repair overwrite large with small with large, killed in page-cache", "page-cache", ("mixed", "drop", "prefix"),
    ),
    Without(
        a_start_in_the_other_mode_makes_certain_what_it_finds,
        "repair overwrite large with small with large, killed in page-cache", "fsync", ("mixed", "drop", "prefix"),
    ),
    Without(tombstones_go_in_a_second_round, "delete a file", "fsync", ("kill", "mixed", "dead")),
    Without(kills_go_in_a_second_round, "delete versions", "fsync", ("dead", "eio", "kill")),
    Without(a_null_version_that_goes_takes_along_what_it_hid, "overwrite the null version and delete it", "fsync", ("kill",)),
    Without(a_null_version_hides_no_other_versions, "suspend and overwrite the null version", "fsync", ("kill",)),
    Without(a_failed_sync_takes_the_volume_out_of_service, "put without parity", "fsync", ("lost sync",)),
    Without(an_answer_waits_for_w_volumes, "put a file", "fsync", ("dead", "eio", "full")),
    Without(a_write_without_its_quorum_is_taken_back, "overwrite small with large with small", "fsync", ("plague",)),
    Without(an_upload_ends_after_its_object_is_there, "complete an upload", "fsync", ("kill",)),
    Without(what_volumes_missed_is_brought_to_them, "put inline", "fsync", ("eio", "kill")),
    Without(a_filling_volume_denies_what_it_took_part_in, "refill a blank disk", "fsync", ("kill", "drop")),
    Without(parts_stay_until_the_end_of_their_upload_is_safe, "scan beside an upload", "page-cache", ("mixed", "drop")),
]


def found(without: Without, patch: Patch, most: int = 600) -> str | None:
    """The first violation that the matrix finds with the guard taken away."""
    row = next(row for row in ROWS if row.name == without.row)
    with Matrix() as matrix:
        matrix.base(row.base, row.n)
        without.guard(patch)
        cases: list[Case] = list(matrix.cases(row, without.mode, without.kinds))
        for case in cases[:most]:
            failures = matrix.run([case]).failures
            if failures:
                return failures[0]
    return None


@pytest.mark.slow
@pytest.mark.parametrize("without", WITHOUT, ids=lambda without: without.guard.__name__)
def test_without_it_the_matrix_finds_a_violation(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = found(without, monkeypatch)
    print(failure)
    assert failure is not None

