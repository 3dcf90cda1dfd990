"""Another fault tolerance for an object that is there, while it is read and written: new shards, then one commit.

The bytes come from the reader and go through the encoder of every upload, part by part, under new write ids. The record is
a further rev of the same version: what a client can see of it stays, layout, write ids and W are new. It is committed like
any write, under the key lock and only if the record that was read is still the current one; so an overwrite in the
meantime wins, and the new shards go. Settling then drops the lower rev and its shards.

Why no moment is without a readable rev. With k, m for the new layout, k', m' for the old:

- Until the new rev is committed nothing of the old one is touched. A volume drops its old shard in T2 only, and T2 follows
  when W volumes have the new row, which each got after its shards were finished there (and synced, where answers are).
- W = max(k, H, 1 + m, 1 + m', ...). k: the new rev is readable from the W that have it, and a volume that missed it counts
  among the m that may fail until the journal has brought it up to date. H, and 1 + m' as for every row of the key: any R
  volumes, and any N - m' with which an older state might be served, meet the new rev; so whoever writes next learns of m,
  and no stale volume can serve on its own. 1 + m is more than other writes ask for: re-encoding can wait for volumes.
- A crash in the middle of T1 leaves the new rev on c < W volumes or more. All of them are silent or answer: then it is
  aborted or finished by the rules of Resolve, both with the old rev still there. Where the rules can do neither for lack of
  volumes, `Committer.current` serves the old rev as long as k' volumes have it: the content is the same. For other writes
  that would be wrong (the outcome is unknown); here either outcome shows the same bytes, ETag and metadata.

The number of a rev is the time that passed since its version's seq, not the last plus one: a rev that was taken back may still
stand on a volume that is away, and two records must never share an id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import structs

from abixio.errors import DataLost, OutcomeUnknown, Unavailable
from abixio.store.bucketstore import Buckets, certain
from abixio.store.commit import Committer, Draft
from abixio.store.lookup import Found
from abixio.store.multipart import upload_name
from abixio.store.objects import Objects
from abixio.store.record import Layout, Part, Record, pack, unpaired
from abixio.store.stored import Stored
from abixio.store.types import Bucket, ObjectInfo, Reader, info_of
from abixio.store.upload import Received, receive

TRIES: Final = 3
"""An object that is overwritten so often while it is re-encoded is better left alone."""
_HEX: Final = re.compile("[0-9a-f]{32}(-1)?")


class _Overtaken(Exception):
    """The object is not any more what was read."""


class Reencoder:
    """Gives objects another layout."""

    def __init__(self, committer: Committer, buckets: Buckets, objects: Objects) -> None:
        self._committer = committer
        self._buckets = buckets
        self._objects = objects
        self._pool = committer.pool

    async def reencode(self, bucket: Bucket, key: str, ftt: str) -> ObjectInfo:
        """Give an object that fault tolerance, if it has another one."""
        layout = self._objects.layout(certain(bucket), ftt, key.encode())
        for _ in range(TRIES):
            reader = await self._objects.open_stored(bucket, key)
            try:
                record = reader.info.record
                if record.layout is not None and (record.layout.k, record.layout.m) == (layout.k, layout.m):
                    return reader.info
                return info_of(await self._again(bucket, reader, record, layout))
            except _Overtaken:
                continue
            finally:
                await reader.aclose()
        raise Unavailable(f"{key!r} is overwritten again and again")

    async def _again(self, bucket: Bucket, reader: Reader, record: Record, layout: Layout) -> Record:
        await self._committer.admit(record.space, record.key, _least(layout))
        received: list[Received] = []
        try:
            holders = set(range(self._pool.n))
            start = 0
            for part in record.parts:
                own = await self._receive(reader, record, part, start, layout)
                received.append(own)
                holders &= await own.finish(pack(self._footer(bucket, record, layout, part, own)))
                start += part.stored
        except BaseException:
            await _discard(received)
            raise
        return await self._objects.sheltered(self._commit(bucket, record, layout, received, holders))

    async def _receive(self, reader: Reader, record: Record, part: Part, start: int, layout: Layout) -> Received:
        """Encode a part anew. DataLost when its bytes do not give the ETag that they were stored with; of encrypted ones
        that cannot be told here, but by their tags when they are read."""
        etag = part.etag or record.etag
        known = _HEX.fullmatch(etag) is not None and not record.encryption
        fast = etag[16:32] == f"{part.size:016x}"
        source = Stored(reader, start, part.stored)
        try:
            await source.begin()
            received = await receive(
                self._pool, layout, part.number, source, "xxh64", known and not fast, allow_inline=len(record.parts) == 1
            )
        finally:
            await source.aclose()
        if known and received.etag != etag[:32]:
            await _discard([received])
            raise DataLost(f"part {part.number} of {record.key!r} does not have the ETag that it was stored with")
        return received

    def _footer(self, bucket: Bucket, record: Record, layout: Layout, part: Part, received: Received) -> Record:
        """What the shard files say of themselves, as those of the upload did."""
        seq, parts = self._committer.clock.tick(), (structs.replace(part, write_id=received.part.write_id),)
        if not record.upload:
            return structs.replace(unpaired(record), w=0, rev=seq - record.seq, layout=layout, parts=parts)
        owner = b"".join(upload_name(bucket, record.key.decode(), record.upload.hex()))
        return Record(
            "part", record.upload, part.number.to_bytes(4, "big"), seq, 0, modified=record.modified, size=part.size,
            etag=part.etag, layout=layout, parts=parts, checksums=part.checksums, upload=owner, encryption=record.encryption,
            incompat=record.incompat,
        )

    async def _commit(
        self, bucket: Bucket, record: Record, layout: Layout, received: Sequence[Received], holders: set[int]
    ) -> Record:
        parts = tuple(
            structs.replace(part, write_id=own.part.write_id) for part, own in zip(record.parts, received, strict=True)
        )

        def check(found: Found | None) -> None:
            if found is None or found.record != record:
                raise _Overtaken
            if any(row.record != pack(record) for row in found.rows.values()):
                raise Unavailable("a record with fields that this version does not know cannot be written again")

        def build(seq: int, w: int, found: Found | None) -> Record:
            rev = max(seq - record.seq, record.rev + 1)
            return structs.replace(record, w=w, rev=rev, layout=layout, parts=parts)

        inline = received[0].inline if received else None
        draft = Draft(record.space, record.key, _least(layout), build, check, holders, inline)
        try:
            async with self._buckets.kept(bucket):
                return await self._committer.commit(draft)
        except OutcomeUnknown:
            raise
        except BaseException:
            for own in received:
                await own.discard()
            raise
        finally:
            for own in received:
                own.release()


def _least(layout: Layout) -> int:
    """What the new rev adds to W."""
    return max(layout.k, 1 + layout.m)


async def _discard(received: Sequence[Received]) -> None:
    for own in received:
        await own.discard()
        own.release()
