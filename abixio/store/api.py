"""What may be asked of the store: its operations, for `s3` and for `admin`. What they take and give stands in `types`."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from abixio.store.health import Discarded, Healed, KeyHealth, RepairStatus
from abixio.store.record import Record
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
    Reader,
    Says,
    Seal,
    Source,
    Unlock,
    Upload,
    UploadListing,
    VersionListing,
    always,
    no_key,
)

T = TypeVar("T")


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
