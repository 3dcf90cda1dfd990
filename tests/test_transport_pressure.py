"""A client that is slow, or too fast, or gone: memory and time stay bounded, without sockets."""

from __future__ import annotations

import asyncio

import pytest

from abixio.errors import (
    RequestTimeout,
)
from abixio.http.limits import Limits
from abixio.message import Request, Response
from tests.transport_kit import GET, App, Slices, Wire, deny, echoed, put, read_all


# ---- backpressure ----------------------------------------------------------------------------------------------------
async def test_a_slow_reader_gets_no_more_than_two_slices_ahead() -> None:
    stream = Slices([bytes([number]) * 4000 for number in range(50)])

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    wire = Wire(App(handler), Limits(write_high=1000, gather_bytes=0), room=0)
    await wire.send(GET)
    while not stream.closed:
        assert stream.given <= len(wire.received) + 2 * 4000
        await wire.read(1500)
    await wire.read(10_000)
    assert wire.answers[0][2] == b"".join(bytes([number]) * 4000 for number in range(50))
    await wire.disconnect()
    wire.assert_clean()


async def test_long_pieces_of_a_stream_leave_in_slices_and_no_faster_than_they_are_read() -> None:
    data = bytes(range(256)) * 40
    stream = Slices([data])

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    wire = Wire(App(handler), Limits(write_high=1500, slice_bytes=1000, gather_bytes=0), room=0)
    await wire.send(GET)
    while not stream.closed:
        assert len(wire.unsent) < 1500 + 1000
        await wire.read(700)
    await wire.read(10_000)
    assert wire.answers[0][2] == data
    await wire.disconnect()
    wire.assert_clean()


async def test_a_client_that_pipelines_without_reading_is_not_read_any_further() -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], b"x" * 1000)

    wire = Wire(App(handler), Limits(write_high=2000, ahead_bytes=1000, gather_bytes=0), room=0)
    await wire.send(GET * 1000)
    assert len(wire.app.requests) <= 3
    assert len(wire.unsent) < 5000
    assert len(wire.connection.ahead) < 1000 + (1 << 16)
    assert not wire.reading or not wire.outgoing
    while len(wire.answers if not wire.unsent else []) < 1000:
        await wire.read(10_000)
    assert len(wire.app.requests) == 1000
    await wire.disconnect()


async def test_a_body_is_received_straight_into_the_handlers_view_and_never_beyond_it() -> None:
    data = bytes(range(256)) * 40
    view = memoryview(bytearray(4096))
    seen = []

    async def handler(request: Request) -> Response:
        while count := await request.body.readinto(view):
            seen.append(bytes(view[:count]))
        return Response(200, [], b"")

    wire = Wire(App(handler))
    await wire.send(put(b"", length=len(data)))
    wire.outgoing += data + GET
    place = wire.connection.get_buffer(0)
    assert len(place) == 4096
    place[:3] = b"xyz"
    assert view[:3] == b"xyz"
    await wire.settle()
    assert b"".join(seen) == data
    assert [len(part) for part in seen] == [4096, 4096, 2048]
    assert len(wire.answers) == 2
    await wire.disconnect()


async def test_a_body_that_nobody_reads_yet_is_not_received() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], str(len(await read_all(request))).encode())

    wire = Wire(App(handler))
    await wire.send(put(b"x" * 1_000_000))
    assert len(wire.connection.ahead) <= 1 << 16
    assert not wire.reading
    gate.set()
    for _ in range(10):
        await wire.settle()
    assert wire.answers[0][2] == b"1000000"
    assert wire.reading
    await wire.disconnect()


async def test_small_requests_never_pause_the_socket() -> None:
    wire = Wire(App())
    for _ in range(5):
        await wire.send(GET)
        await wire.send(put(b"small body"))
    assert len(wire.answers) == 10
    assert wire.switches == 0
    await wire.disconnect()


async def test_a_cancelled_reader_gets_nothing_written_into_its_buffer_any_more() -> None:
    view = memoryview(bytearray(100))

    async def handler(request: Request) -> Response:
        try:
            await asyncio.wait_for(request.body.readinto(view), 0.01)
        except TimeoutError:
            view[:] = bytes(100)
        await asyncio.sleep(0.02)
        return Response(200, [], await read_all(request))

    wire = Wire(App(handler))
    await wire.send(put(b"abc", length=10))
    await asyncio.sleep(0.015)
    await wire.send(b"defghij")
    assert bytes(view) == bytes(100)
    await asyncio.sleep(0.03)
    await wire.settle()
    assert wire.answers[0][2] == b"defghij"
    await wire.disconnect()


