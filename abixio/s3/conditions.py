"""Conditional requests: If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since and If-Range (RFC 9110, section 13).

One rule, `verdict`, with the precedence of RFC 9110 13.2.2; reads, writes and copy sources differ only in what a
condition that does not hold is answered with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from abixio.errors import NoSuchKey, PreconditionFailed
from abixio.s3.errors import S3Error
from abixio.store.types import Condition, ObjectInfo, always

_TAG: Final = re.compile(r'[\s,]*(?:(W/)?"([^"]*)"|([^\s,"]+))\s*(?:,|$)')

_ISO: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
MODIFIED: Final = "x-amz-if-match-last-modified-time"
SIZE: Final = "x-amz-if-match-size"
"""On a delete. S3 has them for its directory buckets."""


class Validators(Protocol):
    """What a condition looks at; an ObjectInfo is one."""

    @property
    def etag(self) -> str: ...
    @property
    def modified(self) -> int: ...


class Conditions(NamedTuple):
    """The conditional headers of one request, as sent."""

    match: str | None = None
    none_match: str | None = None
    modified_since: str | None = None
    unmodified_since: str | None = None

    def __bool__(self) -> bool:
        return not (self.match is self.none_match is self.modified_since is self.unmodified_since is None)


NONE: Final = Conditions()
_ALL: Final = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
_ON_WRITES: Final = frozenset({"if-match", "if-none-match", "if-unmodified-since"})
"""RFC 9110 13.1.3: If-Modified-Since is for GET and HEAD only."""


def read(headers: Mapping[str, str], prefix: str = "") -> Conditions:
    """The conditions in `headers`; those on a copy's source have the prefix `x-amz-copy-source-`."""
    if not prefix and headers.keys().isdisjoint(_ALL):
        return NONE
    get = headers.get
    return Conditions(get(prefix + "if-match"), get(prefix + "if-none-match"), get(prefix + "if-modified-since"),
                      get(prefix + "if-unmodified-since"))


def check_read(conditions: Conditions, info: Validators) -> bool:
    """For GET and HEAD: PreconditionFailed (412); False when the client has the object already (304)."""
    if not conditions:
        return True
    failed = verdict(conditions, info)
    if failed in ("If-None-Match", "If-Modified-Since"):
        return False
    if failed:
        raise PreconditionFailed(failed)
    return True


def check_source(conditions: Conditions, info: Validators) -> None:
    """For the source of a copy: whatever does not hold is a 412."""
    failed = verdict(conditions, info)
    if failed:
        raise PreconditionFailed(f"x-amz-copy-source-{failed}")


def for_write(headers: Mapping[str, str]) -> Condition:
    """The store's condition for PUT, CopyObject and CompleteMultipartUpload. If-None-Match knows only `*`, as in S3: with an
    ETag it is 501. If-Match on a key that has no object is 404, as in S3."""
    if headers.keys().isdisjoint(_ON_WRITES):
        return always
    conditions = read(headers)
    if conditions.none_match is not None and conditions.none_match != "*":
        raise S3Error("NotImplemented", Header="If-None-Match")
    conditions = Conditions(conditions.match, conditions.none_match, None, conditions.unmodified_since)

    def hold(current: ObjectInfo | None) -> None:
        if current is None:
            if conditions.match is not None:
                raise NoSuchKey
            return
        failed = verdict(conditions, current)
        if failed:
            raise PreconditionFailed(failed)

    return hold


class Doom(NamedTuple):
    """What an object has to be for a delete of it to go ahead, as the client wrote it; S3's own three forms."""

    etag: str | None = None
    modified: str | None = None
    size: str | None = None


_ANY_DOOM: Final = Doom()


def for_delete(doom: Doom, conditions: Conditions = NONE) -> Condition:
    """The store's condition for DeleteObject, and for each key of DeleteObjects. Deleting what is not there stays a success,
    but with If-Match it is a 404, as in S3. InvalidArgument for a size or time that is none."""
    if doom == _ANY_DOOM and not conditions:
        return always
    if doom.size is not None and not _SIZE.fullmatch(doom.size):
        raise S3Error("InvalidArgument", "The size is not a number of bytes.", ArgumentName=SIZE, ArgumentValue=doom.size)
    modified = None if doom.modified is None else _seconds(doom.modified)
    if doom.modified is not None and modified is None:
        raise S3Error("InvalidArgument", "The time cannot be read.", ArgumentName=MODIFIED, ArgumentValue=doom.modified)
    # RFC 9110 13.1.3: If-Modified-Since is for GET and HEAD only.
    conditions = Conditions(doom.etag, conditions.none_match, None, conditions.unmodified_since)
    if not conditions and doom.size is None and modified is None:
        return always

    def hold(current: ObjectInfo | None) -> None:
        if current is None:
            if doom.etag is not None:
                raise NoSuchKey
            return
        failed = verdict(conditions, current)
        if failed:
            raise PreconditionFailed(failed)
        if doom.size is not None and int(doom.size) != current.size:
            raise PreconditionFailed(SIZE)
        if modified is not None and modified != current.modified // 1000:
            raise PreconditionFailed(MODIFIED)

    return hold


def range_applies(if_range: str | None, info: Validators) -> bool:
    """If-Range: the range is served only from the very representation that the client has parts of; else the whole."""
    if if_range is None:
        return True
    if '"' in if_range:
        return _matches(if_range, info.etag, weak=False)
    # A date has to be the same, not later; an ETag without quotes is not a date and is compared as what it is.
    since = _seconds(if_range)
    return info.modified // 1000 == since if since is not None else if_range == info.etag


def verdict(conditions: Conditions, info: Validators) -> str:
    """The name of the first condition that does not hold, empty when all do. Steps 1 to 4 of RFC 9110 13.2.2."""
    if conditions.match is not None:
        if not _matches(conditions.match, info.etag, weak=False):
            return "If-Match"
    elif conditions.unmodified_since is not None:
        since = _seconds(conditions.unmodified_since)
        if since is not None and info.modified // 1000 > since:
            return "If-Unmodified-Since"
    if conditions.none_match is not None:
        if _matches(conditions.none_match, info.etag, weak=True):
            return "If-None-Match"
    elif conditions.modified_since is not None:
        since = _seconds(conditions.modified_since)
        if since is not None and info.modified // 1000 <= since:
            return "If-Modified-Since"
    return ""


def _matches(header: str, etag: str, weak: bool) -> bool:
    """Whether the list of tags names this one. S3 clients also send tags without quotes. Ours are strong, so a weak tag
    matches only where RFC 9110 asks for the weak comparison."""
    if header.strip() == "*":
        return True
    at = 0
    while match := _TAG.match(header, at):
        mark, quoted, bare = match.groups()
        if (weak or not mark) and (quoted if bare is None else bare) == etag:
            return True
        at = match.end()
        if at >= len(header):
            return False
    return False


@lru_cache(maxsize=256)
def _seconds(date: str) -> int | None:
    """A date in any of the three forms of RFC 9110, or that of XML, as seconds since 1970; None for anything else, which RFC
    9110 wants ignored."""
    try:
        moment = datetime.fromisoformat(date) if _ISO.match(date) else parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:  # asctime's form and `-0000` name no zone; RFC 9110: GMT
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())
