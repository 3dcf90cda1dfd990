"""Objects: put, head, open and delete, each one draft through the one commit."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from abixio.errors import DataLost, InvalidFaultTolerance, IsDeleteMarker, NoSuchKey, NoSuchVersion, OutcomeUnknown
from abixio.store.bucketstore import Buckets, certain
from abixio.store.commit import SAME, Committer, Draft
from abixio.store.layout import choose
from abixio.store.lookup import Found
from abixio.store.reader import StoredReader, open_reader
from abixio.store.record import Hides, Layout, Part, Record, pack, version_id
from abixio.store.resolve import View
from abixio.store.retention import check_unlocked
from abixio.store.sealing import UnsealingReader, revealed, sealed
from abixio.store.types import (
    Bucket,
    Condition,
    Deleted,
    ObjectInfo,
    PutSpec,
    Reader,
    Source,
    Unlock,
    always,
    info_of,
    no_key,
)
from abixio.store.upload import Received, receive
from abixio.store.versions import Which, which

T = TypeVar("T")
Build = Callable[[int, int, Found | None, T | None], Record]
"""(seq, w, current record, what is kept) -> the record to commit; nothing is kept yet when the shards are finished."""

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
    async def head(self, bucket: Bucket, key: str, version: str | None = None) -> ObjectInfo:
        """NoSuchKey, NoSuchVersion, InvalidVersionId, IsDeleteMarker."""
        return info_of((await self._found(bucket, key, version)).record)

    async def open(self, bucket: Bucket, key: str, version: str | None = None, unlock: Unlock = no_key) -> Reader:
        """As `head`, DataLost, and what `unlock` raises."""
        reader = await self.open_stored(bucket, key, version, unlock)
        if not reader.info.record.encryption:
            return reader
        object_key = unlock(reader.info)
        assert object_key is not None
        return UnsealingReader(self._pool, reader, object_key)

    async def open_stored(
        self, bucket: Bucket, key: str, version: str | None = None, unlock: Unlock = lambda info: None
    ) -> StoredReader:
        """An object as it is stored: what is encrypted stays so."""
        found = await self._found(bucket, key, version)
        unlock(info_of(found.record))
        for _ in range(OPEN_TRIES):
            try:
                return await self._opened(found)
            except DataLost:
                again = await self._found(bucket, key, version)
                if again.record == found.record:
                    raise
                found = again
        return await self._opened(found)

    async def _opened(self, found: Found) -> StoredReader:
        """Parts are opened when their turn comes. Another process, which cannot have seen that they are read before it began to
        remove them, has by then taken their rows away; and whoever looks for readers from now on sees this one. DataLost."""
        reader = await open_reader(self._pool, found.record, found.rows)
        record = found.record
        if self._pool.crew is not None and len(record.parts) > 1 and not await self._stands(record):
            await reader.aclose()
            raise DataLost("it was overwritten while it was opened")
        return reader

    async def _stands(self, record: Record) -> bool:
        """Whether so many volumes still have its row that it can be read from them."""
        def enough(view: View) -> bool:
            return any(version.record == record and len(version.present) >= version.k for version in view.versions)

        return enough(await self._committer.view(record.space, record.key, enough))

    async def _found(self, bucket: Bucket, key: str, version: str | None) -> Found:
        self._pool.asked += 1
        of = None if version is None else which(bucket.space, version)
        return existing(await self._committer.current(bucket.space, key.encode(), of=of), key, version)

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
        view = await self._committer.admit(bucket.space, name, layout.k, stamp(bucket)[0] == "none")
        if spec.condition is not always:
            check_against(spec.condition, await self._committer.current(bucket.space, name))
        enough = self._committer.quorum(view, layout.k)
        received = await receive(
            self._pool, layout, 1, source, self._pool.config.etag, spec.real_md5, enough=enough, seal=spec.seal
        )
        known = sealed(spec.seal, received.checksums)

        def build(seq: int, w: int, found: Found | None, kept: Bucket | None) -> Record:
            record = object_record(
                kept or bucket, name, seq, w, spec, received.part, received.etag, layout, known.checksums
            )
            return replace(record, encryption=known.encryption, incompat=known.incompat) if spec.seal is not None else record

        few = stamp(bucket)[0] == "none"
        work = self.finish_and_commit(received, build, spec.condition, self._buckets.kept(bucket), few)
        info = info_of(await self.sheltered(work))
        return info if spec.seal is None else revealed(info, spec.seal.key)

    async def finish_and_commit(
        self, received: Received, build: Build[T], condition: Condition, keeping: AbstractAsyncContextManager[T],
        few: bool = False,
    ) -> Record:
        """Finish the shards, then commit their record, inside `keeping`; when any of it fails, nothing stays behind. `few`: as of
        a Draft."""
        try:
            provisional = build(self._committer.clock.tick(), 0, None, None)
            async with keeping as kept:
                holders = await received.finish(pack(provisional))
                draft = Draft(
                    provisional.space, provisional.key, received.layout.k, lambda seq, w, found: build(seq, w, found, kept),
                    lambda found: check_against(condition, found), holders, received.inline, few=few,
                )
                return await self._committer.commit(draft)
        except OutcomeUnknown:
            raise
        except BaseException:
            await received.discard()
            raise
        finally:
            received.release()

    async def delete(
        self, bucket: Bucket, key: str, condition: Condition = always, version: str | None = None, bypass: bool = False
    ) -> Deleted | None:
        """None when there was nothing to delete; then nothing is written."""
        of = None if version is None else which(certain(bucket).space, version)
        return await self.sheltered(self._delete(certain(bucket), key.encode(), condition, of, bypass))

    async def _delete(self, bucket: Bucket, name: bytes, condition: Condition, of: Which, bypass: bool) -> Deleted | None:
        async with self._buckets.kept(bucket) as kept:
            return await self.delete_kept(kept, name, condition, of, bypass, self._committer.commit)

    async def delete_kept(
        self, bucket: Bucket, name: bytes, condition: Condition, of: Which, bypass: bool,
        commit: Callable[[Draft], Awaitable[Record]],
    ) -> Deleted | None:
        """`delete` for a caller that keeps the bucket, and perhaps holds the key lock, as `commit` says."""
        hides, versioned = stamp(bucket)
        marks = of is None and hides != "older"

        def check(found: Found | None) -> None:
            check_against(condition, found)
            if found is None and not marks:
                raise _Nothing
            if found is not None and not marks:
                check_unlocked(found.record, bypass)

        def build(seq: int, w: int, found: Found | None) -> Record:
            now = time.time_ns() // 1_000_000
            if marks:
                return Record("marker", bucket.space, name, seq, w, hides=hides, versioned=versioned, modified=now)
            if hides == "older":
                return Record("tombstone", bucket.space, name, seq, w, modified=now)
            assert found is not None
            # A null version hid others, which a volume that was away may still have: they stay hidden when it is gone.
            covers: Hides = "one" if found.record.versioned else "null"
            return Record("kill", bucket.space, name, seq, w, hides=covers, hidden=found.record.seq, modified=now)

        gone: list[Record] = []

        def note(found: Found | None) -> None:
            check(found)
            gone[:] = [found.record] if found is not None else []

        try:
            record = await commit(Draft(bucket.space, name, 0, build, note, of=of, few=marks and hides == "none"))
        except _Nothing:
            return None
        shown = record if marks else gone[0]
        return Deleted(version_id(shown), shown.kind == "marker")

    async def amend(self, bucket: Bucket, key: str, version: str | None, edit: Callable[[Record], Record]) -> ObjectInfo:
        """As `StoreAPI.amend`: the next rev of a version, on the volumes that have its shards."""
        name = key.encode()
        of = None if version is None else which(certain(bucket).space, version)

        def check(found: Found | None) -> None:
            edit(existing(found, key, version).record)

        def build(seq: int, w: int, found: Found | None) -> Record:
            old = existing(found, key, version).record
            # Not the last rev plus one: one that was taken back may still stand on a volume that is away.
            return replace(edit(old), seq=old.seq, rev=max(seq - old.seq, old.rev + 1), w=w)

        async def work() -> Record:
            async with self._buckets.kept(bucket):
                seen = existing(await self._committer.current(bucket.space, name, False, of), key, version)
                layout = seen.record.layout
                return await self._committer.commit(
                    Draft(bucket.space, name, layout.k if layout is not None else 0, build, check, SAME, of=of)
                )

        return info_of(await self.sheltered(work()))

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


def object_record(
    bucket: Bucket, key: bytes, seq: int, w: int, spec: PutSpec, part: Part, etag: str, layout: Layout,
    checksums: Mapping[str, str],
) -> Record:
    """Of a plain object, stored now."""
    hides, versioned = stamp(bucket)
    return Record(
        "object", bucket.space, key, seq, w, hides=hides, versioned=versioned, modified=time.time_ns() // 1_000_000,
        owner=spec.owner, size=part.size, etag=etag, layout=layout, parts=(part,), headers=dict(spec.headers),
        meta=dict(spec.meta), checksums=dict(checksums), checksum_type=spec.checksum_type, tags=dict(spec.tags),
        lock=dict(spec.lock),
    )


def check_against(condition: Condition, found: Found | None) -> None:
    """Ask a caller's condition about what the commit found; a delete marker is no object."""
    condition(None if found is None or found.record.kind == "marker" else info_of(found.record))


def existing(found: Found | None, key: str, version: str | None) -> Found:
    """NoSuchKey, NoSuchVersion, IsDeleteMarker."""
    if found is None:
        raise NoSuchKey(key) if version is None else NoSuchVersion(key, version)
    if found.record.kind == "marker":
        raise IsDeleteMarker(key, version_id(found.record), version is not None, found.record.modified)
    return found


def stamp(bucket: Bucket) -> tuple[Hides, bool]:
    """What a new version hides in that bucket, and whether it has an id of its own."""
    match bucket.settings.get("versioning"):
        case "Enabled":
            return "none", True
        case "Suspended":
            return "null", False
    return "older", False
