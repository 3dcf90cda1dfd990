"""The read path: an open object, streamed as verified slices.

Objects in the catalog are read at once when they are opened. Of the others, shards are opened and stripes are prepared
(pages faulted in, blocks verified, lost pieces rebuilt) on an executor thread, one stripe ahead of what is being sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from typing import Final, NamedTuple, Protocol

from abixio.config import KIB
from abixio.message import Buffer
from abixio.store.buffers import Loan
from abixio.store.decoder import Decoder
from abixio.store.layout import Stripe, stripe_at, stripe_size, stripes
from abixio.store.openpart import OpenPart
from abixio.store.pool import Pool, let_go
from abixio.store.record import Record
from abixio.store.sources import Copies, at_hand, whole
from abixio.store.types import ObjectInfo, Reader, info_of
from abixio.volume.interface import Row

EAGER: Final = 256 * KIB
"""Parts up to here are prepared whole in the job that opens them: saves the second hand-over (0.1 ms), and even for the
shortest range costs no more than that."""
_NO_ROOM: Final = memoryview(bytearray())


class StoredReader(Reader, Protocol):
    """Streams what is stored of an object; where it is encrypted, that is not the object (see `sealing`)."""

    @property
    def memory(self) -> Loan:
        """For all that leaves with the answer."""
        ...


async def open_reader(pool: Pool, record: Record, rows: Mapping[int, Row]) -> StoredReader:
    """Open an object for which `rows` are the known copies of its record by slot. DataLost when too few shards are there."""
    if not record.size or record.layout is None:
        return BytesReader(pool, info_of(record), b"")
    copies = Copies(record, record.layout, rows)
    if copies.inline:
        data = at_hand(pool, copies)
        return BytesReader(pool, info_of(record), await _wait_for(pool, copies) if data is None else data)
    reader = StripeReader(pool, copies)
    try:
        await reader.open()
    except BaseException:
        await reader.aclose()
        raise
    return reader


async def _wait_for(pool: Pool, copies: Copies) -> bytes:
    """An object in the catalogs, by a thread that waits for the disks."""
    part = OpenPart(pool, copies, copies.record.parts[0])
    try:
        return await part.run(whole)
    finally:
        part.close()


class BytesReader:
    """An object that is in memory."""

    def __init__(self, pool: Pool, info: ObjectInfo, data: bytes) -> None:
        self.info = info
        self._pool = pool
        self._data = data

    @cached_property
    def memory(self) -> Loan:
        return self._pool.buffers.loan()

    async def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        """One slice."""
        if length:
            yield self._data if length == len(self._data) else memoryview(self._data)[start : start + length]

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Step(NamedTuple):
    """A range within one stripe of one part."""

    part: int
    stripe: Stripe
    start: int
    stop: int


class StripeReader:
    """An object in shard files. They are kept from being unlinked until it is closed. One stream at a time."""

    def __init__(self, pool: Pool, copies: Copies) -> None:
        self.info = info_of(copies.record)
        self._pool = pool
        self._copies = copies
        self._number = -1
        self._part: OpenPart | None = None
        """The part that is open, the one with that number."""
        self._ahead: asyncio.Task[list[memoryview]] | None = None
        """The stripe that is prepared while another is sent."""
        self._ready: list[memoryview] | None = None
        """All of a small first part."""
        self.memory = pool.buffers.loan()
        self._closed = False
        pool.pins.update(copies.record.write_ids)

    async def open(self) -> None:
        """Open the first part's shards."""
        await self._open(0)

    async def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        """Verified slices of the stored bytes [start, start + length). DataLost when too few good shards are left."""
        steps = self._steps(start, start + length)
        step = next(steps, None)
        try:
            while step is not None:
                views = await (self._prepare(step) if self._ahead is None else self._ahead)
                step = next(steps, None)
                self._ahead = None if step is None else self._pool.loop.create_task(self._prepare(step))
                for view in views:
                    yield view
        finally:
            self._forget_ahead()

    def _forget_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
            ahead.cancel()

    async def aclose(self) -> None:
        """Let go of everything; a job that still runs on a thread lets go when it is done. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        let_go(self._pool.pins, self._copies.record.write_ids)
        self._ready = None
        self.memory = self._pool.buffers.loan()
        self._forget_ahead()
        if self._part is not None:
            self._part.close()

    def _steps(self, start: int, stop: int) -> Iterator[_Step]:
        base = 0
        for number, part in enumerate(self._copies.record.parts):
            low, high = max(start - base, 0), min(stop - base, part.stored)
            if low < high:
                for stripe in stripes(self._copies.layout, part.stored, low, high):
                    yield _Step(number, stripe, max(low, stripe.start), min(high, stripe.start + stripe.length))
            base += part.stored

    # ---- parts and stripes -------------------------------------------------------------------------------------------
    async def _open(self, number: int) -> OpenPart:
        """A part, its shards open."""
        if self._part is not None and self._number == number:
            return self._part
        if self._part is not None:
            self._part.close()
        part = self._part = OpenPart(self._pool, self._copies, self._copies.record.parts[number])
        self._number = number
        await part.run(self._begin, number)
        return part

    def _begin(self, source: Decoder, number: int) -> None:
        """On a thread: open a part's shards and, of a small first part, prepare all."""
        source.open()
        size = source.part.stored
        if number == 0 and 0 < size <= min(EAGER, stripe_size(source.layout)):
            self._ready = source.read(stripe_at(source.layout, size, 0), 0, size, _NO_ROOM)

    async def _prepare(self, step: _Step) -> list[memoryview]:
        """The slices of a step."""
        if step.part == 0 and self._ready is not None:
            return _cut(self._ready, step.start, step.stop)
        part = await self._open(step.part)
        while True:
            source = part.decoder
            need = source.room(step.stripe, step.start, step.stop)
            room = await self.memory.take(need) if need else _NO_ROOM
            views = await part.run(Decoder.read, step.stripe, step.start, step.stop, room)
            # A job that was given up on the way still has that room, and may write another piece into it at any time.
            if views is not None and (not need or part.decoder is source):
                return views


def _cut(views: list[memoryview], start: int, stop: int) -> list[memoryview]:
    """The bytes [start, stop) of consecutive views."""
    found, base = [], 0
    for view in views:
        low, high = max(start - base, 0), min(stop - base, len(view))
        if low < high:
            found.append(view[low:high])
        base += len(view)
    return found
