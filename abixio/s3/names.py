"""What a request target names: bucket, key and parameters, exactly as the client wrote them; and the rules for names.

The path is percent-decoded once and cut at its second slash. Nothing is normalised: `..`, `.`, `//` and a trailing slash
are ordinary parts of a key, and a `+` in the path is a plus sign. In the query a `+` is a space, as S3 reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from abixio import _sign
from abixio.config import MAX_KEY_BYTES
from abixio.s3.errors import S3Error

REMEMBERED: Final = 1024
"""Targets without a query kept taken apart, of a KiB each at most: objects that are read again and again."""
LONGEST: Final = 256
_WIDEST: Final = 4
"""Bytes of a character in UTF-8 at most."""

BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""3 to 63 characters, as S3 since 2018."""
ASKED: Final = re.compile(r"[A-Za-z0-9._-]{3,255}")
DOTTED_QUAD: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


@dataclass(slots=True)
class Target:
    """A request target, taken apart."""

    path: bytes
    """As received; starts with a slash."""
    query: bytes
    """As received, without the question mark."""
    bucket: str
    """Empty for the service itself."""
    key: str
    """Empty for a bucket."""
    params: dict[str, str]
    """Query parameters by name. `?uploads` is there with an empty value."""
    hosted: str = ""
    """The bucket, when the Host header names it and the path does not."""

    @property
    def resource(self) -> str:
        """What an error calls the resource: the path as text."""
        return self.path.decode("ascii", "replace")


def parse_target(target: bytes, hosted: str = "") -> Target:
    """`hosted`: the bucket that the Host header named, so that all of the path is a key. InvalidURI when an escape is broken
    or what is escaped is not UTF-8; InvalidBucketName for a key without a bucket; InvalidArgument when a parameter has two
    values. Not to be changed: the next request for it may get the same one."""
    return _parse(target, hosted) if b"?" in target or len(target) > LONGEST else _remembered(target, hosted)


def _parse(target: bytes, hosted: str) -> Target:
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/"):
        raise _invalid(target)
    bucket, key = hosted, decode_path(path)[1:]
    if not hosted:
        bucket, _, key = key.partition("/")
    if key and not bucket:
        raise S3Error("InvalidBucketName", BucketName="")
    pairs = query_pairs(query)
    params = dict(pairs)
    if len(params) < len(pairs):
        _check_repeated(pairs)
    return Target(path, query, bucket, key, params, hosted)


_remembered = lru_cache(maxsize=REMEMBERED)(_parse)


def _check_repeated(pairs: list[tuple[str, str]]) -> None:
    """The signature covers a query as a sorted list: whichever of two values came first could be changed by anybody."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise S3Error("InvalidArgument", "A query parameter has two values.", ArgumentName=name, ArgumentValue=value)


def query_pairs(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a raw query, decoded, in order."""
    try:
        return _sign.query_pairs(query)
    except ValueError as error:
        raise _invalid(error.args[0]) from error


def decode_path(raw: bytes) -> str:
    """Percent-encoded UTF-8 as text: the path of a request or of a header like x-amz-copy-source, or one parameter."""
    try:
        return _sign.decoded(raw)
    except ValueError as error:
        raise _invalid(raw) from error


def _invalid(raw: bytes) -> S3Error:
    return S3Error("InvalidURI", URI=raw.decode("ascii", "replace"))


def check_bucket_name(name: str) -> None:
    """InvalidBucketName unless S3 would create a bucket of that name."""
    if (
        not BUCKET.fullmatch(name)
        or any(pair in name for pair in ("..", ".-", "-."))
        or DOTTED_QUAD.fullmatch(name)
        or name.startswith(RESERVED_PREFIXES)
        or name.endswith(RESERVED_SUFFIXES)
    ):
        raise S3Error("InvalidBucketName", BucketName=name)


@lru_cache(maxsize=256)
def check_asked_name(name: str) -> None:
    """InvalidBucketName when S3 would not even look for a bucket of that name. Before 2018 it let names have capitals,
    underscores and up to 255 characters, so that they are still looked for, and not found."""
    if not ASKED.fullmatch(name):
        raise S3Error("InvalidBucketName", BucketName=name)


def check_key(key: str) -> None:
    """KeyTooLongError, or InvalidArgument for an empty key. Every other string is a key."""
    if not key:
        raise S3Error("InvalidArgument", "Object key must not be empty.", ArgumentName="key")
    if len(key) * _WIDEST > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", Size=len(key.encode()), MaxSizeAllowed=MAX_KEY_BYTES)
