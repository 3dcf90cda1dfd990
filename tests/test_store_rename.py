"""Renames in the store: both keys or neither, whatever comes between, and nothing copied. The walk is test_store_rename_model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from abixio.errors import (
    AbixioError,
    CannotRename,
    IdempotencyMismatch,
    NoSuchKey,
    ObjectLocked,
    PreconditionFailed,
    Unavailable,
)
from abixio.store.pairs import Half, Pairs
from abixio.store.placing import Along, Placer
from abixio.store.resolve import Version, View
from abixio.store.store import Store
from abixio.store.types import Bucket, Move, PutSpec
from abixio.volume.interface import State
from tests.store_local import Disks, quiet
from tests.store_rig import BytesSource
from tests.test_store_model import in_memory
from tests.test_store_rename_model import RenameWalk, absent

LARGE = bytes(range(256)) * 1024


@asynccontextmanager
async def pool(n: int, ftt: int, root: Path) -> AsyncIterator[RenameWalk]:
    """N volumes in memory, and `1` as object `a`, at rest."""
    with ThreadPoolExecutor(2) as executor:
        walk = RenameWalk(0, executor, root, in_memory)
        walk.n, walk.tolerances = n, [ftt]
        walk.disks = [walk.blank(slot) for slot in range(n)]
        await walk.boot()
        walk.bucket = await walk.store.create_bucket("bucket", "me", {})
        await put(walk, "a", "1")
        await settle(walk)
        yield walk
        await walk.halt()


async def put(walk: RenameWalk, key: str, data: str, new: bool = False) -> None:
    spec = PutSpec("me", ftt=str(walk.tolerances[0]))
    spec = PutSpec("me", ftt=spec.ftt, condition=absent) if new else spec
    await walk.store.put(walk.bucket, key, spec, BytesSource(data.encode()))


async def settle(walk: RenameWalk) -> None:
    for _ in range(3):
        await walk.store.settler.cycle()


async def cut(walk: RenameWalk, steps: int) -> tuple[list[int], list[int]]:
    """A rename of `a` to `b` during which the process dies after so many changes of volumes, and a new process: the volumes that
    have both rows, and the others."""
    walk.fuse.left = steps
    with suppress(AbixioError):
        await walk.store.rename(walk.bucket, "b", Move("a"))
    await walk.crash()
    have = [slot for slot, disk in enumerate(walk.disks) if disk.rows(walk.bucket.space, b"b")]
    return have, [slot for slot in range(walk.n) if slot not in have]


def away(walk: RenameWalk, *slots: int) -> None:
    for slot in range(walk.n):
        walk.set_away(slot, slot in slots)


async def shown(walk: RenameWalk, key: str) -> str | None:
    """What a reader gets."""
    try:
        reader = await walk.store.open(walk.bucket, key)
    except NoSuchKey:
        return None
    data = b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
    await reader.aclose()
    return data.decode()


async def both(walk: RenameWalk) -> tuple[str | None, str | None]:
    return await shown(walk, "a"), await shown(walk, "b")


# ---- what stays ------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def stored(tmp_path: Path, data: bytes, n: int = 4) -> AsyncIterator[tuple[Store, Bucket]]:
    async with quiet(Disks(tmp_path, n)) as store:
        bucket = await store.create_bucket("bucket", "me", {})
        spec = PutSpec("me", {"content-type": "text/plain"}, {"color": "blue"}, tags={"a": "b"})
        await store.put(bucket, "old", spec, BytesSource(data))
        yield store, bucket


@pytest.mark.parametrize("data", [b"small", LARGE, b""])
async def test_the_bytes_and_all_that_is_said_of_them_stay(tmp_path: Path, data: bytes) -> None:
    async with stored(tmp_path, data) as (store, bucket):
        before = (await store.head(bucket, "old")).record
        after = (await store.rename(bucket, "new", Move("old"))).record
        for name in ("size", "etag", "modified", "headers", "meta", "tags", "checksums", "parts", "layout", "owner"):
            assert getattr(after, name) == getattr(before, name), name
        with pytest.raises(NoSuchKey):
            await store.head(bucket, "old")
        reader = await store.open(bucket, "new")
        assert b"".join([bytes(piece) async for piece in reader.stream(0, len(data))]) == data
        await reader.aclose()
        assert [info.key for info in (await store.list(bucket, "", "", "", 10)).items] == ["new"]


def shard_files(root: Path) -> list[Path]:
    return sorted(root.glob("v*/shards/*/*"))


async def test_no_shard_is_written_and_none_is_left_when_the_object_goes(tmp_path: Path) -> None:
    async with stored(tmp_path, LARGE) as (store, bucket):
        files = shard_files(tmp_path)
        assert len(files) == 4
        await store.rename(bucket, "new", Move("old"))
        for _ in range(3):
            await store.settler.cycle()
        assert shard_files(tmp_path) == files
        await store.delete(bucket, "new")
        for _ in range(3):
            await store.settler.cycle()
        assert not shard_files(tmp_path)


async def test_what_was_renamed_is_changed_and_renamed_again_like_anything(tmp_path: Path) -> None:
    async with stored(tmp_path, LARGE) as (store, bucket):
        await store.rename(bucket, "b", Move("old"))
        await store.rename(bucket, "c", Move("b"))
        await store.append(bucket, "c", PutSpec("me"), len(LARGE), BytesSource(b"more"))
        info = await store.reencode(bucket, "c", "2")
        assert (info.size, info.record.pair, info.record.incompat) == (len(LARGE) + 4, b"", ())
        await store.rename(bucket, "old", Move("c"))
        assert [info.key for info in (await store.list(bucket, "", "", "", 10)).items] == ["old"]


async def test_when_all_volumes_have_it_one_row_is_left_on_each(tmp_path: Path) -> None:
    async with stored(tmp_path, LARGE) as (store, bucket):
        await store.put(bucket, "new", PutSpec("me"), BytesSource(b"over"))
        await store.rename(bucket, "new", Move("old"))
        for _ in range(4):
            await store.settler.cycle()
        for lane in store.pool.up():
            rows = [lane.volume.rows(bucket.space, key) for key in (b"old", b"new")]
            assert [[row.state for row in own] for own in rows] == [[], [State.COMMITTED]]
            assert not lane.volume.unsettled(None, 10)


# ---- what is refused -------------------------------------------------------------------------------------------------
async def test_nothing_is_renamed_in_a_bucket_with_versions_nor_onto_itself(tmp_path: Path) -> None:
    async with stored(tmp_path, b"x") as (store, bucket):
        with pytest.raises(CannotRename):
            await store.rename(bucket, "old", Move("old"))
        for state in ("Enabled", "Suspended"):
            bucket = await store.change_bucket("bucket", lambda settings, state=state: {**settings, "versioning": state})
            with pytest.raises(CannotRename):
                await store.rename(bucket, "new", Move("old"))
        assert (await store.head(bucket, "old")).size == 1


async def test_conditions_look_at_both_ends_under_their_locks(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async with stored(tmp_path, b"x") as (store, bucket):
        await store.put(bucket, "new", PutSpec("me"), BytesSource(b"over"))
        with pytest.raises(PreconditionFailed):
            await store.rename(bucket, "new", Move("old", target_check=absent))
        with pytest.raises(NoSuchKey):
            await store.rename(bucket, "new", Move("none"))
        await store.rename(
            bucket, "new",
            Move("old", lambda info: seen.append(info and info.key), lambda info: seen.append(info and info.key)),
        )
        assert sorted(map(str, seen)) == ["new", "old"]


async def test_what_object_lock_protects_keeps_its_name(tmp_path: Path) -> None:
    async with stored(tmp_path, b"x") as (store, bucket):
        await store.put(bucket, "held", PutSpec("me", lock={"hold": "ON"}), BytesSource(b"x"))
        with pytest.raises(ObjectLocked):
            await store.rename(bucket, "new", Move("held"))


async def test_the_same_token_does_it_once_and_for_something_else_it_is_refused(tmp_path: Path) -> None:
    async with stored(tmp_path, b"x") as (store, bucket):
        first = await store.rename(bucket, "new", Move("old", token="t"))
        assert await store.rename(bucket, "new", Move("old", token="t")) == first
        with pytest.raises(IdempotencyMismatch):
            await store.rename(bucket, "new", Move("other", token="t"))
        with pytest.raises(IdempotencyMismatch):
            await store.rename(bucket, "new", Move("old", token="t", asked=("if-match:*",)))
        with pytest.raises(NoSuchKey):
            await store.rename(bucket, "new", Move("old", token="u"))


# ---- crashes, and what the rule is for -------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", range(1, 10))
@pytest.mark.parametrize(("n", "ftt"), [(2, 1), (3, 1), (4, 1), (4, 2), (5, 3)])
async def test_a_crash_at_any_step_leaves_it_under_one_key(tmp_path: Path, n: int, ftt: int, steps: int) -> None:
    async with pool(n, ftt, tmp_path) as walk:
        await cut(walk, steps)
        assert sorted(map(str, await both(walk))) == ["1", "None"]


async def half_renamed(walk: RenameWalk) -> None:
    """Both rows on two volumes of four, and one of the others away: the old key's reader completes it."""
    _, others = await cut(walk, 2)
    away(walk, others[0])
    assert await shown(walk, "a") is None
    away(walk)


