"""Appending: the record of an object gets one more part, in the one commit. The shards that were there are kept by the new
record, as those of a completed upload are, so an append costs what its own bytes cost, and a row that names all parts.

The bytes are received without a lock, for the object as it was then. Under the key's lock it has to be that object still, of just
the size that the client named; of many who append at one place only one therefore comes through. A small object whose shards live
in the catalog is moved into files first, since a row has room for one shard in there.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import replace as changed
from typing import Final

from msgspec.structs import replace

from abixio.config import MAX_PARTS
from abixio.errors import CannotAppend, ConditionalConflict, InvalidWriteOffset, OutcomeUnknown, TooManyParts
from abixio.store.bucketstore import Buckets, certain
from abixio.store.clock import write_id
from abixio.store.commit import Committer, Draft
from abixio.store.composite import COMBINABLE, whole
from abixio.store.lookup import Found
from abixio.store.multipart import upload_name
from abixio.store.objects import Objects, check_against, stamp
from abixio.store.reader import open_reader
from abixio.store.record import Layout, Part, Record, pack, unpaired
from abixio.store.stored import Stored
from abixio.store.types import Bucket, Condition, ObjectInfo, PutSpec, Source, info_of
from abixio.store.upload import Received, receive

WHOLE: Final = 100
"""Up to so many parts the files of each append name all of them, from which the object can be had without any catalog. That is
15 KiB in the last one; beyond it the files of ten thousand appends would take gigabytes to say it again and again."""
_HEX: Final = re.compile("[0-9a-f]{32}")


class Appender:
    """Appends to objects, and begins them."""

    def __init__(self, committer: Committer, buckets: Buckets, objects: Objects) -> None:
        self._committer = committer
        self._buckets = buckets
        self._objects = objects
        self._pool = committer.pool

    async def append(self, bucket: Bucket, key: str, spec: PutSpec, offset: int, source: Source) -> ObjectInfo:
        """As `StoreAPI.append`."""
        _check_bucket(certain(bucket))
        if spec.seal is not None:
            raise CannotAppend("what is to be encrypted")
        base = await self._committer.current(bucket.space, key.encode())
        if base is None and offset == 0:
            return await self._objects.put(bucket, key, changed(spec, condition=_absent(spec.condition)), source)
        check_against(spec.condition, base)
        if base is not None and base.record.encryption:
            raise CannotAppend("an encrypted object")
        if base is None or base.record.size != offset:
            raise InvalidWriteOffset(str(offset))
        return info_of(await self._append(bucket, key, spec, base, source))

    async def _append(self, bucket: Bucket, key: str, spec: PutSpec, base: Found, source: Source) -> Record:
        old = base.record
        layout = old.layout
        assert layout is not None
        parts = parts_of(old)
        if len(parts) >= MAX_PARTS:
            raise TooManyParts
        view = await self._committer.admit(old.space, old.key, layout.k)
        enough = self._committer.quorum(view, layout.k)
        received: list[Received] = []
        try:
            moves = any(row.inline is not None for row in base.rows.values())
            if moves and parts:
                received.append(await self._move(base, layout, enough))
            number = parts[-1].number + 1 if parts else 1
            mode = self._pool.config.etag
            received.append(await receive(self._pool, layout, number, source, mode, spec.real_md5, False, enough))
        except BaseException:
            await _discard(received)
            raise
        kept = base.rows if parts and not moves else ()
        return await self._objects.sheltered(self._commit(bucket, key, spec, base, received, kept))

    async def _move(self, base: Found, layout: Layout, enough: int) -> Received:
        """The whole of a small object, as shard files. It is read, and so verified, here."""
        reader = await open_reader(self._pool, base.record, base.rows)
        source = Stored(reader, 0, base.record.size)
        try:
            await source.begin()
            return await receive(self._pool, layout, base.record.parts[0].number, source, "xxh64", False, False, enough)
        finally:
            await source.aclose()
            await reader.aclose()

    async def _commit(
        self, bucket: Bucket, key: str, spec: PutSpec, base: Found, received: Sequence[Received], kept: Collection[int]
    ) -> Record:
        """`kept`: the slots with the shards that the new record keeps, when it keeps any; they are asked again under the lock."""
        old = base.record
        upload = old.upload or write_id()
        parts = _joined(old, received)
        holders = set(range(self._pool.n))

        def check(found: Found | None) -> None:
            check_against(spec.condition, found)
            if found is None or found.record.size != old.size:
                raise InvalidWriteOffset(str(old.size))
            if found.record.write_ids != old.write_ids:
                raise ConditionalConflict
            if kept:
                holders.intersection_update(found.rows)

        def build(seq: int, w: int, found: Found | None) -> Record:
            assert found is not None
            return _appended(found.record, parts, seq, w, upload)

        try:
            async with self._buckets.kept(bucket) as now:
                _check_bucket(now)
                owner = b"".join(upload_name(bucket, key, upload.hex()))
                for own, part in zip(received, parts[-len(received):], strict=True):
                    holders &= await own.finish(pack(self._footer(old, part, parts, upload, owner)))
                return await self._committer.commit(Draft(old.space, old.key, received[0].layout.k, build, check, holders))
        except OutcomeUnknown:
            raise
        except BaseException:
            for own in received:
                await own.discard()
            raise
        finally:
            for own in received:
                own.release()

    def _footer(self, old: Record, part: Part, parts: tuple[Part, ...], upload: bytes, owner: bytes) -> Record:
        """What a shard file says of itself: the whole object as it became, or, of one of many parts, what a part says."""
        if len(parts) <= WHOLE:
            return _appended(old, parts, self._committer.clock.tick(), 0, upload)
        return Record(
            "part", upload, part.number.to_bytes(4, "big"), self._committer.clock.tick(), 0, modified=_now(), owner=old.owner,
            size=part.size, etag=part.etag, layout=old.layout, parts=(part,), checksums=part.checksums, upload=owner,
        )


def parts_of(record: Record) -> tuple[Part, ...]:
    """The parts that an append keeps, each with an ETag and checksums of its own."""
    if not record.size:
        return ()
    if record.upload:
        return record.parts
    (part,) = record.parts
    return (replace(part, etag=record.etag, checksums=record.checksums),)


def _joined(old: Record, received: Sequence[Received]) -> tuple[Part, ...]:
    """All parts of the new record."""
    parts, new = parts_of(old), received[-1]
    if len(received) > 1:
        parts = (replace(parts[0], write_id=received[0].part.write_id),)
    return (*parts, replace(new.part, etag=new.etag, checksums=new.checksums))


def _appended(old: Record, parts: tuple[Part, ...], seq: int, w: int, upload: bytes) -> Record:
    """The record of the longer object; all that is not about its bytes stays."""
    sums = _sums(parts)
    return replace(
        unpaired(old), seq=seq, w=w, rev=0, modified=_now(), size=sum(part.size for part in parts), etag=etag_of(parts),
        parts=parts, checksums=sums, checksum_type="FULL_OBJECT" if sums else "", upload=upload,
    )


def etag_of(parts: Sequence[Part]) -> str:
    """As that of a multipart upload: never the MD5 of the bytes."""
    digests = b"".join(bytes.fromhex(part.etag[:32]) if _HEX.match(part.etag) else part.etag.encode() for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _sums(parts: Sequence[Part]) -> dict[str, str]:
    """The checksum of the whole, of the first kind that can be combined and that all parts have."""
    for name in COMBINABLE:
        if all(name in part.checksums for part in parts):
            return {name: whole(name, [part.checksums[name] for part in parts], [part.size for part in parts])}
    return {}


def _check_bucket(bucket: Bucket) -> None:
    """Versions are never changed, and appending is changing."""
    if stamp(bucket)[0] != "older":
        raise CannotAppend("a bucket with versions")


def _absent(condition: Condition) -> Condition:
    """The condition of who begins an object."""

    def hold(current: ObjectInfo | None) -> None:
        condition(current)
        if current is not None:
            raise InvalidWriteOffset("0") if current.size else ConditionalConflict

    return hold


async def _discard(received: Sequence[Received]) -> None:
    for own in received:
        await own.discard()
        own.release()


def _now() -> int:
    return time.time_ns() // 1_000_000
