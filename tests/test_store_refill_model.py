"""The random walk over the commit rules, with disks that are replaced or go back in time, and refills that end that state."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from abixio.config import MIB, Config
from abixio.errors import AbixioError, OutcomeUnknown
from abixio.store import refill
from abixio.store.buffers import BufferPool
from abixio.store.opening import mark_regressed
from abixio.store.pool import Pool
from abixio.store.reconcile import Reconciler
from abixio.store.store import Store
from abixio.store.types import PutSpec
from abixio.volume.interface import Note, Volume
from tests.store_memvolume import MemVolume
from tests.test_store_model import EVENTS, Blank, Faulty, Fuse, Text, Violation, Walk

WALKS = int(os.environ.get("ABIXIO_TEST_WALKS", "30"))


class RefillWalk(Walk):
    """Which volumes are filling is what their notes say, as for a server."""

    bad_luck = 0.03
    """How often `misfortune` strikes, beside other events."""
    old: tuple[int, MemVolume] | None = None
    """A snapshot of one disk."""

    @property
    def filling(self) -> set[int]:
        return {slot for slot, disk in enumerate(self.disks) if disk.notes().get("filling")}

    @filling.setter
    def filling(self, value: set[int]) -> None:
        """The walk without refill keeps it itself."""

    async def boot(self) -> None:
        self.fuse = Fuse()
        self.volumes = [Faulty(disk, self.fuse, self.rng) for disk in self.disks]
        pool = Pool(
            dict(enumerate(self.volumes)), self.n, self.filling, Config(durability="fsync"), self.executor,  # type: ignore[arg-type]
            BufferPool(64 * MIB), asyncio.get_running_loop(),
        )
        await mark_regressed(pool)
        self.store = Store(pool, max(disk.notes().get("seq", 0) for disk in self.disks))

    # ---- events ------------------------------------------------------------------------------------------------------
    async def wipe(self) -> None:
        slot = self.rng.randrange(self.n)
        if self.n == 1 or self.filling or self.volumes[slot].away:
            return
        await self.replace(slot)

    async def replace(self, slot: int) -> None:
        self.log.append(f"blank disk in place of {slot}")
        self.disks[slot] = self.blank(slot)
        if self.old is not None and self.old[0] == slot:
            self.old = None  # it would be refused: the slot belongs to another volume now
        self.disks[slot].apply([[Note("filling", 1)]], True)
        await self.crash()

    async def misfortune(self) -> None:
        """A write that one volume misses and another one loses before anybody could make up for it; then those that have it go
        too. What is left must not pass for all there is: by chance alone the walk hardly ever comes here."""
        if self.n < 4 or self.filling or any(volume.away for volume in self.volumes):
            return
        missed, lost, *others = self.rng.sample(range(self.n), self.n)
        self.log.append(f"misfortune: {missed} misses a write, {lost} loses it")
        self.set_away(missed, True)
        await self.write_plainly()
        if self.rng.random() < 0.7:
            await self.store.settler.cycle()
        await self.replace(lost)
        await self.look()
        await self.refill(False)
        self.set_away(missed, False)
        for slot in others:
            self.set_away(slot, True)
        await self.look()
        for slot in others:
            self.set_away(slot, False)

    async def write_plainly(self) -> None:
        """An object that no volume objects to."""
        self.next += 1
        number, ftt = self.next, self.rng.choice(self.tolerances)
        self.value[number] = True
        try:
            await self.store.put(self.bucket, "k", PutSpec("me", ftt=str(ftt)), Text(str(number)))
            self.acked, self.unsure = number, []
        except OutcomeUnknown:
            self.unsure.append(number)
        except AbixioError:
            self.not_stored.add(number)
        self.log.append(f"write {number} object ftt {ftt}: {'acknowledged' if self.acked == number else 'not'}")

    def snapshot(self) -> None:
        slot = self.rng.randrange(self.n)
        self.log.append(f"snapshot of {slot}")
        disk = self.disks[slot]
        assert isinstance(disk, MemVolume)
        self.old = slot, twin(disk)

    async def restore(self) -> None:
        """Never the younger one: what no barrier has told the others yet is beyond the promise."""
        if self.old is None or self.n == 1 or self.filling - {self.old[0]} or any(volume.away for volume in self.volumes):
            return
        slot, disk = self.old
        self.old = None
        await self.store.settler.barrier()
        self.log.append(f"snapshot restored on {slot}")
        self.disks[slot] = disk
        await self.crash()

    async def refill(self, cut: bool) -> None:
        slots = sorted(self.store.pool.filling)
        if not slots:
            return
        if cut:
            self.fuse.left = self.rng.choice((1, 2, 3, 5))
        slot = self.rng.choice(slots)
        whole = await self.store.refill.run_once(slot)
        self.log.append(f"refill of {slot}: {'whole' if whole else 'not yet'}")
        if self.fuse.blown:
            await self.crash()
        self.fuse.left = 10**9

    # ---- the walk ----------------------------------------------------------------------------------------------------
    async def run(self, wipes: bool) -> None:
        await self.boot()
        self.bucket = await self.store.create_bucket("bucket", "me", {})
        await self.store.settler.cycle()
        moves: list[tuple[float, Callable[[], object]]] = [
            (0.35, self.write), (0.09, self.toggle), (0.06, self.crash), (0.05, self.wipe),
            (0.04, self.snapshot), (0.05, self.restore), (self.bad_luck, self.misfortune),
            (0.14, lambda: self.refill(self.rng.random() < 0.3)), (0.22, lambda: self.background(self.rng.random() < 0.4)),
        ]
        for _ in range(EVENTS):
            (move,) = self.rng.choices([move for _, move in moves], [weight for weight, _ in moves])
            done = move()
            if asyncio.iscoroutine(done):
                await done
            await self.look()
        await self.rest()
        await self.halt()

    async def rest(self) -> None:
        """All volumes come back: the key must come to rest and every volume be whole, unless too much is lost to decide it."""
        await self.crash()
        for slot in range(self.n):
            self.set_away(slot, False)
        self.log.append("all up")
        for _ in range(8):
            self.store.journal._later.clear()
            await self.store.journal.run_once()
            await self.store.settler.cycle()
            await self.store.settler.cycle()
            for slot in sorted(self.store.pool.filling):
                await self.store.refill.run_once(slot)
        try:
            current = await self.store.committer.current(self.bucket.space, b"k", False)
        except AbixioError as error:
            self.log.append(f"undecided: {error!r}")
            return
        await self.look()
        if self.store.pool.filling or self.filling:
            raise Violation(f"decided, but volumes are filling: {self.store.pool.filling}, {self.filling}")
        if "DataLost" in self.log[-1]:
            return  # acknowledged on W volumes, of which one was lost before the others had it
        left = [len(disk.unsettled(None, 100)) for disk in self.disks]
        if any(left):
            raise Violation(f"not at rest: {left} rows unsettled")
        rows = {len(disk.rows(self.bucket.space, b"k")) for disk in self.disks}
        if rows != {1 if current is not None else 0}:
            raise Violation(f"rows left over: {rows}")


class UnluckyWalk(RefillWalk):
    """One in which two volumes that know of nothing can outvote two that do, and too few shards are left to tell them."""

    sizes = (4,)
    bad_luck = 0.3

    def __init__(self, seed: int, executor: ThreadPoolExecutor, root: Path, blank: Blank) -> None:
        super().__init__(seed, executor, root, blank)
        self.tolerances = [1]


def twin(disk: MemVolume) -> MemVolume:
    """Another disk with the same on it."""
    copied = MemVolume(disk.slot)
    copied._tables, copied.shards = disk._tables.clone(), copy.deepcopy(disk.shards)
    return copied


def memory(root: Path, slot: int) -> Volume:
    return MemVolume(slot)


async def walks(count: int, kind: type[RefillWalk] = RefillWalk) -> RefillWalk | None:
    """The first walk that meets a violation, with its log."""
    with ThreadPoolExecutor(2) as executor, TemporaryDirectory() as root:
        for number in range(count):
            walk = kind(number, executor, Path(root), memory)
            try:
                await walk.run(True)
            except Violation as error:
                walk.log.append(f"VIOLATION {error} (walk {number})")
                await walk.halt()
                return walk
    return None


async def test_no_order_of_events_with_replaced_and_restored_disks_breaks_a_promise() -> None:
    walk = await walks(WALKS)
    assert walk is None, "\n".join(walk.log)


async def test_a_volume_that_counts_without_being_compared_breaks_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: refill.Refill, slot: int, progress: object) -> None:
        """Compares with nobody."""

    monkeypatch.setattr(refill.Refill, "_pass", nothing)
    assert await walks(20 * WALKS) is not None


async def test_a_volume_that_counts_while_a_key_is_undecided_breaks_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def anyhow(self: Reconciler, key: object) -> bool:
        return True

    monkeypatch.setattr(Reconciler, "_accounted", anyhow)
    assert await walks(20 * WALKS, UnluckyWalk) is not None
