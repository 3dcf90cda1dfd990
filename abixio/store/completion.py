"""How a multipart upload ends. A completed object names the parts' shards, so nothing is copied; the upload's tombstone then
hides the upload and all its part rows.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from abixio.config import MIN_PART
from abixio.errors import InvalidPart, InvalidPartOrder, NoSuchUpload, PartTooSmall
from abixio.store.bucketstore import Buckets
from abixio.store.commit import Committer, Draft
from abixio.store.composite import composite
from abixio.store.lister import Query
from abixio.store.lookup import Found
from abixio.store.multipart import upload_name, uploads_space
from abixio.store.objects import Objects, check_against, stamp
from abixio.store.pace import Pace, paced
from abixio.store.pages import Pages
from abixio.store.record import Part, Record
from abixio.store.resolve import Fate, View
from abixio.store.types import Bucket, Condition, ObjectInfo, PartRef, always, info_of
from abixio.store.versions import walk

BATCH: Final = 500
"""Parts looked up per hand-over to a thread: some milliseconds."""


class Completion:
    """Completes and aborts uploads."""

    def __init__(self, committer: Committer, buckets: Buckets, objects: Objects, pages: Pages) -> None:
        self._committer = committer
        self._buckets = buckets
        self._objects = objects
        self._pages = pages
        self._pool = committer.pool

    async def _all_parts(self, upload: bytes) -> dict[int, Record]:
        parts: dict[int, Record] = {}
        start = b""
        while True:
            page = await self._pages.get(Query(upload, b"", b"", start, 1000))
            parts |= {int.from_bytes(key, "big"): found.record for key, found in page.found.items()}
            if not page.truncated:
                return parts
            start = page.last + b"\0"

    async def complete(
        self, bucket: Bucket, key: str, upload_id: str, parts: Sequence[PartRef], condition: Condition = always,
        checksums: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Make the object of its parts. Completing twice gives the same answer while the object is the current one."""
        return info_of(await self._objects.sheltered(self._complete(bucket, key, upload_id, parts, condition, checksums or {})))

    async def _complete(
        self, bucket: Bucket, key: str, upload_id: str, parts: Sequence[PartRef], condition: Condition,
        checksums: Mapping[str, str],
    ) -> Record:
        space, name = upload_name(bucket, key, upload_id)
        locks = self._committer.locks
        async with self._buckets.kept(bucket) as kept, locks.exclusive(space, name):
            upload = await self._committer.resolve(await self._committer.view(space, name))
            record = await self._completed(bucket.space, key.encode(), bytes.fromhex(upload_id))
            if record is None:
                if upload is None:
                    raise NoSuchUpload(upload_id)
                chosen = choose_parts(await self._all_parts(bytes.fromhex(upload_id)), parts)
                record = await self._commit_object(kept, key, upload.record, chosen, condition, checksums)
            if upload is not None:
                await self._bury(space, name, bytes.fromhex(upload_id))
            return record

    async def _completed(self, space: bytes, key: bytes, upload: bytes) -> Record | None:
        """The version of the key that the upload became already."""
        await self._committer.current(space, key, reading=False)
        for version, fate in walk(await self._committer.view(space, key)):
            if fate is Fate.COMMITTED and version.record.kind == "object" and version.record.upload == upload:
                return version.record
        return None

    async def _commit_object(
        self, bucket: Bucket, key: str, upload: Record, parts: list[Record], condition: Condition, expected: Mapping[str, str]
    ) -> Record:
        sums = composite(upload, parts, expected)
        etag = hashlib.md5(b"".join(bytes.fromhex(part.etag[:32]) for part in parts), usedforsecurity=False).hexdigest()
        layout = upload.layout
        assert layout is not None
        stored = tuple(named(part) for part in parts)
        holders = await self._holders(parts)
        hides, versioned = stamp(bucket)

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record(
                "object", bucket.space, key.encode(), seq, w, hides=hides, versioned=versioned,
                modified=time.time_ns() // 1_000_000, owner=upload.owner, size=sum(part.size for part in parts),
                etag=f"{etag}-{len(parts)}", layout=layout, parts=stored,
                headers=upload.headers, meta=upload.meta, checksums=sums, checksum_type=upload.checksum_type,
                upload=upload.upload, tags=upload.tags, lock=upload.lock, encryption=upload.encryption, incompat=upload.incompat,
            )

        return await self._committer.commit(
            Draft(bucket.space, key.encode(), layout.k, build, lambda found: check_against(condition, found), holders)
        )

    async def _holders(self, parts: list[Record]) -> set[int]:
        """The slots that have every part. Parts that a volume missed are put there first: a row without its shards is no copy."""
        common = set(range(self._pool.n))
        for start in range(0, len(parts), BATCH):
            batch = parts[start : start + BATCH]
            held = await paced(self._pool, partial(self._held, batch))
            for part, slots in zip(batch, held, strict=True):
                if len(slots) < sum(lane.well for lane in self._pool.up()):
                    slots = await self._spread(part)
                common &= slots
        return common

    def _held(self, parts: list[Record], pace: Pace) -> list[set[int]]:
        return [
            _holders(self._committer.look(part.space, part.key, pace, partial(self._suffices, part)), part) for part in parts
        ]

    def _suffices(self, part: Record, view: View) -> bool:
        """Whether so many volumes are known to have the part as the object needs."""
        assert part.layout is not None
        return len(_holders(view, part)) >= max(part.layout.k, self._pool.quorum.h, 1 + part.layout.m)

    async def _spread(self, part: Record) -> set[int]:
        committer = self._committer
        async with committer.locks.exclusive(part.space, part.key):
            await committer.resolve(await committer.view(part.space, part.key))
            view = await committer.view(part.space, part.key, partial(self._suffices, part))
            return await committer.spread(view, next(v for v in view.versions if v.id.seq == part.seq))

    async def abort(self, bucket: Bucket, key: str, upload_id: str) -> None:
        """NoSuchUpload."""
        space, name = upload_name(bucket, key, upload_id)

        async def work() -> None:
            async with self._committer.locks.exclusive(space, name):
                if await self._committer.resolve(await self._committer.view(space, name)) is None:
                    raise NoSuchUpload(upload_id)
                await self._bury(space, name, bytes.fromhex(upload_id))

        await self._objects.sheltered(work())

    async def abort_all(self, bucket: Bucket) -> None:
        """All uploads of a bucket that is about to go; its lock is held."""
        space = uploads_space(bucket)
        while (page := await self._pages.get(Query(space, b"", b"", b"", 1000))).found:
            for name, found in page.found.items():
                async with self._committer.locks.exclusive(space, name):
                    await self._bury(space, name, found.record.upload)

    async def _bury(self, space: bytes, name: bytes, id: bytes) -> None:
        """Write the upload's tombstone; its key lock is held."""

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record("tombstone", space, name, seq, w, modified=time.time_ns() // 1_000_000, upload=id)

        await self._committer.commit_locked(Draft(space, name, 0, build, lambda found: None))


def _holders(view: View, part: Record) -> set[int]:
    return {slot for version in view.versions if version.id.seq == part.seq for slot in version.present}


def choose_parts(have: Mapping[int, Record], wanted: Sequence[PartRef]) -> list[Record]:
    """The parts of a completion. InvalidPartOrder, InvalidPart, PartTooSmall."""
    numbers = [ref.number for ref in wanted]
    if any(a >= b for a, b in itertools.pairwise(numbers)):
        raise InvalidPartOrder
    chosen: list[Record] = []
    for ref in wanted:
        part = have.get(ref.number)
        if part is None or part.etag != ref.etag or any(part.checksums.get(a) != v for a, v in ref.checksums.items()):
            raise InvalidPart(str(ref.number), ref.etag)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < MIN_PART:
            raise PartTooSmall(str(part.parts[0].number), part.etag, str(part.size))
    return chosen


def named(part: Record) -> Part:
    """A part as the object's record keeps it, with what GetObject by part number shows."""
    own = part.parts[0]
    return Part(own.write_id, own.number, own.size, own.stored, part.etag, part.checksums, own.salt)
