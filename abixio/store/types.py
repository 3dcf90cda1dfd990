"""What the store takes and gives: the vocabulary between `s3` and `store`."""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from abixio.errors import AbixioError, KeyNeeded
from abixio.message import Buffer
from abixio.store.health import Discarded, Healed, KeyHealth, RepairStatus
from abixio.store.record import Record, version_id


class Source(Protocol):
    """Where the bytes of an upload come from."""

    length: int | None
    """Payload bytes, after every coding is removed; None when not announced."""
    algorithms: Collection[str]
    """Digests to compute over the payload: of md5, sha1, sha256, crc32, crc32c, crc64nvme."""

    async def readinto(self, view: memoryview) -> int:
        """As `abixio.message.Body.readinto`."""
        ...

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        """Called once at the end, before anything is committed. Raises DigestMismatch (or any ClientError) to refuse the
        upload; returns the checksums to store with the object: algorithm -> base64."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One version of one object."""

    key: str
    size: int
    etag: str
    """Without quotes."""
    modified: int
    """ms since 1970."""
    record: Record
    """Everything else: headers, meta, checksums, layout, parts, owner, tags, lock."""

    @property
    def version(self) -> str:
        """Its id; `null` for one written while the bucket was not versioned."""
        return version_id(self.record)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did: `version` is the id of the version that is gone, or of the delete marker that was written."""

    version: str
    marker: bool


Condition = Callable[[ObjectInfo | None], None]
"""Looks at the current object (None: there is none) under the key lock; raises PreconditionFailed or NoSuchKey to stop
the write."""


def always(current: ObjectInfo | None) -> None:
    """The condition that holds."""


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be renamed, and when."""

    source: str
    """Its key."""
    source_check: Condition = always
    target_check: Condition = always
    token: str = ""
    """By which the client's next try is known to be one; empty: it gave none."""
    asked: tuple[str, ...] = ()
    """All that it asked for besides, word for word: a next try asks for the same."""


@dataclass(frozen=True, slots=True)
class Seal:
    """How an object is to be encrypted."""

    key: bytes = field(repr=False)
    """The object's own."""
    fields: Mapping[str, str]
    """For the record: what leads to the key."""
    hides_etag: bool
    """The ETag says nothing of the bytes."""


Unlock = Callable[[ObjectInfo], bytes | None]
"""Gives the key of an encrypted object, None for any other; raises to refuse."""


def no_key(info: ObjectInfo) -> None:
    """Whoever has no key reads no encrypted object: KeyNeeded."""
    if info.record.encryption:
        raise KeyNeeded(info.key)


@dataclass(frozen=True, slots=True)
class PutSpec:
    """All that a PUT says besides the bytes."""

    owner: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """System metadata by lower-case header name."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """User metadata without the prefix."""
    ftt: str | None = None
    """Fault tolerance as the client wrote it; None: the bucket's, else min(1, N-1)."""
    real_md5: bool = False
    """The client sent Content-MD5: the ETag is the MD5 in every --etag mode."""
    condition: Condition = always
    tags: Mapping[str, str] = field(default_factory=dict)
    lock: Mapping[str, str] = field(default_factory=dict)
    """Object lock: mode, until, hold."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """For uploads: checksum algorithm and type."""
    checksum_type: str = ""
    seal: Seal | None = None
    """Encrypt it. For uploads: its parts, each of which needs the seal too."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as its newest record says. `space` is the id under which its keys live, new for each creation."""

    name: str
    space: bytes
    created: int
    """ms since 1970."""
    owner: str
    settings: Mapping[str, str]
    certain: bool = True
    """False when too few volumes answered to rule out a newer record; good enough for the root credential's GET and HEAD."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page. `items` and `prefixes` are each in order, at most `limit` together; `next` is the last key or prefix
    covered when there is more."""

    items: list[ObjectInfo]
    prefixes: list[str]
    truncated: bool
    next: str | None


