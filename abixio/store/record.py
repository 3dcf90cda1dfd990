"""The record: what the pool remembers of one version of one key, byte-identical on every volume.

Encoded as a MessagePack map with short names (docs/format.md). Fields that a newer writer added and this reader does not
know are refused when the writer marked them so (`incompat`), else preserved by never rewriting a stored record.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import msgspec
from xxhash import xxh3_64_intdigest

from abixio.errors import CatalogCorrupt

FORMAT: Final = 1
ROOT: Final = bytes(16)
"""The space whose keys are bucket names."""

NULL: Final = "null"
"""The id of the one version that was written while the bucket was not versioned, or while versioning was suspended."""

Hides = Literal["older", "null", "one", "none"]
"""See `versions`."""
Kind = Literal["object", "tombstone", "marker", "kill", "bucket", "upload", "part", "completed", "setting"]
"""object, part: have data. tombstone: a delete in an unversioned bucket, or of a bucket, upload or part. marker, kill:
delete marker and removal of one version (versioned buckets). upload: an open multipart upload. completed: what it became.
setting: a document that is kept with a bucket."""


class Layout(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an object's bytes lie on the volumes. Slots stand in shard order: the k data shards first, then m parity."""

    k: int
    m: int
    slots: tuple[int, ...]
    chunk: int
    """Bytes of one shard's piece of a full stripe; the stripe is k of them."""
    block: int = 65536
    codec: str = "rs-vandermonde-11d"
    checksum: str = "xxh3-64"
    compression: str = ""
    pool: int = 0


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of bytes that was written by one upload. A plain object has one."""

    write_id: bytes
    number: int
    size: int
    stored: int
    """Bytes before erasure coding: with those of the tags, where it is encrypted (see `sealing`)."""
    etag: str = ""
    checksums: dict[str, str] = {}
    salt: bytes = b""
    """Of encrypted bytes: what their key is derived with."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: Kind
    space: bytes
    key: bytes
    seq: int
    w: int
    """Write quorum, decided at commit: the row counts as committed once so many volumes hold it."""
    rev: int = 0
    hides: Hides = "older"
    hidden: int = 0
    """The seq of the version that a kill removes. One that removes the null version `hides` all null versions besides."""
    versioned: bool = False
    """Written while versioning was enabled: has a version id of its own. Else it is the null version."""
    format: int = FORMAT
    incompat: tuple[str, ...] = ()
    ro_compat: tuple[str, ...] = ()
    compat: tuple[str, ...] = ()
    modified: int = 0
    """Last-Modified, ms since 1970; not the seq."""
    owner: str = ""
    size: int = 0
    etag: str = ""
    layout: Layout | None = None
    parts: tuple[Part, ...] = ()
    headers: dict[str, str] = {}
    """System metadata by lower-case header name: content-type, cache-control, ..."""
    meta: dict[str, str] = {}
    """User metadata, without the x-amz-meta- prefix."""
    checksums: dict[str, str] = {}
    """Algorithm (crc32, crc32c, crc64nvme, sha1, sha256) -> base64, as S3 shows it."""
    checksum_type: str = ""
    encryption: dict[str, str] = {}
    """The wrapped key of an encrypted object, and what is said of it (see `sealing`)."""
    tags: dict[str, str] = {}
    lock: dict[str, str] = {}
    """Object lock: `mode` and `until` (ms since 1970) of the retention, `hold` of a legal hold."""
    settings: dict[str, str] = {}
    """Of a bucket: ftt, region, id; of an upload: its id, checksum algorithm and type."""
    upload: bytes = b""
    """Of an upload, of the object completed from it, and of the tombstone of an upload: the upload's id. Of a part: the space and
    the key of its upload's record."""
    top: int = -1
    """Of a record that leaves older versions to be seen: the highest fault tolerance among the rows of its key when it was made,
    its own included. -1: not said."""
    pair: bytes = b""
    """Of the two records of a rename, an object and a tombstone of one seq: the key of the other (see `pairs`)."""

    @property
    def write_ids(self) -> tuple[bytes, ...]:
        """The shards that this record keeps alive."""
        return tuple(part.write_id for part in self.parts)


def version_id(record: Record) -> str:
    """The id of a version as S3 shows it."""
    return version_name(record.space, record.seq) if record.versioned else NULL


def version_name(space: bytes, seq: int) -> str:
    """Opaque to clients: 32 hex digits, the seq and a mark by which an id of another bucket is known."""
    return f"{seq:016x}{xxh3_64_intdigest(space + seq.to_bytes(8, 'big')):016x}" if seq < 1 << 63 else ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode
SMALL: Final = 2048
"""Bytes of a stored record of one part, with all its metadata; those of thousands of parts are not worth remembering."""
REMEMBERED: Final = 1024
"""Records kept unpacked, 2 MiB at most: buckets, and objects that are read again and again."""
SEALED: Final = "sealed"
"""The feature without which a reader would take the stored bytes of an encrypted object for its own."""
PAIRED: Final = "paired"
"""The feature without which a reader would decide one record of a rename without the other."""
_KNOWN_FEATURES: Final[frozenset[str]] = frozenset({SEALED, PAIRED})


def unpaired(record: Record) -> Record:
    """What is made of a renamed object is no half of that rename."""
    if not record.pair:
        return record
    return msgspec.structs.replace(record, pair=b"", incompat=tuple(name for name in record.incompat if name != PAIRED))


def pack(record: Record) -> bytes:
    """The stored form: MessagePack, then the XXH3-64 of it, little-endian."""
    body = _encode(record)
    return body + xxh3_64_intdigest(body).to_bytes(8, "little")


def unpack(stored: bytes) -> Record:
    """CatalogCorrupt when the hash does not match or the record asks for a feature that this version does not know."""
    return _remembered(stored) if len(stored) <= SMALL else _unpack(stored)


def _unpack(stored: bytes) -> Record:
    body = stored[:-8]
    if xxh3_64_intdigest(body) != int.from_bytes(stored[-8:], "little"):
        raise CatalogCorrupt("a record does not match its hash")
    try:
        record = _decode(body)
    except msgspec.MsgspecError as error:
        raise CatalogCorrupt(f"a record that this version does not understand: {error}") from error
    if record.format != FORMAT or not _KNOWN_FEATURES.issuperset(record.incompat):
        raise CatalogCorrupt(f"a record of format {record.format} needs {record.incompat}, which this version lacks")
    return record


_remembered = lru_cache(REMEMBERED)(_unpack)
