"""A random walk over the histories of one key in a bucket with versions, through the real store, in any order of events.

Events: versioning switched, versions put, marked deleted, deleted by id, tagged, given another layout; volumes that go, fail and
come back; crashes at any step; settling and repair cut half way. What a client was told bounds what a listing of versions may
show: of every operation whose outcome is not known either all or nothing, and what one listing has shown is so for good.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from abixio.errors import AbixioError, IsDeleteMarker, NoSuchKey, OutcomeUnknown
from abixio.store import asking, settle
from abixio.store.lifecycle_key import RulesChanged
from abixio.store.lifecycle_rules import CONFIG, Rule, Rules, encode
from abixio.store.record import Record
from abixio.store.types import ObjectInfo, PutSpec
from abixio.store.versions import Shadow
from abixio.volume.interface import State
from tests.test_store_model import Violation, Walk, in_memory

WALKS = int(os.environ.get("ABIXIO_TEST_WALKS", "20"))
EVENTS = 60


class Entry(NamedTuple):
    """One version; `number` -1: a delete marker. Its id is known once a client was told."""

    number: int
    null: bool
    tag: str = ""
    id: str = ""


RULES = encode(Rules((Rule("r", True, noncurrent_days=-2, newer=1, markers=True),), ""))
"""Of days that no client's rule has: what was just made is due."""
History = tuple[Entry, ...]
Change = Callable[[History], History]


def added(entry: Entry) -> Change:
    return lambda history: (entry, *(e for e in history if not (entry.null and e.null)))


def removed(id: str) -> Change:
    return lambda history: tuple(entry for entry in history if entry.id != id)


def tagged(id: str, tag: str) -> Change:
    return lambda history: tuple(entry._replace(tag=tag) if entry.id == id else entry for entry in history)


def expired(history: History) -> History:
    """By RULES: what is current stays, unless it is a delete marker and alone, and one version below it."""
    return () if len(history) == 1 and history[0].number < 0 else history[:2]


def partly_expired(history: History) -> set[History]:
    """The same cut short."""
    some = {history, expired(history)}
    for count in range(len(history[2:])):
        some |= {(*history[:2], *rest) for rest in combinations(history[2:], count)}
    return some


def looks_like(history: History, seen: History) -> bool:
    """Whether a listing shows that history; ids that nobody was told yet fit."""
    return len(history) == len(seen) and all(
        a._replace(id="") == b._replace(id="") and (not a.id or a.id == b.id) for a, b in zip(history, seen, strict=True)
    )