@dataclass(frozen=True, slots=True)
class VersionListing:
    """One page: each version (a record of kind `object` or `marker`) with whether it is its key's latest; `next` as in Listing,
    with the id of the last version covered, None behind a prefix."""

    versions: list[tuple[ObjectInfo, bool]]
    prefixes: list[str]
    truncated: bool
    next: tuple[str, str | None] | None


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload."""

    id: str
    key: str
    initiated: int
    record: Record


@dataclass(frozen=True, slots=True)
class PartInfo:
    number: int
    size: int
    etag: str
    modified: int
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartRef:
    """A part as the client names it in a completion."""

    number: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


UploadListing = tuple[list[Upload], list[str], bool, tuple[str, str]]
"""Open uploads; common prefixes; whether there are more; (key, upload id) to go on behind."""


class Reader(Protocol):
    """An open object: what it needs stays readable until `aclose`, whatever is written or deleted meanwhile."""

    info: ObjectInfo

    def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        """Verified slices of the bytes [start, start + length). DataLost when too few good shards are left."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AtHand:
    """What was there without a wait."""

    bucket: Bucket
    info: ObjectInfo
    stored: tuple[bytes, bytes]
    """The records of both: as long as they are the same, so is everything else that is said here."""
    data: Callable[[], bytes | None]
    """All of the object, checked anew each time; None where it cannot be had. Empty when it was not wanted."""


R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Says(Generic[R, T]):
    """What a caller makes of the end of a write that it does not wait for."""

    done: Callable[[R], T]
    refused: Callable[[AbixioError], T]


