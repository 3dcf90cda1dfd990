"""Answers that were given at once, by request: one that is just like a request before, of an object that is still the same, gets
the same head without its being made again.

The head of the answer to a GET or HEAD is decided by the method, the raw target, all headers but those that merely introduce or
sign the request, who sent it, and the records of bucket and object: if all of these are the same bytes, so is the head, but for
id and date. Every request is authenticated before it is looked up here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from abixio.message import ID, Again, Repeated, Request, Response, Template
from abixio.s3.sigv4 import Identity
from abixio.store.types import AtHand

KEPT: Final = 4096
"""Answers remembered, each of 2 KiB or so."""
LONGEST: Final = 2048
"""Bytes of a target that is worth it, and of the headers that matter."""
DULL: Final = frozenset({
    "host", "user-agent", "accept", "accept-encoding", "accept-language", "connection", "cache-control", "pragma",
    "content-length",
})
"""Headers that change nothing in the answer to a GET or HEAD that is signed in its URL (but the host may name the bucket)."""
SIGNING: Final = DULL | {
    "authorization", "date", "x-amz-date", "x-amz-content-sha256", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-user-agent",
}
"""The same where the signature is in the headers, once it was found right."""

Key = tuple[str, bytes, str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Given:
    """An answer, and what it was made from."""

    stored: tuple[bytes, bytes]
    """The records of bucket and object."""
    template: Template

    def again(self, id: str, source: AtHand | None, again: Again | None = None) -> Repeated | None:
        """The same answer, if it were made from the same records."""
        if source is None or source.stored != self.stored:
            return None
        data = source.data()
        return None if data is None else Repeated(self.template, id, data, again)


class Answered:
    """Remembers the newest KEPT answers."""

    def __init__(self) -> None:
        self._given: OrderedDict[Key, Given] = OrderedDict()

    def find(self, request: Request, identity: Identity) -> Given | None:
        return self._given.get(_key(request, identity))

    def keep(self, request: Request, identity: Identity, response: Response, source: AtHand) -> Given | None:
        """`request` was answered so, out of that; None where it is not worth remembering."""
        key = _key(request, identity)
        if response.status != 200 or len(request.target) > LONGEST:
            return None
        if key[-1] and sum(len(a) + len(b) for a, b in key[-1]) > LONGEST:
            return None
        place = response.headers.index((ID, request.id))
        template = Template(200, response.headers[:place] + response.headers[place + 1 :], place)
        given = self._given[key] = Given(source.stored, template)
        if len(self._given) > KEPT:
            self._given.popitem(last=False)
        return given


def _key(request: Request, identity: Identity) -> Key:
    headers = request.headers
    matter = tuple([item for item in headers.items() if item[0] not in SIGNING])
    return request.method, request.target, headers.get("host", ""), identity.access_key, matter
