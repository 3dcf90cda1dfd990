"""What an admin request asks for: its parameters, or the JSON document in its body, read within bounds and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from abixio._sign import is_sha256
from abixio.codec.digest import Digests
from abixio.config import KIB
from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.names import check_asked_name, check_key
from abixio.s3.payload import document_source
from abixio.s3.sigv4 import Identity

MAX_BODY: Final = 16 * KIB
"""A key of 1,024 bytes, each of them escaped, is 6 KiB of JSON."""

T = TypeVar("T", bound=msgspec.Struct)


class NoAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Of a job that needs no more words."""


class HealAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One key, all keys with a prefix (an empty one: all of the bucket), or all of all buckets."""

    bucket: str = ""
    key: str | None = None
    prefix: str | None = None
    all: bool = False

    def check(self) -> None:
        """S3Error unless it says exactly one of the three."""
        if self.all:
            if self.bucket or self.key is not None or self.prefix is not None:
                raise wrong('"all" goes without bucket, key and prefix')
            return
        check_objects(self.bucket, self.key, self.prefix)


class DiscardAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One key, and no other way to name it: what is discarded may have been acknowledged."""

    bucket: str
    key: str


class FttAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The same, and the FTT that the objects shall have."""

    bucket: str
    ftt: int | str
    key: str | None = None
    prefix: str | None = None


def wrong(message: str) -> S3Error:
    return S3Error("InvalidArgument", message)


def check_objects(bucket: str, key: str | None, prefix: str | None) -> None:
    """S3Error unless that names one key or one prefix."""
    check_asked_name(bucket)
    if (key is None) == (prefix is None):
        raise wrong('give "key" for one object or "prefix" for many')
    if key is not None:
        check_key(key)
    elif prefix:
        check_key(prefix)


def parameters(params: Mapping[str, str], *names: str, **optional: str) -> tuple[str, ...]:
    """The values of exactly these parameters; those of a presigned URL may be there too. `optional`: name and default."""
    for name in params:
        if name not in names and name not in optional and not name.lower().startswith("x-amz-"):
            raise wrong(f"there is no parameter {name!r} here")
    for name in names:
        if name not in params:
            raise wrong(f"the parameter {name!r} is missing")
    return *(params[name] for name in names), *(params.get(name, default) for name, default in optional.items())


def check_signed_whole(request: Request, identity: Identity) -> None:
    """A change needs a signature that covers all of it, made for this one request: a URL can be kept and sent again for a
    week, and of an unsigned body anybody on the way can make another."""
    if "authorization" not in request.headers or not is_sha256(identity.payload):
        raise S3Error("AccessDenied", "A change needs an Authorization header that signs the SHA-256 of the body.")


async def document(request: Request, identity: Identity, kind: type[T]) -> T:
    """The body as a `kind`; none at all stands for an empty object."""
    source = document_source(request, identity, checksums=True)
    room = bytearray(MAX_BODY + 1)
    count = 0
    if source.length is None or source.length <= MAX_BODY:
        count = await source.readinto(memoryview(room))
    if count > MAX_BODY or (source.length or 0) > MAX_BODY:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=MAX_BODY)
    digests = Digests(source.algorithms)
    digests.update(memoryview(room)[:count])
    source.verify(digests.digests())
    try:
        return msgspec.json.decode(bytes(room[:count]) or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise wrong(f"the body is not what belongs here: {error}") from error