async def test_who_completes_one_end_completes_the_other(tmp_path: Path) -> None:
    async with pool(4, 2, tmp_path) as walk:
        await half_renamed(walk)
        assert await both(walk) == (None, "1")


async def test_without_that_the_object_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Version, "other", property(lambda self: None))
    async with pool(4, 2, tmp_path) as walk:
        await half_renamed(walk)
        assert await both(walk) == (None, None)


async def overwritten(walk: RenameWalk) -> str | None:
    """Both rows on W volumes, unmarked; the new key is overwritten; then the old key's reader sees fewer than W."""
    have, _ = await cut(walk, 3)
    await put(walk, "b", "2")
    await walk.crash()
    away(walk, have[0])
    return await shown(walk, "a")


async def test_who_overwrites_the_new_key_makes_sure_that_the_old_one_is_gone(tmp_path: Path) -> None:
    async with pool(4, 2, tmp_path) as walk:
        assert await overwritten(walk) is None


async def test_without_that_it_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Pairs, view: View) -> None:
        """Nobody says anything."""

    monkeypatch.setattr(Pairs, "vouch", nothing)
    async with pool(4, 2, tmp_path) as walk:
        assert await overwritten(walk) == "1"


async def unseen(walk: RenameWalk, settled: bool = True) -> str | None:
    """Of ten volumes four have both rows, and are away when the other six take a write that wants the new key to be free. Then
    three of those are away."""
    have, others = await cut(walk, 4)
    away(walk, *have)
    walk.tolerances = [4]
    await put(walk, "b", "2", new=True)
    if settled:
        await settle(walk)
    away(walk, *others[:3])
    return await shown(walk, "a")


