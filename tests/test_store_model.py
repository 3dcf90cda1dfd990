"""A random walk over the commit rules, through the real store: one key, N volumes, any order of events.

Events: writes and deletes with mixed fault tolerance, objects that get another one, volumes that go, fail and come back,
crashes at any step of a commit, settling, repair cut half way, blank disks. After every event a reader and a lister ask. They
must never see a version older than an acknowledged one, a write that was answered "not stored", or an older version after a
newer one; and once all volumes are up, the key must come to rest.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from abixio.config import MIB, Config
from abixio.errors import AbixioError, NoSuchKey, OutcomeUnknown, VolumeError, VolumeUnusable
from abixio.store import settle
from abixio.store.buffers import BufferPool
from abixio.store.flight import Flight
from abixio.store.instant import Instant
from abixio.store.placing import Placer
from abixio.store.pool import Pool
from abixio.store.resolve import View
from abixio.store.store import Store
from abixio.store.types import Bucket, PutSpec, Says, always
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.interface import RowId, Volume
from abixio.volume.local import LocalVolume
from tests.store_memvolume import MemVolume

WALKS = int(os.environ.get("ABIXIO_TEST_WALKS", "30"))
EVENTS = 60
AS_IT_IS: Final[Says[Any, Any]] = Says(lambda result: result, lambda error: error)


class Violation(AssertionError):
    pass


class Text:
    """A source of a few bytes."""

    algorithms = ()

    def __init__(self, text: str) -> None:
        self.data = text.encode()
        self.length = len(self.data)

    async def readinto(self, view: memoryview) -> int:
        data, self.data = self.data[: len(view)], self.data[len(view) :]
        view[: len(data)] = data
        return len(data)

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        return {}


def on_disk(root: Path, slot: int) -> Volume:
    """An empty volume."""
    path = root / uuid.uuid4().hex
    path.mkdir()
    format_volume(str(path), Identity("d" * 32, slot, path.name, 1, (Member(slot, path.name),), 0))
    return LocalVolume.open(str(path))


def in_memory(root: Path, slot: int) -> Volume:
    """The same without a disk, several times as fast."""
    return MemVolume(slot)


Blank = Callable[[Path, int], Volume]


class Fuse:
    """Burns down with every change of a volume; when it is gone the process counts as dead."""

    def __init__(self) -> None:
        self.left = 10**9

    @property
    def blown(self) -> bool:
        return self.left <= 0


class Faulty:
    """A volume that can be away, die with the process, or fail before or after it did what it was asked."""

    def __init__(self, volume: Volume, fuse: Fuse, rng: random.Random) -> None:
        self.inner, self.fuse, self.rng = volume, fuse, rng
        self.slot, self.clean = volume.slot, True
        self.away = False
        self.flaky = 0.0

    def __getattr__(self, name: str) -> object:
        method = getattr(self.inner, name)

        def call(*args: object, **kwargs: object) -> object:
            if self.fuse.blown or self.away:
                raise VolumeUnusable("away")
            return method(*args, **kwargs)

        return call

    def apply(self, changes: object, durable: bool) -> object:
        if self.fuse.blown or self.away:
            raise VolumeUnusable("away")
        self.fuse.left -= 1
        if self.rng.random() < self.flaky:
            if self.rng.random() < 0.5:
                self.inner.apply(changes, durable)  # type: ignore[arg-type]
            raise VolumeError("failed, and nobody knows how far")
        return self.inner.apply(changes, durable)  # type: ignore[arg-type]

    def close(self) -> None:
        """The disk outlives the process."""


class Walk:
    """One walk: the pool, and what a client was told about the key."""

    sizes = (1, 2, 3, 4, 5)
    """How many volumes a pool may have."""
    share = 0.6
    """Of writes that are done in one call, where that can be."""

    def __init__(
        self, seed: int, executor: ThreadPoolExecutor, root: Path, blank: Blank = in_memory, reencodes: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        self.n = self.rng.choice(self.sizes)
        self.tolerances = [self.rng.randrange(self.n)] if self.rng.random() < 0.5 else list(range(self.n))
        self.executor = executor
        self.reencodes = reencodes
        self.fuse = Fuse()
        self.blank = lambda slot: blank(root, slot)
        self.disks = [self.blank(slot) for slot in range(self.n)]
        self.filling: set[int] = set()
        self.log = [f"N={self.n} FTT in {self.tolerances}"]
        self.next = 0
        self.value: dict[int, bool] = {0: False}
        """Write number -> whether it leaves an object."""
        self.acked = 0
        self.unsure: list[int] = []
        self.not_stored: set[int] = set()
        self.at_once = 0
        """Writes that were done in one call."""

    # ---- the process -------------------------------------------------------------------------------------------------
    async def boot(self) -> None:
        self.fuse = Fuse()
        self.volumes = [Faulty(disk, self.fuse, self.rng) for disk in self.disks]
        config = Config(durability="fsync")
        pool = Pool(
            dict(enumerate(self.volumes)), self.n, self.filling, config, self.executor, BufferPool(64 * MIB),  # type: ignore[arg-type]
            asyncio.get_running_loop(),
        )
        self.store = Store(pool, max(disk.notes().get("seq", 0) for disk in self.disks))

    async def halt(self) -> None:
        """The process dies: nothing more reaches a disk."""
        self.fuse.left = 0
        await self.store._objects.drain()
        await self.store._instant.drain()
        for lane in self.store.pool.lanes:
            if lane is not None:
                await lane.close()

    async def crash(self) -> None:
        self.log.append("CRASH")
        away = [volume.away for volume in self.volumes]
        await self.halt()
        await self.boot()
        for slot, state in enumerate(away):
            self.set_away(slot, state)

    def set_away(self, slot: int, away: bool) -> None:
        self.volumes[slot].away = away
        lane = self.store.pool.lanes[slot]
        assert lane is not None
        lane.failed = VolumeUnusable("away") if away else None

    # ---- events ------------------------------------------------------------------------------------------------------
    async def write(self) -> None:
        keep = self.rng.random() < 0.65
        numbers = [self._number(keep)]
        if self.rng.random() < 0.4:
            self.fuse.left = self.rng.randrange(1, 2 * self.n + 3)
        for volume in self.volumes:
            volume.flaky = self.rng.choice((0.0, 0.0, 0.0, 0.2))
        ftt = self.rng.choice(self.tolerances)
        self.log.append(f"write {numbers[0]} {'object' if keep else 'delete'} ftt {ftt} fuse {self.fuse.left}")
        before = self.at_once
        ends = [self._begin(numbers[0], keep, ftt, self.share > 0 and self.rng.random() < self.share)]
        if keep and self.at_once > before and self.rng.random() < 0.3:
            numbers.append(self._number(keep))
            self.log.append(f"write {numbers[1]} right behind it")
            ends.append(self._begin(numbers[1], keep, ftt, True))
        for number, end in zip(numbers, ends, strict=True):
            await self._note(number, end)
        number = numbers[-1]
        well = not any(volume.flaky or volume.away for volume in self.volumes)
        for volume in self.volumes:
            volume.flaky = 0.0
        if self.fuse.blown:
            await self.crash()
        elif well and not self.filling and self.acked == number and keep and self.rng.random() < 0.3:
            await self.strike(ftt)
        self.fuse.left = 10**9

    def _number(self, keep: bool) -> int:
        self.next += 1
        self.value[self.next] = keep
        return self.next

    def _begin(
        self, number: int, keep: bool, ftt: int, at_once: bool, key: str = "k", spec: PutSpec | None = None
    ) -> asyncio.Future[Any]:
        """In one call, if that is wanted and can be. What stops it at once is raised."""
        spec, text = spec or PutSpec("me", ftt=str(ftt)), Text(str(number))
        if at_once:
            ended = (
                self.store.put_at_once(self.bucket, key, spec, text, text.data, AS_IT_IS) if keep
                else self.store.delete_at_once(self.bucket, key, always, False, AS_IT_IS)
            )
            if ended is not None:
                self.at_once += 1
                self.log.append("  at once")
                return ended
        work: Coroutine[Any, Any, Any] = (
            self.store.put(self.bucket, key, spec, text) if keep else self.store.delete(self.bucket, key)
        )
        return asyncio.ensure_future(work)

    async def done(self, number: int, keep: bool, key: str = "k", spec: PutSpec | None = None) -> Any:
        """One write, in one call or not; its result."""
        answer = await self._begin(number, keep, 0, self.share > 0 and self.rng.random() < self.share, key, spec)
        if isinstance(answer, AbixioError):
            raise answer
        return answer

    async def _note(self, number: int, end: asyncio.Future[Any]) -> None:
        """What the client is told."""
        try:
            answer = await end
            if isinstance(answer, AbixioError):
                raise answer
            self.log.append(f"  {number} acknowledged")
            self.acked, self.unsure = number, []
        except OutcomeUnknown as error:
            self.log.append(f"  {number} unknown: {error}")
            self.unsure.append(number)
        except AbixioError as error:
            self.log.append(f"  {number} refused: {error!r}")
            (self.unsure.append if self.fuse.blown else self.not_stored.add)(number)

    async def strike(self, ftt: int) -> None:
        """The process dies right after the answer, and as many volumes as the object can lose are gone when it comes back."""
        gone = self.rng.sample(range(self.n), ftt)
        self.log.append(f"killed after the answer, and volumes {gone} lost")
        await self.crash()
        for slot in gone:
            self.set_away(slot, True)
        if not await self.look():
            raise Violation("an answered object cannot be read")
        for slot in gone:
            self.set_away(slot, False)

    async def reencode(self) -> None:
        """Another layout for what is there, perhaps cut by a crash: no reader may tell."""
        if self.rng.random() < 0.4:
            self.fuse.left = self.rng.randrange(1, self.n + 3)
        for volume in self.volumes:
            volume.flaky = self.rng.choice((0.0, 0.0, 0.0, 0.2))
        ftt = self.rng.choice(self.tolerances)
        self.log.append(f"reencode to ftt {ftt} fuse {self.fuse.left}")
        try:
            await self.store.reencode(self.bucket, "k", str(ftt))
            self.log.append("  done")
        except AbixioError as error:
            self.log.append(f"  {error!r}")
        for volume in self.volumes:
            volume.flaky = 0.0
        if self.fuse.blown:
            await self.crash()
        self.fuse.left = 10**9

    async def background(self, cut: bool) -> None:
        """A settling cycle or a repair pass, perhaps cut by a crash."""
        if cut:
            self.fuse.left = self.rng.choice((1, 2, 3, 5))
        work = self.rng.choice(("settle", "journal"))
        self.log.append(f"{work} fuse {self.fuse.left}")
        try:
            if work == "settle":
                await self.store.settler.cycle()
            else:
                self.store.journal._later.clear()
                await self.store.journal.run_once()
        except AbixioError as error:
            self.log.append(f"  {error!r}")
        if self.fuse.blown:
            await self.crash()
        self.fuse.left = 10**9

    def toggle(self) -> None:
        slot = self.rng.randrange(self.n)
        self.set_away(slot, not self.volumes[slot].away)
        self.log.append(f"volume {slot} {'away' if self.volumes[slot].away else 'back'}")

    async def wipe(self) -> None:
        slot = self.rng.randrange(self.n)
        if self.n == 1 or self.filling or self.volumes[slot].away:
            return
        self.log.append(f"blank disk in place of {slot}")
        self.disks[slot].close()
        self.disks[slot] = self.blank(slot)
        self.filling.add(slot)
        await self.crash()

    # ---- what clients see --------------------------------------------------------------------------------------------
    async def look(self) -> bool:
        """Whether the reader got an answer."""
        try:
            listed = bool((await self.store.list(self.bucket, "", "", "", 10)).items)
        except AbixioError:
            listed = None
        if listed is not None and not any(self.value[number] is listed for number in [self.acked, *self.unsure]):
            raise Violation(f"LIST shows {listed}, acknowledged is {self.acked}, unsure {self.unsure}")
        try:
            reader = await self.store.open(self.bucket, "k")
            seen = int(b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)]))
            await reader.aclose()
        except NoSuchKey:
            seen = -1
        except AbixioError as error:
            self.log.append(f"  reader: {error!r}")
            return False
        self.judge(seen)
        return True

    def judge(self, seen: int) -> None:
        if seen in self.not_stored:
            raise Violation(f"failed write visible: {seen}")
        fits = [n for n in [self.acked, *self.unsure] if (n == seen if seen >= 0 else not self.value[n])]
        if not fits:
            raise Violation(f"served {seen}, acknowledged is {self.acked}, unsure {self.unsure}")
        if self.acked not in fits:
            self.acked = min(fits)
            self.unsure = [n for n in self.unsure if n > self.acked]
        self.log.append(f"  reader: {seen}")

    # ---- the walk ----------------------------------------------------------------------------------------------------
    async def run(self, wipes: bool) -> None:
        await self.boot()
        self.bucket: Bucket = await self.store.create_bucket("bucket", "me", {})
        await self.store.settler.cycle()
        for _ in range(EVENTS):
            event = self.rng.random()
            if event < 0.4:
                await self.write()
            elif event < 0.48 and self.reencodes:
                await self.reencode()
            elif event < 0.55:
                self.toggle()
            elif event < 0.62:
                await self.crash()
            elif wipes and event < 0.65:
                await self.wipe()
            else:
                await self.background(self.rng.random() < 0.4)
            await self.look()
        if not self.filling:
            await self.rest()
        await self.halt()

    async def rest(self) -> None:
        """All volumes come back: the key must come to rest, and nothing may be left of what is gone."""
        await self.crash()
        for slot in range(self.n):
            self.set_away(slot, False)
        self.log.append("all up")
        for _ in range(8):
            self.store.journal._later.clear()
            await self.store.journal.run_once()
            await self.store.settler.cycle()
            await self.store.settler.cycle()
        left = [len(disk.unsettled(None, 100)) for disk in self.disks]
        if any(left):
            raise Violation(f"not at rest: {left} rows unsettled")
        before = len(self.log)
        await self.look()
        if len(self.log) == before or "Unavailable" in self.log[-1]:
            raise Violation("stuck: all volumes up, key unresolved")
        rows = {len(disk.rows(self.bucket.space, b"k")) for disk in self.disks}
        if rows != {1 if self.value[self.acked] else 0}:
            raise Violation(f"rows left over: {rows} for {self.acked}")


async def walks(
    count: int, wipes: bool, blank: Blank = in_memory, reencodes: bool = False, kind: type[Walk] = Walk
) -> Walk | None:
    """The first walk that meets a violation, with its log."""
    at_once = 0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with ThreadPoolExecutor(2) as executor, TemporaryDirectory(dir=memory) as root:
        for number in range(count):
            walk = kind(number, executor, Path(root), blank, reencodes)
            try:
                await walk.run(wipes)
            except Violation as error:
                walk.log.append(f"VIOLATION {error}")
                await walk.halt()
                return walk
            finally:
                for disk in walk.disks:
                    disk.close()
            at_once += walk.at_once
    assert at_once >= count * kind.share
    return None


@pytest.mark.parametrize("wipes", [False, True])
@pytest.mark.parametrize(("blank", "share"), [(in_memory, 1), (on_disk, 6)])
async def test_no_order_of_events_breaks_a_promise(wipes: bool, blank: Blank, share: int) -> None:
    walk = await walks(WALKS // share, wipes, blank)
    assert walk is None, "\n".join(walk.log)


class Alone(Walk):
    """A pool of one volume, whose transaction is all of a small write."""

    sizes = (1,)


class Patient(Walk):
    """Every write waits for its lock."""

    share = 0.0


@pytest.mark.parametrize("blank", [in_memory, on_disk])
async def test_nor_on_a_sole_volume(blank: Blank) -> None:
    walk = await walks(WALKS // 2, False, blank, kind=Alone)
    assert walk is None, "\n".join(walk.log)


@pytest.mark.parametrize("wipes", [False, True])
async def test_nor_does_an_object_that_gets_another_layout_at_any_moment(wipes: bool) -> None:
    walk = await walks(WALKS, wipes, reencodes=True)
    assert walk is None, "\n".join(walk.log)


async def test_without_the_word_of_its_rows_the_walk_finds_an_answered_object_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Placer, id: RowId, slots: Collection[int], enough: int) -> bool:
        return True

    monkeypatch.setattr(Placer, "confirm", nothing)
    walk = await walks(WALKS, False, kind=Patient)
    assert walk is not None
    assert "an answered object cannot be read" in walk.log[-1]


async def test_without_the_highest_tolerance_in_w_the_walk_finds_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "highest_m", property(lambda self: -1))
    assert await walks(20 * WALKS, False, kind=Patient) is not None


async def test_without_the_second_round_the_walk_finds_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    original = settle.Settler._t2

    def eager(self: settle.Settler, lane: object, id: object, entry: settle._Entry) -> object:
        ops = original(self, lane, id, entry)  # type: ignore[arg-type]
        return [*ops, settle.Drop(id)] if entry.record.kind == "tombstone" else ops  # type: ignore[arg-type]

    monkeypatch.setattr(settle.Settler, "_t2", eager)
    assert await walks(20 * WALKS, False, kind=Patient) is not None


async def test_the_whole_commit_of_a_sole_volume_is_lost_where_it_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Instant._conclude

    async def as_others(self: Instant, flight: Flight, waits: Mapping[int, asyncio.Future[None]]) -> None:
        flight.settled = False
        await original(self, flight, waits)

    monkeypatch.setattr(Instant, "_conclude", as_others)
    assert await walks(20 * WALKS, False, kind=Alone) is not None
