"""Presigned URLs that were found good: one that is used again is not verified again, only its dates are.

What is remembered depends on nothing but the method, the raw target and the Host header, since only URLs that sign just
the host and come without any x-amz-* or Authorization header are. Such a URL leads to the head of the answer too, if the request
has no header that could change that (see `answered`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from abixio.message import Repeated, Request
from abixio.s3.answered import DULL, Given
from abixio.s3.names import Target
from abixio.s3.sigv4 import Identity
from abixio.s3.sigv4_claim import check_dates, valid_dates
from abixio.store.types import AtHand

KEPT: Final = 4096
"""URLs remembered, each of 2 KiB or so."""
LONGEST: Final = 2048
"""Bytes of a URL that is worth it: a long key and a usual signature."""

PLAIN: Final = DULL | {"content-type", "expect"}
"""Headers that most requests have at most, and that say nothing of who sent them."""

REPEATED: Final = ("GET", "HEAD")
"""Methods of requests that come again: a URL to write to is mostly used once."""

_Key = tuple[str, bytes, str]


@dataclass(slots=True)
class Good:
    """A URL that is good between two times (seconds since 1970)."""

    target: Target
    identity: Identity
    start: float
    end: float
    given: Given | None = None
    """What a request for it without further headers was answered."""
    ask: Callable[[], AtHand | None] | None = None
    """Gets what that was made from, as it is now."""

    def again(self, id: str) -> Repeated | None:
        """The same answer to another such request, if nothing has changed since."""
        if self.given is None or self.ask is None or not self.start <= time.time() <= self.end:
            return None
        return self.given.again(id, self.ask(), self.again)


class Verified:
    """Remembers the newest KEPT good URLs."""

    def __init__(self) -> None:
        self._good: OrderedDict[_Key, Good] = OrderedDict()

    def find(self, request: Request, now: float) -> Good | None:
        """What was found for the same request before; S3Error when its time is over by now."""
        key = _key(request)
        good = None if key is None else self._good.get(key)
        if good is not None and not good.start <= now <= good.end:
            check_dates(good.target.params, now)
        return good

    def plain(self, request: Request) -> Good | None:
        """The same of a request that has DULL headers only; its time may be over."""
        headers = request.headers
        return self._good.get((request.method, request.target, headers.get("host", ""))) if headers.keys() <= DULL else None

    def keep(self, request: Request, target: Target, identity: Identity) -> None:
        """`request` was found good, and its signature covers just the host."""
        key = _key(request) if request.method in REPEATED else None
        if key is None:
            return
        self._good[key] = Good(target, identity, *valid_dates(target.params))
        if len(self._good) > KEPT:
            self._good.popitem(last=False)


def _key(request: Request) -> _Key | None:
    """None when more of the request than this could change who sent it."""
    if len(request.target) > LONGEST:
        return None
    headers = request.headers
    if not headers.keys() <= PLAIN:
        if "authorization" in headers:
            return None
        for name in headers:
            if name.startswith("x-amz-"):
                return None
    return request.method, request.target, headers.get("host", "")
