"""Making whole what a check found. Entries of a catalog that contradict its rows are set right in place; everything else is
done by a store over the volumes, with the machinery that repairs them online: journal, healer, refill. Orphan files go last, and
only while nothing is lost: they may be what is left of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from abixio.config import Config
from abixio.errors import AbixioError, StartupError
from abixio.fsck.findings import Kind, Level, Report
from abixio.fsck.progress import Meter
from abixio.fsck.run import commits_of
from abixio.fsck.volumes import Volumes
from abixio.store.assembly import PoolVolumes, carry_out, survey
from abixio.store.buffers import BufferPool
from abixio.store.orphans import DIRECTORIES, Orphans
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.volume import names
from abixio.volume.catalog_check import Mend, mend
from abixio.volume.files import Files, volume_error

PASSES: Final = 5
"""Of the journal without a key that comes to rest, after which what is left is left to the server."""
AT_ONCE: Final = 4
"""Keys in work: while one waits for its syncs, others read and compute."""
_WHOLE: Final = frozenset((Kind.SHARD, Kind.ROW, Kind.RECORD, Kind.DATA))


def repair(paths: Sequence[str], files: Files, report: Report, meter: Meter, keep_orphans: bool = False) -> list[str]:
    """Repair what was found; what could not be, in words. StartupError when the volumes were used since the check."""
    with Volumes(paths, files) as volumes:
        if commits_of(volumes) != report.commits:
            raise StartupError(f"{paths[0]}: a server used these volumes since they were checked; stop it and check again")
        rotten = {finding.slot for finding in report.findings if finding.kind is Kind.CATALOG}
        sound = [site for slot, site in volumes.sites.items() if slot not in rotten and slot not in volumes.unusable]
        failed = [f"slot {one}: its catalog has to be rebuilt first: --rebuild-catalog {one}" for one in sorted(rotten, key=str)]
        for site in sound:
            if site.catalog is not None:
                site.catalog.close()
            _directories(site.path, files)
            _mend(site.path, files, [cure for finding in report.findings if finding.slot == site.slot for cure in finding.cures])
    if not sound:
        return failed
    # Without the others: what a rotten catalog does not show must not count as missing.
    opened = carry_out(survey([site.path for site in sound], files=files), files)
    return failed + asyncio.run(_online(opened, report, meter, keep_orphans or bool(report.counts[Level.LOST])))


def _mend(path: str, files: Files, cures: list[Mend]) -> None:
    if cures:
        mend(names.catalog(path), files.vfs, cures)


def _directories(path: str, files: Files) -> None:
    """Those that every volume has."""
    try:
        for directory in (names.tmp(path), *names.shard_directories(path)):
            if not files.exists(directory):
                files.mkdir(directory)
                files.fsync_directory(names.parent(directory))
    except OSError as error:
        raise volume_error(error, path) from error


async def _online(volumes: PoolVolumes, report: Report, meter: Meter, keep_orphans: bool) -> list[str]:
    config = Config(durability="fsync", scan_rate=0)
    executor = ThreadPoolExecutor((os.cpu_count() or 1) + len(volumes.by_slot), thread_name_prefix="stripe")
    loop = asyncio.get_running_loop()
    pool = Pool(volumes.by_slot, volumes.n, volumes.filling, config, executor, BufferPool(config.memory_budget), loop)
    store = await Store.start(pool)
    await store.lifecycle.stop()  # whoever mends volumes does not want anything to expire meanwhile
    try:
        work = _Online(store, report, meter)
        await work.settle()
        await work.fill()
        await work.heal()
        await work.settle()
        await work.orphans(keep_orphans)
        return work.failed
    finally:
        await store.aclose()
        executor.shutdown()


class _Online:
    """The steps, over a running store."""

    def __init__(self, store: Store, report: Report, meter: Meter) -> None:
        self._store = store
        self._pool = store.pool
        self._report = report
        self._meter = meter
        self.failed: list[str] = []

    async def settle(self) -> None:
        """Work off the journal, as far as these volumes allow."""
        self._meter.phase("journal", None)
        idle = 0
        while idle < PASSES and await self._unsettled():
            done = await self._store.journal.run_once()
            await self._store.settler.cycle()
            await self._store.settler.cycle()
            idle = 0 if done else idle + 1
            self._meter.step(done)

    async def _unsettled(self) -> bool:
        status = await self._store.repair_status()
        return any(volume.unsettled for volume in status.volumes)

    async def fill(self) -> None:
        """Compare every volume that is filling with its peers: here and now, and not at the pace of a server."""
        await self._store.refill.stop()
        for slot in sorted(self._pool.filling):
            self._meter.phase(f"filling slot {slot}", None)
            if not await self._store.refill.run_once(slot):
                self.failed.append(f"slot {slot} is still being filled: {self._store.refill.why(slot)}")

    async def heal(self) -> None:
        """Every key of which something is missing or rotten."""
        ids = {finding.row[:2] for finding in self._report.findings if finding.row is not None and finding.kind in _WHOLE}
        self._meter.phase("healing", len(ids))
        waiting = iter(sorted(ids))

        async def work() -> None:
            for space, key in waiting:
                await self._heal(space, key)
                self._meter.step(1)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def _heal(self, space: bytes, key: bytes) -> None:
        try:
            healed = await self._store.healer.heal_key(space, key)
        except AbixioError as error:
            self.failed.append(f"key {key!r}: {error}")
        else:
            self.failed += [f"key {key!r}: {text}" for text in healed.failed]

    async def orphans(self, keep: bool) -> None:
        """Remove files that no row names. Nothing is in flight, so none of them is an upload in the making."""
        if not any(finding.kind is Kind.ORPHAN for finding in self._report.findings):
            return
        if keep:
            self.failed.append(
                "files that no row names are kept, for they may be what is left of lost objects; copy what you want of them, the "
                "scanner of a running server removes them"
            )
            return
        self._meter.phase("files that no row names", DIRECTORIES)
        orphans = Orphans(self._pool)
        for directory in range(DIRECTORIES):
            await orphans.sweep(directory, at_once=True)
            self._meter.step(1)
