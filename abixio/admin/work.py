"""What the jobs do: goes over the keys that a job names, a few at a time, and heals or re-encodes each.

A key that fails is noted and left; the others go on. Keys written meanwhile are met or not, as in any listing; one that was
deleted meanwhile needs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, Protocol

from abixio.admin.answers import reason
from abixio.admin.asks import FttAsk, HealAsk
from abixio.admin.jobs import Job, Work
from abixio.errors import AbixioError, NoSuchBucket, NoSuchKey
from abixio.store.api import RepairAPI, StoreAPI
from abixio.store.health import ScanStatus
from abixio.store.types import Bucket, ObjectInfo

_log = logging.getLogger(__name__)

AT_ONCE: Final = 4
"""Keys in work: small ones are mostly waiting for syncs, and large ones use all volumes each."""
LOOK: Final = 2.0
"""Seconds between looks at the scanner; one look costs milliseconds, and it sees that the job shall stop."""
PAGE: Final = 1000
"""Keys of one look at a listing, as S3."""


class Repairable(StoreAPI, RepairAPI, Protocol):
    """All that the admin surface asks of a store."""

    async def scan_now(self) -> ScanStatus:
        """A whole pass of the scanner at once; what it found and repaired."""
        ...


Act = Callable[[Bucket, str], Awaitable[None]]


def heal(store: Repairable, ask: HealAsk, bucket: Bucket | None) -> Work:
    """The work of a heal job; `bucket` is the one that it names."""

    async def work(job: Job) -> None:
        async def one(bucket: Bucket, key: str) -> None:
            healed = await store.heal(bucket, key)
            counts = job.counts
            counts.examined_shards += healed.examined_shards
            counts.rebuilt_shards += healed.rebuilt_shards
            counts.bytes += healed.rebuilt_bytes
            counts.changed += bool(healed.rebuilt_shards or healed.rows)
            if healed.failed:
                job.fail(bucket.name, key, "; ".join(healed.failed))

        if bucket is not None and ask.key is not None:
            await _each(job, bucket, [ask.key], one)
            return
        for found in [bucket] if bucket is not None else await store.buckets():
            async for page in _pages(job, store, found, ask.prefix or ""):
                await _each(job, found, [info.key for info in page], one)

    return work


def reencode(store: Repairable, ask: FttAsk, bucket: Bucket) -> Work:
    """The work of an ftt job."""

    async def work(job: Job) -> None:
        async def one(bucket: Bucket, key: str) -> None:
            info = await store.head(bucket, key)
            layout = info.record.layout
            if layout is not None and layout.m == int(ask.ftt):
                return
            await store.reencode(bucket, key, str(ask.ftt))
            job.counts.changed += 1
            job.counts.bytes += info.size

        if ask.key is not None:
            await _each(job, bucket, [ask.key], one)
            return
        async for page in _pages(job, store, bucket, ask.prefix or ""):
            await _each(job, bucket, [info.key for info in page], one)

    return work


def scan(store: Repairable) -> Work:
    """The work of a scan job."""

    async def work(job: Job) -> None:
        scanning = asyncio.ensure_future(store.scan_now())
        try:
            while not job.stopping:
                done, _ = await asyncio.wait([scanning], timeout=LOOK)
                _take(job, scanning.result() if done else (await store.repair_status()).scan)
                if done:
                    return
        finally:
            if scanning.cancel():
                await asyncio.wait([scanning])

    return work


def _take(job: Job, found: ScanStatus | None) -> None:
    """How far the scanner is, in the words of a job."""
    if found is not None:
        job.scan, counts = found, job.counts
        counts.objects, counts.changed, counts.failed = found.objects, found.repaired, found.bad - found.repaired


# ---- over keys -------------------------------------------------------------------------------------------------------
async def _pages(job: Job, store: Repairable, bucket: Bucket, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
    """All objects with the prefix, until the job is told to stop. A bucket that goes meanwhile has no more of them."""
    after: str | None = ""
    while after is not None and not job.stopping:
        try:
            page = await store.list(bucket, prefix, "", after, PAGE)
        except NoSuchBucket:
            return
        yield page.items
        after = page.next


async def _each(job: Job, bucket: Bucket, keys: list[str], act: Act) -> None:
    """`act` on each key, AT_ONCE at a time, until the job is told to stop."""
    rest = iter(keys)
    await asyncio.gather(*(_some(job, bucket, rest, act) for _ in range(min(AT_ONCE, len(keys)))))


async def _some(job: Job, bucket: Bucket, rest: Iterator[str], act: Act) -> None:
    """Take keys until there are none; others take from the same ones."""
    for key in rest:
        if job.stopping:
            return
        alone = job.target.get("key") is not None
        try:
            await act(bucket, key)
        except NoSuchKey as error:
            if alone:
                job.fail(bucket.name, key, reason(error))
        except AbixioError as error:
            job.fail(bucket.name, key, reason(error))
        except Exception as error:
            _log.exception("job %s: %r in %s", job.id, key, bucket.name)
            job.fail(bucket.name, key, reason(error))
        finally:
            job.counts.objects += 1
