"""A server with one of its choices taken back: `python -m bench.altered NAME FLAG...`, for `bench.record`.

What a function does here is what the server once did, or what others do; everything else is the server as it is.
"""

from __future__ import annotations

import os
import socket
import sys
from asyncio import BaseTransport
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from abixio.cli import main
from abixio.message import Buffer
from abixio.store import reader, upload
from abixio.store.store import Store
from abixio.transport.protocol import Connection

KIB: Final = 1 << 10
MIB: Final = 1 << 20
RING: Final = 8
"""Buffers that take turns: more than the transport can have unsent."""


def alter(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def collected() -> None:
    """The whole object is in memory before its first byte leaves."""
    stream = reader.StripeReader.stream

    async def whole(own: reader.StripeReader, start: int, length: int) -> AsyncIterator[Buffer]:
        yield b"".join([piece async for piece in stream(own, start, length)])

    alter(reader.StripeReader, "stream", whole)


def asked_again() -> None:
    """Bucket, settings and row are looked up for each request."""
    for name in ("at_hand", "bucket_at_hand"):
        alter(Store, name, lambda *anything: None)


def prepared(change: Callable[[list[memoryview]], list[memoryview]]) -> None:
    """All is verified on the thread that faults it in, and there something more is done with the slices of a run."""
    read = reader.read

    def more(*arguments: Any) -> list[memoryview] | None:
        views = read(*arguments)
        return None if views is None else change(views)

    alter(reader, "read", more)
    alter(reader, "load", more)


def copied() -> None:
    """Slices are copied out of the maps, as a read would."""
    prepared(lambda views: [memoryview(bytes(view)) for view in views])


def put_together() -> None:
    """A run is put together in new memory."""
    prepared(lambda views: [memoryview(b"".join(views))])


def put_together_in_turn() -> None:
    """A run is put together in memory that was used before."""
    rooms: dict[int, list[bytearray]] = {}

    def change(views: list[memoryview]) -> list[memoryview]:
        size, at = sum(map(len, views)), 0
        ring = rooms.setdefault(size, [])
        room = bytearray(size) if len(ring) < RING else ring.pop(0)
        ring.append(room)
        target = memoryview(room)
        for view in views:
            target[at : at + len(view)] = view
            at += len(view)
        return [target]

    prepared(change)


def on_connection(change: Callable[[Any], None]) -> None:
    """Something more is done with each connection."""
    made = Connection.connection_made

    def more(own: Connection, transport: BaseTransport) -> None:
        made(own, transport)
        change(own)

    alter(Connection, "connection_made", more)


def verified_ahead() -> None:
    """Slices of 4 MiB, verified on the thread that faults them in."""
    prepared(lambda views: views)
    on_connection(lambda own: setattr(own, "largest", 4 * MIB))


def delayed() -> None:
    """Nagle's algorithm."""
    on_connection(lambda own: own._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0))


def low() -> None:
    """asyncio's own limit of what is unsent."""
    def change(own: Any) -> None:
        own._high = 64 * KIB
        own._transport.set_write_buffer_limits(own._high)

    on_connection(change)


def in_two() -> None:
    """Head and first slice in two writes."""
    send = Connection.send

    def each(own: Connection, first: Buffer, second: Buffer = b"") -> None:
        send(own, first)
        if second:
            send(own, second)

    alter(Connection, "send", each)


def no_overlap() -> None:
    """The next stripe of a body is received when the last one is on its volumes."""
    alter(upload, "IN_FLIGHT", 0)


def two_buffers() -> None:
    """One stripe fills while one is worked on."""
    alter(upload, "IN_FLIGHT", 1)


def three_buffers() -> None:
    """One fills, one is hashed and encoded, one is written, and none is to spare."""
    alter(upload, "IN_FLIGHT", 2)


def by_thread() -> None:
    """Small files are opened and mapped on a thread."""
    alter(reader, "peek", lambda *anything: False)


def scalar() -> None:
    """Parity by the tables alone. The codec chooses its kernel when it is loaded, so this starts anew."""
    if os.environ.get("ABIXIO_GF256_KERNEL") != "scalar":
        os.environ["ABIXIO_GF256_KERNEL"] = "scalar"
        os.execv(sys.executable, [sys.executable, "-m", "bench.altered", *sys.argv[1:]])


ALTERED: Final[dict[str, Callable[[], None]]] = {
    change.__name__: change
    for change in (
        collected, asked_again, copied, put_together, put_together_in_turn, verified_ahead, delayed, low, in_two, by_thread,
        scalar, no_overlap, two_buffers, three_buffers,
    )
}

if __name__ == "__main__":
    ALTERED[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