class VersionWalk(Walk):
    """One walk."""

    def __init__(self, seed: int, executor: ThreadPoolExecutor, root: Path) -> None:
        super().__init__(seed, executor, root, in_memory, True)
        self.possible: set[History] = {()}
        self.versioning = ""
        self.unsure = False
        """Whether there may be a write that was neither acknowledged nor refused."""
        self.known: History = ()
        """What the last listing showed: ids to name."""

    # ---- operations --------------------------------------------------------------------------------------------------
    async def write(self) -> None:
        """One operation of a client, with faults."""
        self.next += 1
        if self.rng.random() < 0.4:
            self.fuse.left = self.rng.randrange(1, 2 * self.n + 3)
        for volume in self.volumes:
            volume.flaky = self.rng.choice((0.0, 0.0, 0.0, 0.2))
        changes = (self.add, self.add, self.add, self.mark, self.kill, self.kill, self.tag, self.switch, self.expire)
        await self.rng.choice(changes)()
        well = not any(volume.flaky or volume.away for volume in self.volumes)
        for volume in self.volumes:
            volume.flaky = 0.0
        if self.fuse.blown:
            await self.crash()
        elif well and not self.filling and self.rng.random() < 0.3 and self.everywhere():
            await self.strike(min(*self.tolerances, (self.n - 1) // 2))
        self.fuse.left = 10**9

    def everywhere(self) -> bool:
        """Whether no volume missed anything: until the journal has brought it there, that may be lost with fewer others. Nor may
        there be a write of which nobody was told how it ended, before it is settled: it may need all volumes."""
        rows = [disk.rows(self.bucket.space, b"k") for disk in self.disks]
        self.unsure = self.unsure and any(row.state is State.PENDING for own in rows for row in own)
        return not self.unsure and len({tuple(row.id for row in own) for own in rows}) == 1

    async def does(self, what: str, change: Callable[[str], Change], work: Callable[[], Awaitable[str]]) -> None:
        """`change` of the id that the answer told."""
        self.log.append(f"{what} fuse {self.fuse.left}")
        before = self.possible
        try:
            id = await work()
        except AbixioError as error:
            unknown = isinstance(error, OutcomeUnknown) or self.fuse.blown
            self.log.append(f"  {'unknown' if unknown else 'refused'}: {error!r}")
            if unknown:
                self.unsure = True
                self.possible = before | {change("")(history) for history in before}
            return
        self.log.append(f"  acknowledged {id}")
        self.possible = {change(id)(history) for history in before}

    async def add(self) -> None:
        number, ftt = self.next, self.rng.choice(self.tolerances)
        null = self.versioning != "Enabled"

        async def work() -> str:
            spec = PutSpec("me", ftt=str(ftt), headers={"number": str(number)})
            version: str = (await self.done(number, True, spec=spec)).version
            return version

        if self.versioning:
            await self.does(f"put {number} ftt {ftt}", lambda id: added(Entry(number, null, "", id)), work)
        else:
            await self.does(f"put {number} ftt {ftt}", lambda id: lambda history: (Entry(number, True, "", id),), work)

    async def mark(self) -> None:
        null = self.versioning != "Enabled"

        async def work() -> str:
            deleted = await self.done(0, False)
            return deleted.version if deleted is not None else ""

        if self.versioning:
            await self.does("mark deleted", lambda id: added(Entry(-1, null, "", id)), work)
        else:
            await self.does("delete", lambda id: lambda history: (), work)

    async def kill(self) -> None:
        if not self.known or not self.versioning:
            return
        entry = self.rng.choice(self.known)

        async def work() -> str:
            await self.store.delete(self.bucket, "k", version=entry.id)
            return entry.id

        await self.does(f"delete version {entry}", lambda _: removed(entry.id), work)

    async def tag(self) -> None:
        entries = [entry for entry in self.known if entry.number >= 0]
        if not entries:
            return
        entry, tag = self.rng.choice(entries), str(self.next)

        async def work() -> str:
            return (await self.store.amend(
                self.bucket, "k", entry.id, lambda record: replace(record, tags={"t": tag})
            )).version

        await self.does(f"tag {entry} {tag}", lambda _: tagged(entry.id, tag), work)

    async def switch(self) -> None:
        """With nothing that fails: what the bucket says then is certain."""
        self.fuse.left = 10**9
        for volume in self.volumes:
            volume.flaky = 0.0
        state = self.rng.choice(("Enabled", "Enabled", "Suspended"))
        self.log.append(f"versioning {state}")
        try:
            self.bucket = await self.store.change_bucket("bucket", lambda settings: {**settings, "versioning": state})
            self.versioning = state
        except OutcomeUnknown as error:
            raise AssertionError("nothing failed") from error
        except AbixioError as error:
            self.log.append(f"  {error!r}")

    async def expire(self) -> None:
        """The lifecycle runner takes what is noncurrent but for one version, and a delete marker that is alone."""
        if not self.versioning:
            return
        self.log.append(f"expire fuse {self.fuse.left}")
        before = self.possible
        try:
            if await self.store.config(self.bucket, CONFIG) is None:
                await self.store.set_config(self.bucket, CONFIG, RULES)
            await self.store.lifecycle._execute.key(self.bucket, RULES, b"k")
            self.log.append("  acknowledged")
            self.possible = {expired(history) for history in before}
        except (AbixioError, RulesChanged) as error:
            self.log.append(f"  cut short: {error!r}")
            self.unsure = True
            self.possible = set().union(*(partly_expired(history) for history in before))

    # ---- what clients see --------------------------------------------------------------------------------------------
    async def look(self) -> bool:
        try:
            page = await self.store.versions(self.bucket, "", "", ("", None), 1000)
        except AbixioError as error:
            self.log.append(f"  listing: {error!r}")
            return False
        seen = tuple(self.entry(info) for info, _ in page.versions)
        self.log.append(f"  seen {[(e.number, 'null' if e.null else '', e.tag) for e in seen]}")
        if not any(looks_like(history, seen) for history in self.possible):
            raise Violation(f"seen {seen}, possible {self.possible}")
        self.possible, self.known = {seen}, seen
        await self.read(page.versions[0][0] if page.versions else None, None)
        if seen:
            at = self.rng.randrange(len(seen))
            await self.read(page.versions[at][0], seen[at].id)
        return True

    @staticmethod
    def entry(info: ObjectInfo) -> Entry:
        record = info.record
        number = -1 if record.kind == "marker" else int(record.headers["number"])
        return Entry(number, info.version == "null", record.tags.get("t", ""), info.version)

    async def read(self, expected: ObjectInfo | None, version: str | None) -> None:
        """That version has the bytes that the listing says, or nobody can tell now."""
        try:
            reader = await self.store.open(self.bucket, "k", version)
            try:
                text = b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)]).decode()
            finally:
                await reader.aclose()
        except (NoSuchKey, IsDeleteMarker) as error:
            if expected is not None and expected.record.kind == "object":
                raise Violation(f"version {version} is listed, and {error!r}") from error
            return
        except AbixioError as error:
            self.log.append(f"  reader: {error!r}")
            return
        if expected is None or expected.record.kind != "object" or text != expected.record.headers["number"]:
            raise Violation(f"version {version} reads as {text}, listed is {expected}")

    async def strike(self, ftt: int) -> None:
        """The process dies right after an answer, and as many volumes as every version can lose, fewer than half, are gone."""
        gone = self.rng.sample(range(self.n), ftt)
        self.log.append(f"killed after the answer, and volumes {gone} lost")
        await self.crash()
        for slot in gone:
            self.set_away(slot, True)
        if not await self.look() or "reader" in self.log[-1]:
            raise Violation("an answered history cannot be read")
        for slot in gone:
            self.set_away(slot, False)

    async def rest(self) -> None:
        await self.crash()
        for slot in range(self.n):
            self.set_away(slot, False)
        self.log.append("all up")
        for _ in range(8):
            self.store.journal._later.clear()
            await self.store.journal.run_once()
            await self.store.settler.cycle()
            await self.store.settler.cycle()
        if any(left := [len(disk.unsettled(None, 100)) for disk in self.disks]):
            raise Violation(f"not at rest: {left} rows unsettled")
        if not await self.look():
            raise Violation("stuck: all volumes up, key unresolved")
        rows = {tuple(row.id[2:] for row in disk.rows(self.bucket.space, b"k")) for disk in self.disks}
        if len(rows) != 1 or len(next(iter(rows))) != len(self.known):
            raise Violation(f"rows left over: {rows} for {self.known}")


