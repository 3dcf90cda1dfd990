"""The same server behind TLS: the transport differs in how it reads, pauses and ends."""

from __future__ import annotations

import asyncio
import os
import ssl

import pytest

from abixio.http.limits import Limits
from abixio.message import Request, Response
from tests.certificates import make_certificate
from tests.transport_kit import CHUNKED, GET, App, Slices, deny, echo, echoed, put
from tests.transport_server import SHORT, Running, on_uvloop, serving, until

MIB = 1 << 20
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """Of the server, and of a client that trusts it."""
    cert, key = make_certificate(tmp_path_factory.mktemp("tls"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=cert)


async def plain(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", running.port)


@on_uvloop
async def test_serves_pipelined_requests_with_all_kinds_of_bodies(contexts: Contexts) -> None:
    big = os.urandom(3 * MIB)
    app = App()
    async with serving(app, None, *contexts) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(GET + put(b"abc") + put(big) + CHUNKED + b"3\r\nxyz\r\n0\r\n\r\n" + GET))
        assert [(await client.answer())[2] for _ in range(5)] == [echoed(body) for body in (b"", b"abc", big, b"xyz", b"")]
        await sending
        assert app.requests[0].secure
        assert app.requests[0].peer == "127.0.0.1"


@pytest.mark.parametrize("view", [1000, 16384, 65536, 4 * MIB])
@on_uvloop
async def test_bodies_read_into_views_of_any_size_arrive_whole(contexts: Contexts, view: int) -> None:
    data = os.urandom(6 * MIB + 17 if view > 1000 else 300_000)
    buffer = memoryview(bytearray(view))

    async def handler(request: Request) -> Response:
        body = bytearray()
        while count := await request.body.readinto(buffer):
            body += buffer[:count]
            if len(body) % 3 == 0:
                await asyncio.sleep(0)
        return Response(200, [], Slices([bytes(body)]))

    async with serving(App(handler), None, *contexts) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(put(data) + put(b"next")))
        assert (await client.answer())[2] == data
        assert (await client.answer())[2] == b"next"
        await sending


@on_uvloop
async def test_an_upload_that_nobody_reads_stays_with_the_client(contexts: Contexts) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return await echo(request)

    data = os.urandom(24 * MIB)
    async with serving(App(handler), None, *contexts) as running:
        client = await running.client()
        sending = asyncio.create_task(client.send(put(data)))
        await asyncio.sleep(0.3)
        assert not sending.done()
        gate.set()
        assert (await client.answer())[2] == echoed(data)
        await sending


@on_uvloop
async def test_a_reader_that_stops_holds_the_stream(contexts: Contexts) -> None:
    piece = os.urandom(MIB)
    stream = Slices([piece] * 24)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    async with serving(App(handler), None, *contexts) as running:
        client = await running.client(receive=65536)
        await client.send(GET)
        await asyncio.sleep(0.3)
        given = stream.given
        assert given <= 10 * MIB
        assert (await client.answer())[2] == piece * 24


@on_uvloop
async def test_a_client_that_stops_reading_is_cut(contexts: Contexts) -> None:
    stream = Slices([bytes(MIB)] * 24)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    async with serving(App(handler), SHORT, *contexts) as running:
        client = await running.client(receive=65536)
        await client.send(GET)
        await until(lambda: stream.closed)
        await until(lambda: running.server.connections == 0)
    assert stream.closed == 1


@on_uvloop
async def test_a_refused_upload_still_gets_its_answer_though_the_client_goes_on_sending(contexts: Contexts) -> None:
    async with serving(App(deny), Limits(linger_seconds=0.5), *contexts) as running:
        client = await running.client()
        await client.send(put(b"", length=8 * MIB) + bytes(8 * MIB))
        assert (await client.answer())[::2] == (403, b"denied")


@on_uvloop
async def test_a_client_gone_in_the_middle_of_an_upload_fails_the_read(contexts: Contexts) -> None:
    app = App()
    async with serving(app, None, *contexts) as running:
        for vanish in ("close", "reset"):
            app.raised.clear()
            client = await running.client()
            await client.send(put(b"abc", length=100))
            await asyncio.sleep(0.05)
            if vanish == "close":
                client.writer.close()
            else:
                client.reset()
            await until(lambda: app.raised)
            await until(lambda: running.server.connections == 0)


@on_uvloop
async def test_a_client_that_speaks_no_tls_is_dropped_and_the_server_goes_on(contexts: Contexts) -> None:
    async with serving(App(), None, *contexts) as running:
        for garbage in (GET, os.urandom(500), b"\x16\x03\x01\x00\x05hello"):
            reader, writer = await plain(running)
            writer.write(garbage)
            await asyncio.wait_for(reader.read(), 3)
            writer.close()
        client = await running.client()
        await client.send(GET)
        assert (await client.answer())[0] == 200


@on_uvloop
async def test_a_handshake_that_never_comes_is_given_up(contexts: Contexts) -> None:
    async with serving(App(), Limits(handshake_seconds=0.3), *contexts) as running:
        reader, writer = await plain(running)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()


@on_uvloop
async def test_drain_ends_idle_and_running_connections(contexts: Contexts) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return await echo(request)

    async with serving(App(handler), Limits(goodbye_seconds=0.3), *contexts) as running:
        idle, busy = await running.client(), await running.client()
        await busy.send(put(b"abc"))
        await until(lambda: running.server.connections == 2)
        draining = asyncio.create_task(running.server.drain(5))
        assert await idle.ended()
        gate.set()
        assert (await busy.answer())[2] == echoed(b"abc")
        assert await busy.ended()
        await asyncio.wait_for(draining, 2)
