"""Request heads that were answered with a `Repeated`: one that comes again in the same bytes is the same request, and is not read
anew.

What an application says of a request follows from its head; an answer that depended on more, as on the peer, would not be given
by way of `Repeated.again`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from abixio.message import Again

KEPT: Final = 4096
"""Heads remembered, of 400 bytes or so each."""
LONGEST: Final = 4096
"""Bytes of a head that is worth it."""


class Known:
    """Remembers the newest KEPT heads of requests without a body, behind which the connection lives on."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Again] = OrderedDict()
        self.find = self._known.get

    def keep(self, raw: bytes, again: Again) -> None:
        if len(raw) <= LONGEST:
            self._known[raw] = again
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
