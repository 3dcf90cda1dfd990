"""A whole StoreAPI in memory: buckets, objects and uploads as the real store gives them, without volumes or codes.

For the tests of `abixio.s3`, and for the benchmark of the S3 protocol alone.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from base64 import b64decode, b64encode
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import md5
from typing import Any, Final, TypeVar

from msgspec.structs import replace as replace_record

from abixio.codec.digest import Digests
from abixio.config import MAX_OBJECT, MIN_PART
from abixio.errors import (
    AbixioError,
    BucketExists,
    BucketNotEmpty,
    DigestMismatch,
    EntityTooLarge,
    InvalidFaultTolerance,
    InvalidPart,
    InvalidPartOrder,
    InvalidWriteOffset,
    KeyNeeded,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PartTooSmall,
)
from abixio.message import Buffer
from abixio.store.record import NULL, Part, Record, pack
from abixio.store.types import (
    AtHand,
    Bucket,
    Condition,
    Deleted,
    Listing,
    Move,
    ObjectInfo,
    PartInfo,
    PartRef,
    PutSpec,
    Says,
    Seal,
    Source,
    Unlock,
    Upload,
    UploadListing,
    VersionListing,
    always,
    info_of,
    no_key,
)
from abixio.store.versions import which

R = TypeVar("R")
T = TypeVar("T")

SLICE: Final = 1 << 20
"""What one slice of a stream holds: as small as that, so that tests of some MiB see several."""


AT_ONCE = 10_000
"""Bytes up to which an object is at hand."""


@dataclass
class Stored:
    record: Record
    data: bytes

    @property
    def info(self) -> ObjectInfo:
        return info_of(self.record)


@dataclass
class OpenUpload:
    upload: Upload
    spec: PutSpec
    order: int
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass
class Contents:
    bucket: Bucket
    keys: list[str] = field(default_factory=list)
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, OpenUpload] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)


class MemoryReader:
    """Counts how many readers are open, so that tests can ask for none."""

    def __init__(self, store: FakeStore, stored: Stored) -> None:
        self.info = stored.info
        self._store = store
        self._data = memoryview(stored.data)
        self._open = True
        store.readers += 1

    async def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        for at in range(start, start + length, SLICE):
            assert self._open, "read after close"
            yield self._data[at : min(at + SLICE, start + length)]

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._store.readers -= 1


class Whole:
    """What a source would give, given at once."""

    def __init__(self, source: Source, data: bytes) -> None:
        self.length, self.algorithms, self.verify = source.length, source.algorithms, source.verify
        self._rest = data

    async def readinto(self, view: memoryview) -> int:
        taken, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(taken)] = taken
        return len(taken)


class FakeStore:
    """StoreAPI in memory. `now` is the time of the next write in ms; None: the clock."""

    def __init__(self, n: int = 4) -> None:
        self.n = n
        self.readers = 0
        self.now: int | None = None
        self.failure: Exception | None = None
        """Raised by the next write, once."""
        self.contents: dict[str, Contents] = {}
        self._numbers = itertools.count(1)

    # ---- buckets -----------------------------------------------------------------------------------------------------
    async def create_bucket(self, name: str, owner: str, settings: Mapping[str, str]) -> Bucket:
        if name in self.contents:
            raise BucketExists(name)
        bucket = Bucket(name, os.urandom(16), self._time(), owner, dict(settings))
        self.contents[name] = Contents(bucket)
        return bucket

    async def bucket(self, name: str) -> Bucket:
        if name not in self.contents:
            raise NoSuchBucket(name)
        return self.contents[name].bucket

    async def buckets(self) -> list[Bucket]:
        return [self.contents[name].bucket for name in sorted(self.contents)]

    async def change_bucket(self, name: str, edit: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Bucket:
        old = await self.bucket(name)
        bucket = replace(old, settings=dict(edit(old.settings)))
        self.contents[name].bucket = bucket
        return bucket

    async def config(self, bucket: Bucket, name: str) -> str | None:
        return self._contents(bucket).configs.get(name)

    async def configs(self, bucket: Bucket, prefix: str) -> dict[str, str]:
        return {name: body for name, body in sorted(self._contents(bucket).configs.items()) if name.startswith(prefix)}

    async def set_config(self, bucket: Bucket, name: str, body: str | None) -> None:
        if body is None:
            self._contents(bucket).configs.pop(name, None)
        else:
            self._contents(bucket).configs[name] = body

    async def delete_bucket(self, name: str) -> None:
        if name not in self.contents:
            raise NoSuchBucket(name)
        if self.contents[name].objects:
            raise BucketNotEmpty(name)
        del self.contents[name]

    # ---- objects -----------------------------------------------------------------------------------------------------
    async def put(self, bucket: Bucket, key: str, spec: PutSpec, source: Source) -> ObjectInfo:
        contents = self._contents(bucket)
        self._check_ftt(bucket, spec.ftt)
        spec.condition(self._current(contents, key))
        data, checksums = await self._receive(source)
        spec.condition(self._current(contents, key))
        part = Part(os.urandom(16), 1, len(data), len(data))
        record = Record(
            "object", bucket.space, key.encode(), next(self._numbers), 1, modified=self._time(), owner=spec.owner, size=len(data),
            etag=md5(data, usedforsecurity=False).hexdigest(), parts=(part,), headers=dict(spec.headers), meta=dict(spec.meta),
            checksums=checksums, checksum_type=spec.checksum_type, tags=dict(spec.tags), lock=dict(spec.lock),
            encryption={} if spec.seal is None else dict(spec.seal.fields),
        )
        return self._keep(contents, key, Stored(record, data))

    async def append(self, bucket: Bucket, key: str, spec: PutSpec, offset: int, source: Source) -> ObjectInfo:
        contents = self._contents(bucket)
        current = contents.objects.get(key)
        spec.condition(self._current(contents, key))
        if (0 if current is None else current.record.size) != offset:
            raise InvalidWriteOffset(str(offset))
        if current is None:
            return await self.put(bucket, key, spec, source)
        data, checksums = await self._receive(source)
        joined = current.data + data
        etag = md5(joined, usedforsecurity=False).hexdigest() + "-2"
        record = replace_record(current.record, size=len(joined), etag=etag, checksums=checksums, modified=self._time())
        return self._keep(contents, key, Stored(record, joined))

    def at_hand(self, bucket: str, key: str, data: bool) -> AtHand | None:
        """Every object of at most AT_ONCE bytes."""
        contents = self.contents.get(bucket)
        stored = None if contents is None else contents.objects.get(key)
        if contents is None or stored is None or len(stored.data) > AT_ONCE:
            return None
        at = contents.bucket.space + repr(sorted(contents.bucket.settings.items())).encode(), pack(stored.record)
        return AtHand(contents.bucket, stored.info, at, lambda: stored.data if data else b"")

    def bucket_at_hand(self, name: str) -> Bucket | None:
        contents = self.contents.get(name)
        return None if contents is None else contents.bucket

    def put_at_once(
        self, bucket: Bucket, key: str, spec: PutSpec, source: Source, data: bytes, says: Says[ObjectInfo, T]
    ) -> asyncio.Future[T] | None:
        """The same objects as `at_hand`."""
        if spec.seal is not None or len(data) > AT_ONCE:
            return None
        return self._at_once(self.put(bucket, key, spec, Whole(source, data)), says)

    def delete_at_once(
        self, bucket: Bucket, key: str, condition: Condition, bypass: bool, says: Says[Deleted | None, T]
    ) -> asyncio.Future[T] | None:
        return self._at_once(self.delete(bucket, key, condition, None, bypass), says)

    def _at_once(self, work: Coroutine[Any, Any, R], says: Says[R, T]) -> asyncio.Future[T]:
        """Nothing here waits for anything. What stops a commit is told later, all else at once."""
        failure, ended = self.failure, asyncio.get_running_loop().create_future()
        try:
            while True:
                work.send(None)
        except StopIteration as end:
            ended.set_result(says.done(end.value))
        except AbixioError as error:
            if error is not failure:
                raise
            ended.set_result(says.refused(error))
        return ended

    async def rename(self, bucket: Bucket, key: str, move: Move) -> ObjectInfo:
        contents = self._contents(bucket)
        move.target_check(self._current(contents, key))
        current = contents.objects.get(move.source)
        if current is None:
            raise NoSuchKey(move.source)
        move.source_check(current.info)
        del contents.objects[move.source]
        return self._keep(contents, key, Stored(replace_record(current.record, key=key.encode()), current.data))

    async def head(self, bucket: Bucket, key: str, version: str | None = None) -> ObjectInfo:
        return self._found(bucket, key, version).info

    async def open(self, bucket: Bucket, key: str, version: str | None = None, unlock: Unlock = no_key) -> MemoryReader:
        stored = self._found(bucket, key, version)
        unlock(stored.info)
        return MemoryReader(self, stored)

    async def amend(self, bucket: Bucket, key: str, version: str | None, edit: Callable[[Record], Record]) -> ObjectInfo:
        stored = self._found(bucket, key, version)
        new = Stored(edit(stored.record), stored.data)
        self._contents(bucket).objects[key] = new
        return new.info

    async def versions(
        self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str | None], limit: int
    ) -> VersionListing:
        if after[1] is not None:
            which(bucket.space, after[1])
        page = await self.list(bucket, prefix, delimiter, after[0], limit)
        ends_in_key = bool(page.items) and page.items[-1].key == page.next
        following = None if page.next is None else (page.next, NULL if ends_in_key else None)
        return VersionListing([(info, True) for info in page.items], page.prefixes, page.truncated, following)

    async def delete(
        self, bucket: Bucket, key: str, condition: Condition = always, version: str | None = None, bypass: bool = False
    ) -> Deleted | None:
        contents = self._contents(bucket)
        if version is not None and which(bucket.space, version) != NULL:
            return None
        condition(self._current(contents, key))
        self._fail()
        if contents.objects.pop(key, None) is None:
            return None
        del contents.keys[bisect_left(contents.keys, key)]
        return Deleted(NULL, False)

    async def list(
        self, bucket: Bucket, prefix: str, delimiter: str, after: str, limit: int, inclusive: bool = False
    ) -> Listing:
        contents = self._contents(bucket)
        # Code points sort as their UTF-8 does.
        keys = itertools.islice(contents.keys, bisect_left(contents.keys, max(prefix, after)), None)
        items: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = None
        for key in keys:
            if not key.startswith(prefix):
                break
            group = _group(key, prefix, delimiter)
            if group is not None and group in (after, last):
                continue
            if group is None and key == after and not inclusive:
                continue
            if len(items) + len(prefixes) == limit:
                return Listing(items, prefixes, True, last)
            if group is None:
                items.append(contents.objects[key].info)
            else:
                prefixes.append(group)
            last = key if group is None else group
        return Listing(items, prefixes, False, None)

    # ---- multipart uploads -------------------------------------------------------------------------------------------
    async def create_upload(self, bucket: Bucket, key: str, spec: PutSpec) -> Upload:
        contents = self._contents(bucket)
        self._check_ftt(bucket, spec.ftt)
        order = next(self._numbers)
        id = f"{order:032x}"
        record = Record(
            "upload", bucket.space, key.encode(), order, 1, modified=self._time(), owner=spec.owner, headers=dict(spec.headers),
            meta=dict(spec.meta), settings=dict(spec.settings), checksum_type=spec.checksum_type, upload=bytes.fromhex(id),
            encryption={} if spec.seal is None else dict(spec.seal.fields),
        )
        upload = Upload(id, key, record.modified, record)
        contents.uploads[id] = OpenUpload(upload, spec, order)
        return upload

    async def upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        return self._upload(bucket, key, upload_id).upload

    async def put_part(
        self, bucket: Bucket, key: str, upload_id: str, number: int, source: Source, real_md5: bool = False,
        seal: Seal | None = None,
    ) -> PartInfo:
        upload = self._upload(bucket, key, upload_id)
        if upload.upload.record.encryption != ({} if seal is None else seal.fields):
            raise KeyNeeded(key)
        data, checksums = await self._receive(source)
        part = Part(os.urandom(16), number, len(data), len(data), md5(data, usedforsecurity=False).hexdigest(), checksums)
        record = Record(
            "part", bytes.fromhex(upload_id), number.to_bytes(4, "big"), next(self._numbers), 1, modified=self._time(),
            size=len(data), etag=part.etag, parts=(part,), checksums=checksums,
        )
        self._upload(bucket, key, upload_id).parts[number] = Stored(record, data)
        assert upload.upload.id == upload_id
        return _part_info(record)

    async def parts(self, bucket: Bucket, key: str, upload_id: str, after: int, limit: int) -> tuple[Sequence[PartInfo], bool]:
        parts = self._upload(bucket, key, upload_id).parts
        found = [_part_info(parts[number].record) for number in sorted(parts) if number > after]
        return found[:limit], len(found) > limit

    async def uploads(
        self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str], limit: int
    ) -> UploadListing:
        contents = self._contents(bucket)
        if after[1] and after[1] not in contents.uploads and len(after[1]) != 32:
            raise NoSuchUpload(after[1])
        uploads: list[Upload] = []
        prefixes: list[str] = []
        last = ("", "")
        for each in sorted(contents.uploads.values(), key=lambda each: (each.upload.key, each.order)):
            key, id = each.upload.key, each.upload.id
            group = _group(key, prefix, delimiter)
            behind = (key, id) > after if after[1] else key > after[0]
            if not key.startswith(prefix) or not behind or (group is not None and group in (after[0], last[0])):
                continue
            if len(uploads) + len(prefixes) == limit:
                return uploads, prefixes, True, last
            if group is None:
                uploads.append(each.upload)
            else:
                prefixes.append(group)
            last = (key, id) if group is None else (group, "")
        return uploads, prefixes, False, ("", "")

    async def complete_upload(
        self, bucket: Bucket, key: str, upload_id: str, parts: Sequence[PartRef], condition: Condition = always,
        checksums: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        contents = self._contents(bucket)
        current = contents.objects.get(key)
        if current is not None and current.record.upload.hex() == upload_id:
            return current.info
        upload = self._upload(bucket, key, upload_id)
        chosen = _chosen(upload.parts, parts)
        condition(self._current(contents, key))
        data = b"".join(part.data for part in chosen)
        digest = md5(b"".join(bytes.fromhex(part.record.etag) for part in chosen), usedforsecurity=False).hexdigest()
        opened = upload.upload.record
        record = Record(
            "object", bucket.space, key.encode(), next(self._numbers), 1, modified=self._time(), owner=opened.owner,
            size=len(data), etag=f"{digest}-{len(chosen)}", parts=tuple(part.record.parts[0] for part in chosen),
            headers=opened.headers, meta=opened.meta, checksums=_combined(opened, chosen, checksums or {}),
            checksum_type=opened.checksum_type, upload=opened.upload, encryption=opened.encryption,
        )
        del contents.uploads[upload_id]
        return self._keep(contents, key, Stored(record, data))

    async def abort_upload(self, bucket: Bucket, key: str, upload_id: str) -> None:
        self._upload(bucket, key, upload_id)
        del self._contents(bucket).uploads[upload_id]

    # ---- the rest ----------------------------------------------------------------------------------------------------
    def _time(self) -> int:
        return time.time_ns() // 1_000_000 if self.now is None else self.now

    def _fail(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def _contents(self, bucket: Bucket) -> Contents:
        contents = self.contents.get(bucket.name)
        if contents is None or contents.bucket.space != bucket.space:
            raise NoSuchBucket(bucket.name)
        return contents

    def _current(self, contents: Contents, key: str) -> ObjectInfo | None:
        stored = contents.objects.get(key)
        return None if stored is None else stored.info

    def _found(self, bucket: Bucket, key: str, version: str | None) -> Stored:
        stored = self._contents(bucket).objects.get(key)
        if version is not None and (which(bucket.space, version) != NULL or stored is None):
            raise NoSuchVersion(key, version)
        if stored is None:
            raise NoSuchKey(key)
        return stored

    def _upload(self, bucket: Bucket, key: str, upload_id: str) -> OpenUpload:
        upload = self._contents(bucket).uploads.get(upload_id)
        if upload is None or upload.upload.key != key:
            raise NoSuchUpload(upload_id)
        return upload

    def _keep(self, contents: Contents, key: str, stored: Stored) -> ObjectInfo:
        self._fail()
        if key not in contents.objects:
            insort(contents.keys, key)
        contents.objects[key] = stored
        return stored.info

    def _check_ftt(self, bucket: Bucket, ftt: str | None) -> None:
        wanted = ftt if ftt is not None else bucket.settings.get("ftt", "0")
        if not (wanted.isascii() and wanted.isdigit() and int(wanted) < self.n):
            raise InvalidFaultTolerance(f"the fault tolerance must be an integer from 0 to {self.n - 1}")

    async def _receive(self, source: Source) -> tuple[bytes, dict[str, str]]:
        """The payload and its checksums. Reads until the source ends, as the real store does."""
        data = bytearray()
        room = bytearray(SLICE if source.length is None else min(SLICE, source.length + 1))
        while True:
            count = await source.readinto(memoryview(room))
            data += memoryview(room)[:count]
            if len(data) > MAX_OBJECT:
                raise EntityTooLarge
            if count < len(room):
                break
        digests: dict[str, bytes] = {}
        if source.algorithms:
            running = Digests(source.algorithms)
            running.update(data)
            digests = running.digests()
        await asyncio.sleep(0)
        return bytes(data), source.verify(digests)


def _group(key: str, prefix: str, delimiter: str) -> str | None:
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]


def _part_info(record: Record) -> PartInfo:
    return PartInfo(record.parts[0].number, record.size, record.etag, record.modified, record.checksums)


def _chosen(have: Mapping[int, Stored], wanted: Sequence[PartRef]) -> list[Stored]:
    if any(one.number >= two.number for one, two in itertools.pairwise(wanted)):
        raise InvalidPartOrder
    chosen = []
    for ref in wanted:
        part = have.get(ref.number)
        if part is None or part.record.etag != ref.etag:
            raise InvalidPart(str(ref.number), ref.etag)
        if any(part.record.checksums.get(name) != value for name, value in ref.checksums.items()):
            raise InvalidPart(str(ref.number), ref.etag)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.record.size < MIN_PART:
            raise PartTooSmall(str(part.record.parts[0].number), part.record.etag, str(part.record.size))
    return chosen


def _combined(upload: Record, chosen: Sequence[Stored], expected: Mapping[str, str]) -> dict[str, str]:
    """The object's checksum: over the parts' checksums, or over all the bytes."""
    name = upload.settings.get("checksum_algorithm", "").lower()
    if not name:
        return {}
    composite = upload.checksum_type == "COMPOSITE"
    digests = Digests([name])
    for part in chosen:
        digests.update(b64decode(part.record.checksums[name]) if composite else part.data)
    value = b64encode(digests.digests()[name]).decode()
    if expected.get(name, value).partition("-")[0] != value:
        raise DigestMismatch(name)
    return {name: f"{value}-{len(chosen)}" if composite else value}
