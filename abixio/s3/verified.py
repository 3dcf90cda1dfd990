"""Presigned URLs that were found good: a URL that is fetched again is not verified again, only its dates are.

What is remembered depends on nothing but the method, the raw target and the Host header, since only URLs that sign just
the host and come without any x-amz-* or Authorization header are. Verifying one takes 45 us, a look in here 3 us.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from abixio.message import Request
from abixio.s3.names import Target
from abixio.s3.sigv4 import Identity
from abixio.s3.sigv4_claim import check_dates

KEPT: Final = 4096
"""URLs remembered, each of 1 KiB or so."""
LONGEST: Final = 2048
"""Bytes of a URL that is worth it: a long key and a usual signature."""

_Key = tuple[str, bytes, str]


class _Good(NamedTuple):
    target: Target
    identity: Identity


class Verified:
    """Remembers the newest KEPT good URLs."""

    def __init__(self) -> None:
        self._good: OrderedDict[_Key, _Good] = OrderedDict()

    def find(self, request: Request, now: float) -> _Good | None:
        """What was found for the same request before; S3Error when its time is over by now."""
        key = _key(request)
        good = None if key is None else self._good.get(key)
        if good is not None:
            check_dates(good.target.params, now)
        return good

    def keep(self, request: Request, target: Target, identity: Identity) -> None:
        """`request` was found good, and its signature covers just the host."""
        key = _key(request)
        if key is None:
            return
        self._good[key] = _Good(target, identity)
        if len(self._good) > KEPT:
            self._good.popitem(last=False)


def _key(request: Request) -> _Key | None:
    """None when more of the request than this could change who sent it."""
    if len(request.target) > LONGEST:
        return None
    for name in request.headers:
        if name == "authorization" or name.startswith("x-amz-"):
            return None
    return request.method, request.target, request.headers.get("host", "")
