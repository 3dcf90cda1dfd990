"""The body of a request, without a connection: every byte once, in order, in whatever pieces it is sent and read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from abixio.errors import BadRequest, ClientDisconnected, IncompleteBody
from abixio.http.chunked import Chunked
from abixio.http.framing import Sized
from abixio.transport.body import WINDOW, EmptyBody, RequestBody


class Sender:
    """The connection of one body, and its client. `pieces` gives the size of each arrival."""

    def __init__(
        self, wire: bytes, ahead: int, pieces: Callable[[], int], chunked: bool = False, length: int | None = None
    ) -> None:
        self.ahead = bytearray(wire[:ahead])
        self.wire = bytearray(wire[ahead:])
        self.pieces = pieces
        self.room = memoryview(bytearray(1 << 16))
        self.log: list[str] = []
        self.direct = 0
        loop = asyncio.get_running_loop()
        self.loop = loop
        known = None if chunked else (len(wire) if length is None else length)
        self.body = RequestBody(loop, self, Chunked() if known is None else Sized(known), known, expecting=False)

    def reading(self) -> None:
        self.log.append("reading")
        self.loop.call_soon(self.deliver)

    def satisfied(self) -> None:
        self.log.append("satisfied")

    def interim(self) -> None:
        self.log.append("interim")

    def deliver(self) -> None:
        while self.body.open and self.wire:
            place = self.body.place(self.room)
            assert len(place) > 0
            count = min(self.pieces(), len(place), len(self.wire))
            place[:count] = self.wire[:count]
            del self.wire[:count]
            self.direct += count
            self.body.arrived(count, self.room)


@pytest.mark.parametrize("seed", range(40))
async def test_lines_and_blocks_in_any_order_give_every_byte_once(seed: int) -> None:
    dice = random.Random(seed)
    lines = [b"%d;sig=abc\r\n" % dice.randrange(10**6) for _ in range(40)]
    data = b"".join(dice.choice([line, dice.randbytes(dice.randrange(3000))]) for line in lines)
    chunked = seed % 2 == 1
    wire, at = data + b"NEXT", 0
    if chunked:
        wire = b""
        while at < len(data):
            size = dice.randrange(1, 2000)
            wire += b"%x\r\n%b\r\n" % (len(data[at : at + size]), data[at : at + size])
            at += size
        wire += b"0\r\n\r\nNEXT"
    sender = Sender(wire, dice.randrange(len(wire)), lambda: dice.choice([1, 7, 500, 10**6]), chunked, len(data))
    got = bytearray()
    while not sender.body.framing.done:
        if dice.random() < 0.5:
            line = await sender.body.readline(1 << 20)
            assert line.count(b"\n") == line.endswith(b"\n")
            assert line.endswith(b"\n") or sender.body.framing.done
            got += line
        else:
            view = memoryview(bytearray(dice.randrange(1, 5000)))
            count = await sender.body.readinto(view)
            assert count == len(view) or sender.body.framing.done
            got += view[:count]
    assert got == data
    assert await sender.body.readline(10) == b""
    assert await sender.body.readinto(memoryview(bytearray(10))) == 0
    assert sender.ahead + sender.wire == b"NEXT"
    assert sender.log.count("reading") == sender.log.count("satisfied")


async def test_a_view_is_filled_with_one_wait_however_many_pieces_come() -> None:
    sender = Sender(b"x" * 10_000, 0, lambda: 100)
    assert await sender.body.readinto(memoryview(bytearray(10_000))) == 10_000
    assert sender.log == ["reading", "satisfied"]


async def test_what_is_ahead_needs_no_wait() -> None:
    sender = Sender(b"x" * 100 + b"y" * 100, 100, lambda: 100)
    assert await sender.body.readinto(memoryview(bytearray(60))) == 60
    assert await sender.body.readinto(memoryview(bytearray(40))) == 40
    assert sender.log == []


async def test_a_line_takes_little_beyond_it() -> None:
    sender = Sender(b"10000;chunk-signature=0\r\n" + b"x" * 65536, 0, lambda: 10**6)
    assert await sender.body.readline(200) == b"10000;chunk-signature=0\r\n"
    assert sender.direct <= WINDOW
    assert await sender.body.readinto(memoryview(bytearray(65536))) == 65536


@pytest.mark.parametrize("ahead", [0, 50, 100])
async def test_a_line_over_the_limit_is_refused(ahead: int) -> None:
    for data, limit in ((b"x" * 99 + b"\n", 99), (b"x" * 1000, 100)):
        sender = Sender(data, min(ahead, len(data)), lambda: 30)
        with pytest.raises(BadRequest):
            await sender.body.readline(limit)
    assert await Sender(b"x" * 99 + b"\n", ahead, lambda: 30).body.readline(100) == b"x" * 99 + b"\n"


async def test_100_continue_is_sent_once_and_only_when_bytes_are_needed() -> None:
    sender = Sender(b"abcdef", 3, lambda: 1)
    sender.body.expecting = True
    view = memoryview(bytearray(3))
    await sender.body.readinto(view)
    assert "interim" not in sender.log
    await sender.body.readinto(view)
    assert sender.log.count("interim") == 1
    assert sender.body.expecting is False


@pytest.mark.parametrize("error", [IncompleteBody, ClientDisconnected])
async def test_a_failure_lets_what_came_before_be_read_and_then_repeats_itself(error: type[IncompleteBody]) -> None:
    sender = Sender(b"ab\ncd", 5, lambda: 1, length=10)
    sender.body.fail(error, "gone")
    sender.body.fail(BadRequest, "a later reason does not count")
    assert await sender.body.readline(10) == b"ab\n"
    for _ in range(2):
        with pytest.raises(error, match="gone"):
            await sender.body.readinto(memoryview(bytearray(5)))
    with pytest.raises(error, match="gone"):
        await sender.body.readline(5)


async def test_a_failure_wakes_the_reader() -> None:
    sender = Sender(b"", 0, lambda: 1, length=10)
    sender.loop.call_later(0.01, sender.body.fail, IncompleteBody, "gone")
    with pytest.raises(IncompleteBody):
        await sender.body.readinto(memoryview(bytearray(5)))
    assert sender.body.failed
    assert sender.body.open is False


async def test_broken_chunks_are_incomplete() -> None:
    sender = Sender(b"5\r\nhelloworld\r\n", 0, lambda: 100, chunked=True)
    view = memoryview(bytearray(100))
    for _ in range(2):
        with pytest.raises(IncompleteBody):
            await sender.body.readinto(view)
    assert sender.body.failed


async def test_a_second_reader_at_once_is_a_defect() -> None:
    sender = Sender(b"", 0, lambda: 1, length=10)
    first = asyncio.create_task(sender.body.readinto(memoryview(bytearray(5))))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await sender.body.readline(5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_bytes_that_came_before_a_reader_was_cancelled_count() -> None:
    sender = Sender(b"0123456789", 0, lambda: 4)
    sender.deliver = lambda: None  # type: ignore[method-assign]
    view = memoryview(bytearray(10))
    reader = asyncio.create_task(sender.body.readinto(view))
    await asyncio.sleep(0)
    sender.body.place(sender.room)[:4] = b"0123"
    sender.body.arrived(4, sender.room)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert sender.body.framing.payload == 6
    assert sender.body.open is False


async def test_an_empty_body_gives_nothing() -> None:
    body = EmptyBody()
    assert (body.length, await body.readinto(memoryview(bytearray(3))), await body.readline(3)) == (0, 0, b"")
