"""The server with real sockets: answers, bodies, disconnects, backpressure, deadlines, drain."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator

import pytest

from abixio.errors import ClientDisconnected, IncompleteBody, RequestTimeout, StartupError
from abixio.http.limits import Limits
from abixio.message import Buffer, Request, Response
from abixio.transport.server import Server
from tests.transport_kit import CHUNKED, GET, App, Slices, deny, echo, echoed, put, read_all
from tests.transport_server import SHORT, on_uvloop, serving, until

MIB = 1 << 20


class Endless:
    """Slices of one buffer, without end in sight; counts what was taken."""

    def __init__(self, slices: int, size: int = 4 * MIB) -> None:
        self._piece = memoryview(os.urandom(size))
        self._slices = slices
        self.length = slices * size
        self.given = 0
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for _ in range(self._slices):
            self.given += len(self._piece)
            yield self._piece

    async def aclose(self) -> None:
        self.closed += 1


# ---- plain service ---------------------------------------------------------------------------------------------------
@on_uvloop
async def test_serves_pipelined_requests_with_all_kinds_of_bodies() -> None:
    big = os.urandom(3 * MIB)
    async with serving(App()) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(GET + put(b"abc") + put(big) + CHUNKED + b"3\r\nxyz\r\n0\r\n\r\n" + GET))
        assert [(await client.answer())[2] for _ in range(5)] == [echoed(body) for body in (b"", b"abc", big, b"xyz", b"")]
        await sending


@on_uvloop
async def test_a_body_sent_byte_by_byte_arrives() -> None:
    async with serving(App()) as running:
        client = await running.client()
        for byte in put(b"0123456789"):
            await client.send(bytes([byte]))
        assert (await client.answer())[2] == echoed(b"0123456789")


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 4 * MIB - 1, 4 * MIB, 17 * MIB + 5])
@on_uvloop
async def test_bodies_of_all_sizes_go_both_ways(size: int) -> None:
    data = os.urandom(size)

    async def store(request: Request) -> Response:
        body = await read_all(request, 4 * MIB)
        return Response(200, [], Slices([memoryview(body)[at : at + MIB] for at in range(0, size, MIB)]))

    async with serving(App(store)) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(put(data)))
        assert (await client.answer())[2] == data
        await sending


@on_uvloop
async def test_an_upload_that_waits_for_100_gets_it_from_the_first_read() -> None:
    async with serving(App()) as running:
        client = await running.client()
        await client.send(put(b"", "Expect: 100-continue", length=5))
        assert (await client.head())[0] == 100
        await client.send(b"hello")
        assert (await client.answer())[2] == echoed(b"hello")


@on_uvloop
async def test_a_refused_upload_still_gets_its_answer_though_the_client_goes_on_sending() -> None:
    async with serving(App(deny)) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(put(b"", length=64 * MIB) + bytes(64 * MIB)))
        await sending
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (403, "close", b"denied")
        assert await client.ended()


# ---- disconnects -----------------------------------------------------------------------------------------------------
@on_uvloop
async def test_a_half_closed_client_gets_its_answer() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.05)
        return await echo(request)

    async with serving(App(slow)) as running:
        client = await running.client()
        await client.send(put(b"abc") + GET)
        client.writer.write_eof()
        assert [(await client.answer())[2] for _ in range(2)] == [echoed(b"abc"), echoed(b"")]
        assert await client.ended()


@on_uvloop
async def test_a_client_reset_in_the_middle_of_an_upload_fails_the_read() -> None:
    app = App()
    async with serving(app) as running:
        client = await running.client()
        await client.send(put(b"abc", length=100))
        await until(lambda: app.requests)
        client.reset()
        await until(lambda: app.raised)
        assert isinstance(app.raised[0], ClientDisconnected)
        await until(lambda: running.server.connections == 0)


@on_uvloop
async def test_a_client_that_ends_in_the_middle_of_an_upload_is_told_so() -> None:
    app = App()
    async with serving(app) as running:
        client = await running.client()
        await client.send(put(b"abc", length=100))
        client.writer.write_eof()
        assert (await client.answer())[2] == b"IncompleteBody"
        assert isinstance(app.raised[0], IncompleteBody)
        assert await client.ended()


@pytest.mark.parametrize("reset", [True, False])
@on_uvloop
async def test_a_client_gone_in_the_middle_of_a_download_ends_the_stream_once(reset: bool) -> None:
    stream = Endless(1000)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    async with serving(App(handler)) as running:
        client = await running.client()
        await client.send(GET)
        await client.reader.readexactly(100_000)
        if reset:
            client.reset()
        else:
            client.writer.close()
        await until(lambda: stream.closed)
        assert stream.given < stream.length // 2
        await until(lambda: running.server.connections == 0)
    assert stream.closed == 1


# ---- backpressure ----------------------------------------------------------------------------------------------------
@on_uvloop
async def test_a_reader_that_stops_holds_the_stream_at_two_slices_beyond_the_kernels_buffers() -> None:
    stream = Endless(24)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    async with serving(App(handler)) as running:
        client = await running.client(receive=65536)
        await client.send(GET)
        await asyncio.sleep(0.3)
        given = stream.given
        assert given <= 5 * 4 * MIB
        await asyncio.sleep(0.2)
        assert stream.given == given
        status, headers = await client.head()
        digest, left = hashlib.md5(), int(headers["content-length"])
        while left:
            piece = await client.reader.read(MIB)
            digest.update(piece)
            left -= len(piece)
        expected = hashlib.md5()
        for _ in range(24):
            expected.update(stream._piece)
        assert (status, digest.digest()) == (200, expected.digest())


@on_uvloop
async def test_an_upload_that_nobody_reads_stays_with_the_client() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return await echo(request)

    data = os.urandom(24 * MIB)
    async with serving(App(handler)) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(put(data)))
        await asyncio.sleep(0.3)
        assert not sending.done()
        gate.set()
        assert (await client.answer())[2] == echoed(data)
        await sending


# ---- deadlines -------------------------------------------------------------------------------------------------------
@on_uvloop
async def test_a_slow_head_is_refused() -> None:
    async with serving(App(), SHORT) as running:
        client = await running.client()
        await client.send(GET[:-2])
        assert (await client.answer())[2] == b"RequestTimeout"
        assert await client.ended()


@on_uvloop
async def test_a_slow_body_is_refused() -> None:
    app = App()
    async with serving(app, SHORT) as running:
        client = await running.client()
        await client.send(put(b"abc", length=10))
        assert (await client.answer())[2] == b"RequestTimeout"
        assert isinstance(app.raised[0], RequestTimeout)
        assert await client.ended()


@on_uvloop
async def test_an_idle_connection_is_closed() -> None:
    async with serving(App(), SHORT) as running:
        fresh, used = await running.client(), await running.client()
        await used.send(GET)
        await used.answer()
        assert await fresh.ended()
        assert await used.ended()


@on_uvloop
async def test_a_client_that_stops_reading_is_cut_and_one_that_reads_slowly_is_not() -> None:
    streams = [Endless(6), Endless(6)]

    async def handler(request: Request) -> Response:
        return Response(200, [], streams[int(request.target[1:])])

    async with serving(App(handler), Limits(write_seconds=1.0)) as running:
        slow, stuck = await running.client(receive=65536), await running.client(receive=65536)
        await stuck.send(GET.replace(b"/a", b"/0"))
        await slow.send(GET.replace(b"/a", b"/1"))
        for _ in range(20):
            await slow.reader.readexactly(MIB // 2)
            await asyncio.sleep(0.1)
        assert [stream.closed for stream in streams] == [1, 0]
        assert streams[0].given < streams[0].length


# ---- start and end ---------------------------------------------------------------------------------------------------
@on_uvloop
async def test_drain_closes_idle_connections_at_once_and_lets_running_requests_end() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return await echo(request)

    async with serving(App(handler)) as running:
        idle, busy = await running.client(), await running.client()
        await busy.send(put(b"abc"))
        await until(lambda: running.server.connections == 2)
        draining = asyncio.create_task(running.server.drain(5))
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            await running.client()
        assert not draining.done()
        started = time.monotonic()
        gate.set()
        status, headers, body = await busy.answer()
        assert (status, headers["connection"], body) == (200, "close", echoed(b"abc"))
        assert await busy.ended()
        await draining
        assert time.monotonic() - started < 3


@on_uvloop
async def test_drain_cuts_what_is_left_at_its_deadline() -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(3600)
        raise AssertionError

    app = App(handler)
    async with serving(app) as running:
        client = await running.client()
        await client.send(GET)
        await until(lambda: app.requests)
        started = time.monotonic()
        await running.server.drain(0.2)
        assert 0.15 < time.monotonic() - started < 3
        assert isinstance(app.raised[0], asyncio.CancelledError)
        assert running.server.connections == 0
        await running.server.close()


@on_uvloop
async def test_drain_does_not_wait_for_clients_that_linger() -> None:
    async with serving(App(deny)) as running:
        client = await running.client()
        await client.send(put(b"", length=10**9))
        await client.answer()
        started = time.monotonic()
        await running.server.drain(5)
        assert time.monotonic() - started < 1


@on_uvloop
async def test_more_connections_than_allowed_are_told_to_slow_down() -> None:
    app = App()
    async with serving(app, Limits(connections=2)) as running:
        first, second = await running.client(), await running.client()
        await until(lambda: running.server.connections == 2)
        third = await running.client()
        assert (await third.answer())[2] == b"Overloaded"
        assert await third.ended()
        for client in (first, second):
            await client.send(GET)
            assert (await client.answer())[0] == 200
        first.writer.close()
        await until(lambda: running.server.connections == 1)
        fourth = await running.client()
        await fourth.send(GET)
        assert (await fourth.answer())[0] == 200


@on_uvloop
async def test_listens_on_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    app = App()
    server = Server(app)
    try:
        [(host, port)] = await server.start("::1", 0)
    except StartupError:
        pytest.skip("no IPv6 loopback here")
    assert host == "::1"
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(GET)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert app.requests[0].peer == "::1"
    writer.close()
    await server.close()


@on_uvloop
async def test_an_address_in_use_or_unknown_is_a_startup_error() -> None:
    async with serving(App()) as running:
        with pytest.raises(StartupError, match=str(running.port)):
            await Server(App()).start("127.0.0.1", running.port)
    with pytest.raises(StartupError):
        await Server(App()).start("no.such.host.invalid", 0)


@on_uvloop
async def test_a_server_that_never_started_can_be_closed() -> None:
    server = Server(App())
    await server.close()
    await server.drain(1)
    assert server.connections == 0
