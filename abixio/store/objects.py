"""Objects: put, head, open and delete, each one draft through the one commit."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from abixio.errors import DataLost, InvalidFaultTolerance, NoSuchKey, OutcomeUnknown
from abixio.store.bucketstore import Buckets, certain
from abixio.store.commit import Committer, Draft, Found
from abixio.store.layout import choose
from abixio.store.reader import open_reader
from abixio.store.record import Layout, Record, pack
from abixio.store.types import Bucket, Condition, ObjectInfo, PutSpec, Reader, Source, always, info_of
from abixio.store.upload import Received, receive

T = TypeVar("T")
Build = Callable[[int, int, Found | None], Record]
"""(seq, w, current record) -> the record to commit."""

OPEN_TRIES: Final = 3
"""Opening can meet a version that is purged at that moment; each try sees a newer one."""


class _Nothing(Exception):
    """There is nothing to delete."""


class Objects:
    """What the store does with single objects."""

    def __init__(self, committer: Committer, buckets: Buckets) -> None:
        self._committer = committer
        self._buckets = buckets
        self._pool = committer.pool
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- reading -----------------------------------------------------------------------------------------------------
    async def head(self, bucket: Bucket, key: str) -> ObjectInfo:
        """NoSuchKey."""
        return info_of((await self._found(bucket, key)).record)

    async def open(self, bucket: Bucket, key: str) -> Reader:
        """NoSuchKey, DataLost."""
        found = await self._found(bucket, key)
        for _ in range(OPEN_TRIES):
            try:
                return await open_reader(self._pool, found.record, found.rows)
            except DataLost:
                again = await self._found(bucket, key)
                if again.record == found.record:
                    raise
                found = again
        return await open_reader(self._pool, found.record, found.rows)

    async def _found(self, bucket: Bucket, key: str) -> Found:
        self._pool.asked += 1
        found = await self._committer.current(bucket.space, key.encode())
        if found is None:
            raise NoSuchKey(key)
        return found

    # ---- writing -----------------------------------------------------------------------------------------------------
    def layout(self, bucket: Bucket, ftt: str | None, key: bytes) -> Layout:
        """The layout of a new object. InvalidFaultTolerance."""
        if ftt is None:
            ftt = bucket.settings.get("ftt")
        if ftt is None:
            default = self._pool.config.ftt
            value = min(1, self._pool.n - 1) if default is None else default
        elif re.fullmatch(r"[0-9]{1,3}", ftt):
            value = int(ftt)
        else:
            raise InvalidFaultTolerance(f"fault tolerance {ftt!r} is not an integer")
        return choose(self._pool.n, value, bucket.space, key)

    async def put(self, bucket: Bucket, key: str, spec: PutSpec, source: Source) -> ObjectInfo:
        """Store an object. Refusals that need no body come before the first read of `source`."""
        name = key.encode()
        layout = self.layout(certain(bucket), spec.ftt, name)
        view = await self._committer.admit(bucket.space, name, layout.k)
        if spec.condition is not always:
            check_against(spec.condition, await self._committer.current(bucket.space, name))
        enough = self._committer.quorum(view, layout.k)
        received = await receive(self._pool, layout, 1, source, self._pool.config.etag, spec.real_md5, enough=enough)

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record(
                "object", bucket.space, name, seq, w, modified=time.time_ns() // 1_000_000, owner=spec.owner,
                size=received.part.size, etag=received.etag, layout=layout, parts=(received.part,), headers=dict(spec.headers),
                meta=dict(spec.meta), checksums=received.checksums, checksum_type=spec.checksum_type,
            )

        work = self.finish_and_commit(received, build, spec.condition, self._buckets.kept(bucket))
        return info_of(await self.sheltered(work))

    async def finish_and_commit(
        self, received: Received, build: Build, condition: Condition, keeping: AbstractAsyncContextManager[object]
    ) -> Record:
        """Finish the shards, then commit their record, inside `keeping`; when any of it fails, nothing stays behind."""
        try:
            provisional = build(self._committer.clock.tick(), 0, None)
            async with keeping:
                holders = await received.finish(pack(provisional))
                draft = Draft(
                    provisional.space, provisional.key, received.layout.k, build,
                    lambda found: check_against(condition, found), holders, received.inline,
                )
                return await self._committer.commit(draft)
        except OutcomeUnknown:
            raise
        except BaseException:
            await received.discard()
            raise
        finally:
            received.release()

    async def delete(self, bucket: Bucket, key: str, condition: Condition = always) -> bool:
        """True when there was an object. Deleting nothing writes nothing."""
        name = key.encode()
        certain(bucket)

        def check(found: Found | None) -> None:
            check_against(condition, found)
            if found is None:
                raise _Nothing

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record("tombstone", bucket.space, name, seq, w, modified=time.time_ns() // 1_000_000)

        try:
            await self.sheltered(self._committer.commit(Draft(bucket.space, name, 0, build, check)))
        except _Nothing:
            return False
        return True

    # ---- tasks -------------------------------------------------------------------------------------------------------
    async def sheltered(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a commit to its end also when the client that asked for it goes away."""
        self._pool.asked += 1
        task = self._pool.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def drain(self) -> None:
        """Wait for the commits under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def check_against(condition: Condition, found: Found | None) -> None:
    """Ask a caller's condition about what the commit found."""
    condition(None if found is None else info_of(found.record))