# ---- time ------------------------------------------------------------------------------------------------------------
async def test_an_idle_connection_is_closed_silently() -> None:
    wire = Wire(App())
    await wire.pass_time(74.9)
    await wire.send(GET)
    await wire.pass_time(74.9)
    assert not wire.closing
    await wire.pass_time(0.2)
    assert len(wire.answers) == 1
    assert wire.app.refused == []
    wire.assert_clean()


async def test_a_head_that_drips_is_refused_at_its_absolute_deadline() -> None:
    wire = Wire(App())
    for byte in GET[:25]:
        await wire.send(bytes([byte]))
        await wire.pass_time(1.15)
    assert wire.received == b""
    await wire.pass_time(1.5)
    assert [type(error) for error in wire.app.refused] == [RequestTimeout]
    assert wire.answers[0][1]["connection"] == "close"
    await wire.pass_time(11)
    wire.assert_clean()


async def test_empty_lines_do_not_keep_a_connection_open() -> None:
    wire = Wire(App())
    for _ in range(80):
        await wire.send(b"\r\n")
        await wire.pass_time(1)
    assert wire.closing


async def test_a_body_that_drips_fails_the_read() -> None:
    wire = Wire(App())
    await wire.send(put(b"", length=100_000))
    for _ in range(35):
        await wire.send(b"x")
        await wire.pass_time(1)
    assert [type(error) for error in wire.app.raised] == [RequestTimeout]
    assert [type(error) for error in wire.app.refused] == [RequestTimeout]
    assert wire.answers[0][1]["connection"] == "close"
    await wire.pass_time(11)
    wire.assert_clean()


async def test_a_slow_but_steady_body_is_welcome() -> None:
    wire = Wire(App())
    await wire.send(put(b"", length=100_000))
    for _ in range(100):
        await wire.send(b"x" * 1000)
        await wire.pass_time(3)
    assert wire.answers[0][2] == echoed(b"x" * 100_000)
    await wire.disconnect()


async def test_a_handler_may_take_as_long_as_it_needs() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], b"at last")

    wire = Wire(App(handler))
    await wire.send(GET)
    await wire.pass_time(100_000)
    gate.set()
    await wire.settle()
    assert wire.answers[0][2] == b"at last"
    await wire.disconnect()


@pytest.mark.parametrize("taken", [0, 1000])
async def test_a_client_that_stops_reading_is_cut(taken: int) -> None:
    stream = Slices([b"x" * 10_000] * 100)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    wire = Wire(App(handler), Limits(write_high=5000, gather_bytes=0), room=3000)
    await wire.send(GET)
    for _ in range(59):
        await wire.pass_time(1)
        await wire.read(taken // 59)
    assert not wire.closing
    await wire.pass_time(1.1)
    assert wire.aborted
    assert stream.closed == 1
    wire.assert_clean()


async def test_a_client_that_reads_slowly_but_steadily_is_served() -> None:
    stream = Slices([b"x" * 10_000] * 10)

    async def handler(request: Request) -> Response:
        return Response(200, [("Connection-Test", "1")], stream, close=True)

    wire = Wire(App(handler), Limits(write_high=5000, gather_bytes=0), room=0)
    await wire.send(GET)
    for _ in range(110):
        await wire.read(1000)
        await wire.pass_time(10)
    assert len(wire.answers[0][2]) == 100_000
    wire.assert_clean()


async def test_a_client_that_stops_reading_just_before_the_end_is_cut_too() -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], b"x" * 3000, close=True)

    wire = Wire(App(handler), room=100)
    await wire.send(GET)
    assert wire.closing
    await wire.pass_time(61)
    assert wire.aborted
    wire.assert_clean()


async def test_a_rest_that_never_comes_ends_the_connection() -> None:
    wire = Wire(App(deny))
    await wire.send(put(b"", length=1000))
    await wire.pass_time(31)
    wire.assert_clean()