async def test_a_rename_that_a_newer_write_did_not_see_is_taken_back(tmp_path: Path) -> None:
    async with pool(10, 6, tmp_path) as walk:
        assert await unseen(walk) == "1"
        away(walk)
        assert await both(walk) == ("1", "2")


async def test_nor_is_it_completed_below_a_write_that_is_not_known_to_be_committed(tmp_path: Path) -> None:
    async with pool(10, 6, tmp_path) as walk:
        with pytest.raises(Unavailable):
            await unseen(walk, settled=False)
        away(walk)
        assert await both(walk) == ("1", "2")


async def test_without_that_it_is_lost_under_that_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = Pairs._decide

    async def alone(self: Pairs, version: Version, mine: Half, his: Half) -> None:
        if his.fate is None:
            return await self._finish(mine.view, version, None, his.view)
        return await decide(self, version, mine, his)

    monkeypatch.setattr(Pairs, "_decide", alone)
    async with pool(10, 6, tmp_path) as walk:
        assert await unseen(walk) is None


async def test_in_two_transactions_a_crash_leaves_it_under_both_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = Placer.insert

    async def apart(self: Placer, *args: object, along: Along | None = None, **kwargs: object) -> set[int]:
        done = await insert(self, *args, **kwargs)  # type: ignore[arg-type]
        if along is not None:
            done &= await insert(self, along.id, along.record, args[2], args[3], None, along.view)  # type: ignore[arg-type]
        return done

    monkeypatch.setattr(Placer, "insert", apart)
    async with pool(4, 1, tmp_path) as walk:
        await cut(walk, 5)
        assert await both(walk) == ("1", "1")
