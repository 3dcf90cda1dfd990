"""The scanner: walks every version of every key on all volumes, for ever, on a budget. What it finds goes to the healer.

It sees what nobody else looks at: shards that nobody reads, rows that a rotten page of one catalog hides (the volumes are
compared key range by key range), parts whose upload has ended, and, last in each pass, files that no row names. Where it is
and what it found so far is remembered on the volumes, so it goes on there after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Final

import msgspec

from abixio.errors import AbixioError, Overloaded, Unavailable, VolumeError
from abixio.store.background import Background
from abixio.store.budget import Budget, Manners
from abixio.store.commit import Committer
from abixio.store.errand import errand
from abixio.store.examine import examine
from abixio.store.heal import Healer
from abixio.store.health import Healed, ScanStatus
from abixio.store.lane import Lane
from abixio.store.orphans import DIRECTORIES, Orphans
from abixio.store.ranges import Key, Range, read_range
from abixio.store.verify import Item, Load, differing, ended_uploads, loads, verify

_log = logging.getLogger(__name__)

INTERVAL: Final = 7 * 86_400.0
"""Seconds from the beginning of one pass to that of the next: a shard that rots is found within two weeks, in which one needs
all the others of its fault tolerance. Disks are commonly scrubbed weekly to monthly."""
SHARE: Final = 0.1
"""Of one core, at most: reading a shard at the usual rate takes a hundredth, so only millions of small objects meet it."""
DELAY: Final = 60.0
"""Seconds after the start until it goes on: volumes come back and journals are worked off in that time."""
PAGE: Final = 200
"""Rows per volume and range: what a restart scans again."""
SAVE: Final = 30.0
"""Seconds between notes of where it is; each is a small write on every volume."""
SAVE_WAIT: Final = 2.0
"""Seconds for that; it is no loss when it fails, and the end of the server waits for it."""
WAIT: Final = 10.0
"""Seconds until it looks again when no volume answers."""
SAID: Final = 20
"""Keys that are named in the log per pass."""
SPEED: Final = 2e9
"""Bytes per second and core at which shards are verified, for those whose processor time is not measured."""
_NAME: Final = "scan"


Bad = tuple[Item, int]
"""A shard and the slot where it is not as it should be."""


class Scan(msgspec.Struct, omit_defaults=True):
    """A pass, as it is remembered."""

    started: int = 0
    finished: int = 0
    """ms since 1970; of the last pass that came to its end."""
    saved: int = 0
    space: str = ""
    key: str = ""
    """In hex: the last key that is done; both empty: none."""
    directory: int = -1
    """The last directory of shard files that is done; they follow the keys."""
    objects: int = 0
    bytes: int = 0
    bad: int = 0
    repaired: int = 0
    orphans: int = 0

    @property
    def running(self) -> bool:
        return self.started > self.finished

    @property
    def after(self) -> Key | None:
        return (bytes.fromhex(self.space), bytes.fromhex(self.key)) if self.space else None


class Scanner(Background):
    """One pass after the other."""

    def __init__(self, committer: Committer, healer: Healer, rate: int) -> None:
        """`rate`: bytes per second and volume; 0: it only scans when it is told to."""
        self._committer = committer
        self._healer = healer
        self._pool = committer.pool
        self._rate = rate
        self._orphans = Orphans(self._pool)
        self._manners = Manners(self._pool)
        self._scan = Scan()
        self._budget: Budget | None = None
        self._said = 0
        self._on_demand = asyncio.Lock()

    def start(self) -> None:
        """Scan until `stop`."""
        if self._rate:
            super().start()

    async def stop(self) -> None:
        """End, and remember where that was."""
        if self._task is not None:
            await super().stop()
            await self._save()

    def status(self) -> ScanStatus:
        scan = self._scan
        position = "" if not scan.running else f"files {scan.directory:02x}" if scan.directory >= 0 else _readable(scan)
        return ScanStatus(
            scan.running, position, scan.objects, scan.bytes, scan.bad, scan.repaired, scan.orphans, self._rate, scan.started,
            scan.finished,
        )

    async def scan_now(self) -> ScanStatus:
        """A whole pass at once, on all of the machine that clients leave; what it found."""
        async with self._on_demand:
            background = self._task is not None
            if background:
                await self.stop()
            else:
                await self._load()
            try:
                self._begin()
                await self._pass(None)
                return self.status()
            finally:
                if background:
                    self.start()

    async def _work(self) -> None:
        await self._load()
        if any(not lane.volume.orderly for lane in self._pool.up()):
            await self._after_a_crash()
        await asyncio.sleep(DELAY)
        while True:
            if not self._scan.running:
                await asyncio.sleep(max(0.0, self._scan.started / 1000 + INTERVAL - time.time()))
                self._begin()
            try:
                await self._pass(Budget(self._pool.loop, self._rate * max(len(self._pool.up()), 1), SHARE))
            except AbixioError as error:
                _log.warning("the scan goes on later: %s", error)
                await asyncio.sleep(WAIT)

    async def _after_a_crash(self) -> None:
        """What a process that was killed left behind goes soon; all of it is older than this one."""
        for directory in range(DIRECTORIES):
            async with self._manners.turn():
                self._scan.orphans += await self._orphans.sweep(directory)

    # ---- one pass ----------------------------------------------------------------------------------------------------
    def _begin(self) -> None:
        self._scan = Scan(started=max(_now(), self._scan.finished + 1), finished=self._scan.finished)
        self._said = 0

    async def _pass(self, budget: Budget | None) -> None:
        """What is left of the pass, from where it is."""
        scan, self._budget = self._scan, budget
        while scan.directory < 0:
            found = await read_range(self._pool, scan.after, PAGE)
            if not found.slots:
                raise Unavailable("no volume answers")
            await self._keys(found)
            if found.end is None:
                scan.directory = 0
                break
            scan.space, scan.key = found.end[0].hex(), found.end[1].hex()
            await self._save_now_and_then()
        while scan.directory < DIRECTORIES:
            start = self._pool.loop.time()
            scan.orphans += await self._orphans.sweep(scan.directory, at_once=budget is None)
            await self._pay(0, self._pool.loop.time() - start)
            scan.directory += 1
            await self._save_now_and_then()
        scan.finished = max(_now(), scan.started)
        await self._save()
        _log.info(
            "scan: %d keys and %.1f MiB of shards were looked at, %d were not as they should be, %d of these were repaired; "
            "%d files removed that nothing named", scan.objects, scan.bytes / (1 << 20), scan.bad, scan.repaired, scan.orphans,
        )

    async def _keys(self, found: Range) -> None:
        suspects: dict[Key, list[Bad]] = {key: [] for key in differing(found, self._pool.filling)}
        for key in await ended_uploads(found, self._committer):
            suspects.setdefault(key, [])
        lanes = [lane for lane in self._pool.up() if lane.slot in found.slots]
        results = await asyncio.gather(*(self._verify(lane, found) for lane in lanes))
        for item, slot in (bad for result in results for bad in result):
            suspects.setdefault(item.key, []).append((item, slot))
        for key, bad in suspects.items():
            await self._heal(key, bad)
        self._scan.objects += len(found.keys)

    async def _verify(self, lane: Lane, found: Range) -> list[Bad]:
        """The bad shards of that volume in a range of keys."""
        bad: list[Bad] = []
        for load in loads(found, lane.slot):
            try:
                items = await (self._big(lane, load.items[0]) if load.big else self._small(lane, load))
            except Unavailable as error:
                _log.info("scan: %s", error)
                break
            bad += [(item, lane.slot) for item in items]
            self._scan.bytes += load.size
        return bad

    async def _small(self, lane: Lane, load: Load) -> list[Item]:
        async with self._manners.turn():
            bad, seconds = await errand(self._pool, lane, partial(verify, lane, load))
        await self._pay(load.size, seconds)
        return bad

    async def _big(self, lane: Lane, item: Item) -> list[Item]:
        """A shard that is read in steps."""
        index = item.copies.layout.slots.index(lane.slot)
        health = await examine(self._pool, item.copies, item.part, index, self._throttle)
        return [item] if health.state in ("missing", "corrupt") else []

    async def _throttle(self, size: int) -> None:
        if self._budget is not None:
            await self._budget.spend(size, size / SPEED)

    async def _pay(self, size: int, seconds: float) -> None:
        if self._budget is not None:
            await self._budget.spend(size, seconds)

    async def _heal(self, key: Key, bad: list[Bad]) -> None:
        """Look again under the key's lock, and put right what is wrong."""
        shards = {(item.part.write_id, slot) for item, slot in bad}
        try:
            done = await self._healer.heal_key(*key, self._throttle, shards)
        except Overloaded:
            return  # somebody else repairs it
        except AbixioError as error:
            done = Healed(failed=(str(error),))
        repaired = max(done.rebuilt_shards, done.rows)  # a row that comes back brings its shard
        self._scan.bad += repaired + len(done.failed)
        self._scan.repaired += repaired
        if not (repaired or done.failed):
            return
        self._said += 1
        if self._said <= SAID:
            _log.warning("scan: key %r: %s", key[1], "; ".join(done.failed) or f"{repaired} rows and shards put right")
        if done.failed:
            for item, slot in bad:
                self._pool.report_bad(item.record, item.part.write_id, slot)

    # ---- where it is -------------------------------------------------------------------------------------------------
    async def _load(self) -> None:
        """The latest that any volume remembers."""
        for lane in self._pool.up():
            try:
                text = await errand(self._pool, lane, partial(lane.volume.remembered, _NAME))
                scan = msgspec.json.decode(text or "{}", type=Scan)
            except (Unavailable, msgspec.MsgspecError) as error:
                _log.info("volume %d does not remember where the scan was: %s", lane.slot, error)
                continue
            if scan.saved > self._scan.saved:
                self._scan = scan

    async def _save_now_and_then(self) -> None:
        if _now() - self._scan.saved > SAVE * 1000:
            await self._save()

    async def _save(self) -> None:
        if not self._scan.started:
            return
        self._scan.saved = _now()
        text = msgspec.json.encode(self._scan).decode()
        asked: dict[asyncio.Future[None], Lane] = {}
        for lane in self._pool.up():
            try:
                asked[lane.run(partial(lane.volume.remember, _NAME, text))] = lane
            except (VolumeError, Overloaded) as error:
                self._pool.lost(lane, error)
        if asked:
            await asyncio.wait(asked, timeout=SAVE_WAIT)
        for future, lane in asked.items():
            refusal = future.exception() if future.done() else None
            if isinstance(refusal, VolumeError):
                self._pool.lost(lane, refusal)
            future.add_done_callback(lambda late: late.cancelled() or late.exception())


def _now() -> int:
    return time.time_ns() // 1_000_000


def _readable(scan: Scan) -> str:
    """For people."""
    return f"{scan.space} {bytes.fromhex(scan.key).decode(errors='replace')!r}" if scan.space else "the beginning"
