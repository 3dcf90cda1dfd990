"""What all connections of one event loop have in common."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from abixio.http.limits import Limits
from abixio.message import Application
from abixio.transport.known import Known

if TYPE_CHECKING:
    from abixio.transport.protocol import Connection

ROOM: Final = 64 * 1024
"""Bytes of the receive buffer. One read brings a head with all of a small body, and the event loop suggests this size."""


@dataclass(slots=True)
class Shared:
    """Made by the server, given to every connection."""

    app: Application
    limits: Limits
    loop: asyncio.AbstractEventLoop
    room: memoryview = field(default_factory=lambda: memoryview(bytearray(ROOM)))
    """Every connection receives into it what has no better place. That is safe because the event loop calls get_buffer,
    reads, and calls buffer_updated without anything in between, also under TLS; so 10,000 idle connections need one."""
    known: Known = field(default_factory=Known)
    connections: set[Connection] = field(default_factory=set)
    """Those that are not lost, and lost ones whose handler still runs."""
    draining: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while draining, whenever a request or a connection ends."""

    def tell(self) -> None:
        """A request or a connection has ended."""
        if self.draining:
            self.changed.set()

    @property
    def crowded(self) -> bool:
        return len(self.connections) > self.limits.connections