class StoreAPI(Protocol):
    """What `s3` may ask. Names and keys are str (keys: UTF-8 of 1 to 1,024 bytes, any code point; s3 checks names and
    lengths). Errors: ClientError classes, Unavailable, Overloaded, OutcomeUnknown, DataLost, InsufficientStorage."""

    n: int
    """Volumes in the pool."""

    async def create_bucket(self, name: str, owner: str, settings: Mapping[str, str]) -> Bucket:
        """BucketExists when there is one. `settings` may hold ftt and region."""
        ...

    async def bucket(self, name: str) -> Bucket:
        """NoSuchBucket; Unavailable when that cannot be told."""
        ...

    async def buckets(self) -> list[Bucket]:
        """All, by name."""
        ...

    async def change_bucket(self, name: str, edit: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Bucket:
        """New settings from the old ones, decided alone on the bucket: no write into it is under way meanwhile. NoSuchBucket, and
        what `edit` raises."""
        ...

    async def config(self, bucket: Bucket, name: str) -> str | None:
        """The document of that name that is kept with the bucket: `cors`, `tagging`, ..."""
        ...

    async def configs(self, bucket: Bucket, prefix: str) -> dict[str, str]:
        """All documents whose names begin so."""
        ...

    async def set_config(self, bucket: Bucket, name: str, body: str | None) -> None:
        """Keep a document with the bucket; None: no longer. NoSuchBucket."""
        ...

    async def delete_bucket(self, name: str) -> None:
        """NoSuchBucket, BucketNotEmpty (open uploads do not count)."""
        ...

    def at_hand(self, bucket: str, key: str, data: bool) -> AtHand | None:
        """A bucket and the current object of a key, as small as a record of the catalog, where that can be told without any wait
        and all volumes agree; encrypted ones as they are stored. None in every other case, also when there is no such thing: then
        the others have to be asked. `data`: its bytes are wanted too."""
        ...

    def bucket_at_hand(self, name: str) -> Bucket | None:
        """A bucket, where all volumes agree on it without any wait."""
        ...

    def put_at_once(
        self, bucket: Bucket, key: str, spec: PutSpec, source: Source, data: bytes, says: Says[ObjectInfo, T]
    ) -> Future[T] | None:
        """`put` of `data`, which is all that `source` would give; None, with nothing done or read, where more than a commit has
        to be waited for. `source.verify` may be called all the same. Raises what that and the condition raise, or says so later.
        `bucket`: as `bucket_at_hand` has just given it; who waits in between has to look again."""
        ...

    def delete_at_once(
        self, bucket: Bucket, key: str, condition: Condition, bypass: bool, says: Says[Deleted | None, T]
    ) -> Future[T] | None:
        """`delete` of the current object, in the same way."""
        ...

    async def put(self, bucket: Bucket, key: str, spec: PutSpec, source: Source) -> ObjectInfo:
        """InvalidFaultTolerance, Unavailable and a condition that fails come before the first read of `source`."""
        ...

    async def append(self, bucket: Bucket, key: str, spec: PutSpec, offset: int, source: Source) -> ObjectInfo:
        """Add to the end of an object, which has to be `offset` bytes long, or with 0 begin it. It keeps its metadata.
        CannotAppend in a bucket with versions, InvalidWriteOffset, TooManyParts, ConditionalConflict; else as `put`."""
        ...

    async def rename(self, bucket: Bucket, key: str, move: Move) -> ObjectInfo:
        """Give an object this key, in place of what may be there, and its own to nobody: both at once. NoSuchKey, CannotRename in
        a bucket with versions or to its own key, IdempotencyMismatch, ObjectLocked, and what the checks raise."""
        ...

    async def head(self, bucket: Bucket, key: str, version: str | None = None) -> ObjectInfo:
        """NoSuchKey; with a version id NoSuchVersion, InvalidVersionId; IsDeleteMarker."""
        ...

    async def open(self, bucket: Bucket, key: str, version: str | None = None, unlock: Unlock = no_key) -> Reader:
        """As `head`, DataLost, and what `unlock` raises, which is asked before anything is opened."""
        ...

    async def delete(
        self, bucket: Bucket, key: str, condition: Condition = always, version: str | None = None, bypass: bool = False
    ) -> Deleted | None:
        """Delete the object, or put a delete marker on top where the bucket is or was versioned, or delete one version for good.
        None when there was nothing to delete, which writes nothing and is no error. `bypass`: governance retention does not
        count. InvalidVersionId, ObjectLocked."""
        ...

    async def amend(self, bucket: Bucket, key: str, version: str | None, edit: Callable[[Record], Record]) -> ObjectInfo:
        """Replace what is said of a version besides its data: tags, lock. `edit` may raise. Errors as `head`."""
        ...

    async def versions(
        self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str | None], limit: int
    ) -> VersionListing:
        """Versions and delete markers behind (key, version id), by key, newest first; a version id None in `after` means behind
        all versions of that key. InvalidVersionId."""
        ...

    async def list(
        self, bucket: Bucket, prefix: str, delimiter: str, after: str, limit: int, inclusive: bool = False
    ) -> Listing:
        """Keys behind `after` (or from it on, when inclusive) in UTF-8 byte order. Keys that share the part up to the first
        `delimiter` behind `prefix` become one prefix. `after` may be such a prefix: then all of its keys count as covered."""
        ...

    async def create_upload(self, bucket: Bucket, key: str, spec: PutSpec) -> Upload: ...

    async def upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """NoSuchUpload."""
        ...

    async def put_part(
        self, bucket: Bucket, key: str, upload_id: str, number: int, source: Source, real_md5: bool = False,
        seal: Seal | None = None,
    ) -> PartInfo:
        """`seal`: that of the upload, if it has one; KeyNeeded without it."""
        ...

    async def parts(self, bucket: Bucket, key: str, upload_id: str, after: int, limit: int) -> tuple[Sequence[PartInfo], bool]:
        """Parts with a number above `after`, in order, and whether there are more."""
        ...

    async def uploads(
        self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str], limit: int
    ) -> UploadListing:
        """Open uploads behind (key, upload id), by key then time of initiation; common prefixes; truncated; next marker.
        An empty upload id in `after` means behind all uploads of that key."""
        ...

    async def complete_upload(
        self, bucket: Bucket, key: str, upload_id: str, parts: Sequence[PartRef], condition: Condition = always,
        checksums: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """InvalidPart, InvalidPartOrder, PartTooSmall, NoSuchUpload, DigestMismatch. Completing twice gives the same answer."""
        ...

    async def abort_upload(self, bucket: Bucket, key: str, upload_id: str) -> None: ...


class RepairAPI(Protocol):
    """What `admin` may ask besides."""

    async def inspect(self, bucket: Bucket, key: str, deep: bool = True) -> Sequence[KeyHealth]:
        """All versions of a key, newest first; NoSuchKey when no volume has a row. `deep`: every shard is read whole, else only
        its size and footer are looked at."""
        ...

    async def heal(self, bucket: Bucket, key: str) -> Healed:
        """Read every shard of every version whole and make again what is missing or bad, rows too. NoSuchKey."""
        ...

    async def reencode(self, bucket: Bucket, key: str, ftt: str) -> ObjectInfo:
        """Give an object another fault tolerance, and change nothing else that a client can see. NoSuchKey,
        InvalidFaultTolerance, Unavailable, InsufficientStorage, OutcomeUnknown, DataLost."""
        ...

    async def discard(self, bucket: Bucket, key: str) -> Sequence[Discarded]:
        """Give up the writes of a key that are undecided because volumes are lost: they may have been acknowledged. Unavailable
        when too few volumes answer."""
        ...

    async def repair_status(self) -> RepairStatus: ...


def info_of(record: Record) -> ObjectInfo:
    """An object's record as its callers see it."""
    return ObjectInfo(record.key.decode(), record.size, record.etag, record.modified, record)
