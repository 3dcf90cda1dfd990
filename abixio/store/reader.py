"""The read path: an open object, streamed as verified slices.

Objects in the catalog are read at once when they are opened, and so are small ones whose files are in the page cache: that is
done on the event loop, for a copy of 64 KiB takes 10 us, and a thread that opens and maps three files, with all its changes of
the GIL, 700. Of the others, shards are opened and stripes are prepared
(pages faulted in, blocks verified, lost pieces rebuilt) on an executor thread, ahead of what is being sent: one stripe where
pieces have to be rebuilt, else a few in one job, for each job costs a hand-over to a thread and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import Final, NamedTuple, Protocol

from abixio.config import KIB, MIB
from abixio.message import Buffer
from abixio.store.buffers import Loan, Rooms
from abixio.store.decoder import Decoder
from abixio.store.layout import stripe_at, stripe_size, stripes
from abixio.store.openpart import OpenPart
from abixio.store.pool import Pool
from abixio.store.record import Record
from abixio.store.sources import Copies, at_hand, open_now, peek, whole
from abixio.store.steps import Step, behind, cut, load, read, resident, verified
from abixio.store.types import ObjectInfo, Reader, info_of
from abixio.volume.interface import Row

EAGER: Final = 256 * KIB
"""Parts up to here are prepared whole in the job that opens them: saves the second hand-over (0.1 ms), and even for the
shortest range costs no more than that."""
AHEAD: Final = 16 * MIB
"""Prepared in one job, once a stream has shown that it goes on: a hand-over takes 0.2 ms of the event loop, and 4 MiB no more
than 2.5 ms to be sent. This is page cache, not memory of ours. So much is sent without a thread where
it is there when a stream begins."""
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
    (part, *more) = record.parts
    if not more and part.stored <= min(EAGER, stripe_size(copies.layout)):
        room = pool.buffers.scrap(part.stored)
        if room is not None and peek(pool, copies, part, room):
            return BytesReader(pool, info_of(record), room)
        del room
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

    def __init__(self, pool: Pool, info: ObjectInfo, data: bytes | memoryview) -> None:
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


class _Prepared(NamedTuple):
    steps: list[Step]
    views: Iterator[memoryview]
    """Good slices of them, in order, up to the first bytes that are not good as they are."""
    rest: list[Step]
    """Steps of the run that were left for another job."""


class StripeReader:
    """An object in shard files. They are kept from being unlinked until it is closed. One stream at a time."""

    def __init__(self, pool: Pool, copies: Copies) -> None:
        self.info = info_of(copies.record)
        self._pool = pool
        self._copies = copies
        self._number = -1
        self._part: OpenPart | None = None
        """The part that is open, the one with that number."""
        self._ahead: asyncio.Task[_Prepared] | None = None
        """What is prepared while something else is sent."""
        self._ready: list[memoryview] | None = None
        """All of a small first part."""
        self.memory = pool.buffers.loan()
        self._rooms = Rooms()
        """What was rebuilt in, for the next stripe to be rebuilt in."""
        self._closed = False
        pool.pins.take(copies.record.write_ids)

    async def open(self) -> None:
        """Open the first part's shards."""
        await self._open(0)

    async def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        """Verified slices of the stored bytes [start, start + length). DataLost when too few good shards are left."""
        runs = self._runs(start, start + length)
        run = next(runs, None)
        try:
            while run:
                # Until the first slice is out, an error can still become an answer.
                prepared = self._resident(run) or await (self._first(run) if self._ahead is None else self._ahead)
                run = prepared.rest or next(runs, None)
                self._ahead = self._pool.loop.create_task(self._prepare(run)) if run else None
                sent = 0
                for view in prepared.views:
                    sent += len(view)
                    yield view
                async for view in self._verify(behind(prepared.steps, sent)):
                    yield view
        finally:
            self._forget_ahead()

    async def _verify(self, run: list[Step]) -> AsyncIterator[memoryview]:
        """What could not be sent as it was prepared: verified on a thread, and rebuilt where it has to be."""
        if run and self._ahead is not None:
            await asyncio.wait((self._ahead,))  # a decoder is for one thread at a time
        while run:
            prepared = await self._prepare(run, True)
            run = prepared.rest
            for view in prepared.views:
                yield view

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
        self._pool.pins.let_go(self._copies.record.write_ids)
        self._ready = None
        self._rooms.clear()
        self.memory = self._pool.buffers.loan()
        self._forget_ahead()
        if self._part is not None:
            self._part.close()

    def _runs(self, start: int, stop: int) -> Iterator[list[Step]]:
        """The steps of a range in jobs of one part each."""
        run: list[Step] = []
        for step in self._steps(start, stop):
            if run and (step.part != run[0].part or step.stop - run[0].start > AHEAD):
                yield run
                run = []
            run.append(step)
        if run:
            yield run

    def _steps(self, start: int, stop: int) -> Iterator[Step]:
        base = 0
        for number, part in enumerate(self._copies.record.parts):
            low, high = max(start - base, 0), min(stop - base, part.stored)
            if low < high:
                for stripe in stripes(self._copies.layout, part.stored, low, high):
                    yield Step(number, stripe, max(low, stripe.start), min(high, stripe.start + stripe.length))
            base += part.stored

    # ---- parts and stripes -------------------------------------------------------------------------------------------
    async def _open(self, number: int) -> OpenPart:
        """A part, its shards open."""
        if self._closed:
            raise asyncio.CancelledError
        if self._part is not None and self._number == number:
            return self._part
        if self._part is not None:
            self._part.close()
            self._part = None
        part = self._part = OpenPart(self._pool, self._copies, self._copies.record.parts[number])
        self._number = number
        eager = number == 0 and 0 < part.decoder.part.stored <= min(EAGER, stripe_size(self._copies.layout))
        if eager or not open_now(self._pool, self._copies, part.decoder):
            await part.run(self._begin, eager)
        return part

    def _begin(self, source: Decoder, eager: bool) -> None:
        """On a thread: open a part's shards and, of a small first part, prepare all."""
        source.open()
        size = source.part.stored
        if eager:
            self._ready = source.read(stripe_at(source.layout, size, 0), 0, size, _NO_ROOM)

    def _resident(self, run: list[Step]) -> _Prepared | None:
        """The first run of a stream, where no thread is needed for it: all is in memory, and the first slice is good."""
        part = self._part
        if self._closed or self._ahead is not None or part is None or not part.idle or self._number != run[0].part:
            return None
        pieces = None if self._ready is not None else resident(part.decoder, run)
        views = verified(pieces or ())
        first = next(views, None)
        return None if first is None else _Prepared(run, chain((first,), views), [])

    async def _first(self, run: list[Step]) -> _Prepared:
        """Only its first step, so that sending begins soon."""
        prepared = await self._prepare(run[:1], True)
        return prepared._replace(rest=prepared.rest + run[1:])

    async def _prepare(self, run: list[Step], verify: bool = False) -> _Prepared:
        """The pieces of a run, or only of its first step where something has to be rebuilt: then that takes memory."""
        if run[0].part == 0 and self._ready is not None:
            return _Prepared(run[:1], iter(cut(self._ready, run[0].start, run[0].stop)), run[1:])
        part = await self._open(run[0].part)
        while True:
            source, count, room = part.decoder, len(run), _NO_ROOM
            if any(source.room(*step[1:]) for step in run):
                count, need = 1, source.room(*run[0][1:])
                room = await self._rooms.take(self.memory, need) if need else _NO_ROOM
            pieces = await part.run(read if verify else load, run[:count], room)
            # A job that was given up on the way still has that room, and may write another piece into it at any time.
            if pieces is not None and (not room or part.decoder is source):
                return _Prepared(run[:count], verified(pieces), run[count:])
