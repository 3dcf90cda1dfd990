"""Multipart uploads. An open upload is a record in a space of its bucket, keyed by object key and upload id; its parts are
records in the upload's own space, keyed by number. How an upload ends is in `completion`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from blake3 import blake3

from abixio.errors import KeyNeeded, NoSuchUpload
from abixio.store.bucketstore import Buckets, certain
from abixio.store.clock import write_id
from abixio.store.commit import Committer, Draft
from abixio.store.lister import Query
from abixio.store.lookup import Found
from abixio.store.objects import Objects
from abixio.store.pages import Pages
from abixio.store.record import Record
from abixio.store.sealing import sealed
from abixio.store.types import (
    Bucket,
    PartInfo,
    PutSpec,
    Seal,
    Source,
    Upload,
    UploadListing,
    always,
)
from abixio.store.upload import receive

TAIL: Final = 17
"""NUL and the 16 bytes of the upload id behind the object key."""



def uploads_space(bucket: Bucket) -> bytes:
    """Where the open uploads of a bucket are."""
    return blake3(bucket.space + b"uploads").digest(length=16)


def upload_name(bucket: Bucket, key: str, upload_id: str) -> tuple[bytes, bytes]:
    """The space and key of an upload's record. NoSuchUpload when the id cannot be one."""
    try:
        id = bytes.fromhex(upload_id)
    except ValueError:
        id = b""
    if len(id) != 16 or id.hex() != upload_id:
        raise NoSuchUpload(upload_id)
    return uploads_space(bucket), key.encode() + b"\0" + id


class Uploads:
    """Creates, fills and lists multipart uploads."""

    def __init__(self, committer: Committer, buckets: Buckets, objects: Objects, pages: Pages) -> None:
        self._committer = committer
        self._buckets = buckets
        self._objects = objects
        self._pages = pages
        self._pool = committer.pool

    # ---- uploads -----------------------------------------------------------------------------------------------------
    async def create(self, bucket: Bucket, key: str, spec: PutSpec) -> Upload:
        """Open an upload; the layout is decided here, for all its parts. InvalidFaultTolerance."""
        layout = self._objects.layout(certain(bucket), spec.ftt, key.encode())
        id = write_id()
        space, name = uploads_space(bucket), key.encode() + b"\0" + id
        known = sealed(spec.seal, {})

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record(
                "upload", space, name, seq, w, modified=time.time_ns() // 1_000_000, owner=spec.owner, layout=layout,
                headers=dict(spec.headers), meta=dict(spec.meta), settings=dict(spec.settings),
                checksum_type=spec.checksum_type, upload=id, tags=dict(spec.tags), lock=dict(spec.lock),
                encryption=known.encryption, incompat=known.incompat,
            )

        async def work() -> Record:
            async with self._buckets.kept(bucket):
                return await self._committer.commit(Draft(space, name, 0, build, lambda found: None))

        return upload_of(await self._objects.sheltered(work()))

    async def find(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """NoSuchUpload."""
        found = await self._committer.current(*upload_name(bucket, key, upload_id))
        if found is None:
            raise NoSuchUpload(upload_id)
        return upload_of(found.record)

    async def page(self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str], limit: int) -> UploadListing:
        """As `StoreAPI.uploads`."""
        start = after[0].encode()
        if after[1]:
            start = upload_name(bucket, *after)[1] + b"\0"
        elif start and delimiter and start.endswith(delimiter.encode()) and start.startswith(prefix.encode()):
            start = start + b"\xff"
        elif start:
            start += b"\x01"
        query = Query(uploads_space(certain(bucket)), prefix.encode(), delimiter.encode(), start, limit, TAIL)
        page = await self._pages.get(query)
        uploads = [upload_of(found.record) for found in page.found.values()]
        last = page.last
        if not page.truncated:
            marker = ("", "")
        elif last in page.found:
            marker = (last[:-TAIL].decode(), last[-16:].hex())
        else:
            marker = (last.decode(), "")
        return uploads, [p.decode() for p in page.prefixes], page.truncated, marker

    @asynccontextmanager
    async def _open(self, bucket: Bucket, key: str, upload_id: str) -> AsyncIterator[Record]:
        """While inside, the upload can be neither completed nor aborted. NoSuchUpload."""
        space, name = upload_name(bucket, key, upload_id)
        async with self._committer.locks.shared(space, name):
            found = await self._committer.seen(space, name)
            if found is None:
                raise NoSuchUpload(upload_id)
            yield found.record

    # ---- parts -------------------------------------------------------------------------------------------------------
    async def put_part(
        self, bucket: Bucket, key: str, upload_id: str, number: int, source: Source, real_md5: bool = False,
        seal: Seal | None = None,
    ) -> PartInfo:
        """Store a part; the number's former content is replaced. KeyNeeded for that of an encrypted object without its seal."""
        upload = await self.find(bucket, key, upload_id)
        if upload.record.encryption != ({} if seal is None else seal.fields):
            raise KeyNeeded(key)
        layout = upload.record.layout
        assert layout is not None
        space, name = bytes.fromhex(upload_id), number.to_bytes(4, "big")
        known = upload.record
        enough = self._committer.quorum(await self._committer.admit(space, name, layout.k), layout.k)
        owner = b"".join(upload_name(bucket, key, upload_id))
        received = await receive(self._pool, layout, number, source, self._pool.config.etag, real_md5, False, enough, seal)

        def build(seq: int, w: int, found: Found | None, upload: Record | None) -> Record:
            return Record(
                "part", space, name, seq, w, modified=time.time_ns() // 1_000_000, size=received.part.size, etag=received.etag,
                layout=layout, parts=(received.part,), checksums=received.checksums, upload=owner,
                encryption=known.encryption, incompat=known.incompat,
            )

        work = self._objects.finish_and_commit(received, build, always, self._open(bucket, key, upload_id))
        return part_of(await self._objects.sheltered(work))

    async def parts(self, bucket: Bucket, key: str, upload_id: str, after: int, limit: int) -> tuple[list[PartInfo], bool]:
        """Parts with a number above `after`, in order, and whether there are more."""
        await self.find(bucket, key, upload_id)
        start = (max(after, 0) + 1).to_bytes(4, "big")
        page = await self._pages.get(Query(bytes.fromhex(upload_id), b"", b"", start, limit))
        return [part_of(found.record) for found in page.found.values()], page.truncated


def upload_of(record: Record) -> Upload:
    return Upload(record.upload.hex(), record.key[:-TAIL].decode(), record.modified, record)


def part_of(record: Record) -> PartInfo:
    return PartInfo(record.parts[0].number, record.size, record.etag, record.modified, record.checksums)
