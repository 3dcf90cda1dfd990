"""What the store takes and gives: the vocabulary between `s3` and `store`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from abixio.errors import AbixioError, KeyNeeded
from abixio.message import Buffer
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


def info_of(record: Record) -> ObjectInfo:
    """An object's record as its callers see it."""
    return ObjectInfo(record.key.decode(), record.size, record.etag, record.modified, record)