async def walks(count: int, first: int = 0, wipes: bool = False) -> VersionWalk | None:
    """The first walk that meets a violation, with its log."""
    with ThreadPoolExecutor(2) as executor, TemporaryDirectory() as root:
        for number in range(first, first + count):
            walk = VersionWalk(number, executor, Path(root))
            try:
                await walk.run(wipes)
            except Violation as error:
                walk.log.append(f"VIOLATION {error}")
                await walk.halt()
                return walk
            finally:
                for disk in walk.disks:
                    disk.close()
    return None


@pytest.mark.parametrize(("wipes", "few"), [(False, asking.FEW), (True, 2)])
async def test_no_order_of_events_breaks_a_history(wipes: bool, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`few`: with so many rows a history counts as a long one, of which writes look at the newest only."""
    monkeypatch.setattr(asking, "FEW", few)
    monkeypatch.setattr(settle, "FEW", few)
    walk = await walks(WALKS, wipes=wipes)
    assert walk is None, "\n".join(walk.log)


async def test_when_kills_forget_what_their_victims_hid_the_walk_finds_a_null_version_that_came_back(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Shadow.add

    def forgetful(self: Shadow, record: Record) -> None:
        real(self, replace(record, hides="one") if record.kind == "kill" else record)

    monkeypatch.setattr(Shadow, "add", forgetful)
    assert await walks(10 * WALKS) is not None


async def test_when_kills_go_in_one_round_the_walk_finds_a_version_that_came_back(monkeypatch: pytest.MonkeyPatch) -> None:
    original = settle.Settler._t2

    def eager(self: settle.Settler, lane: object, id: object, entry: settle._Entry) -> object:
        ops = original(self, lane, id, entry)  # type: ignore[arg-type]
        return [*ops, settle.Drop(id)] if entry.record.kind == "kill" else ops  # type: ignore[arg-type]

    monkeypatch.setattr(settle.Settler, "_t2", eager)
    assert await walks(10 * WALKS) is not None
