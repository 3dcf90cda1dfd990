"""Hostile clients on real sockets: each gets a clear answer or none, never service, and the server goes on."""

from __future__ import annotations

import asyncio
import random
import resource

import pytest

from abixio.http.limits import Limits
from tests.transport_kit import CHUNKED, GET, App, put
from tests.transport_server import Running, on_uvloop, serving, until

MIB = 1 << 20


async def still_serves(running: Running) -> None:
    client = await running.client()
    await client.send(GET)
    assert (await client.answer())[0] == 200


async def refused(running: Running, data: bytes) -> bytes:
    """The body of the one answer to `data`, which the client sends to its end before it reads."""
    client = await running.client()
    await client.send(data)
    status, headers, body = await client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await client.ended()
    return body


@pytest.mark.parametrize(
    "lines",
    [
        b"X-A: " + b"x" * MIB,
        b"X" * MIB + b": x",
        b"\r\n".join(b"X-%d: %d" % (number, number) for number in range(10_000)),
        b"\r\n".join(b"a: b" for number in range(1000)),
    ],
    ids=["a line of 1 MiB", "a name of 1 MiB", "10,000 headers", "1,000 tiny headers"],
)
@on_uvloop
async def test_a_head_too_large_is_refused_and_the_client_can_read_so(lines: bytes) -> None:
    async with serving(App()) as running:
        assert await refused(running, b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n\r\n") == b"HeadTooLarge"
        assert await refused(running, b"GET /" + b"x" * MIB) == b"HeadTooLarge"
        await still_serves(running)


SMUGGLED = b"GET /secret HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        put(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
        put(b"", "Content-Length: 45"),
        put(b"", "Transfer-Encoding : chunked"),
        put(b"", "Transfer-Encoding: xchunked"),
        put(b"", "Transfer-Encoding:\x0bchunked"),
        put(b"", "X: y\r\n folded"),
        put(b"", "X: y\rContent-Length: 0"),
        put(b"", "X: y\nContent-Length: 0"),
        put(b"", "Content-Length:\x0045"),
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\nhello\n0\n\n",
        CHUNKED + b"5\r\nhello0\r\n\r\n",
        CHUNKED + b"-1\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n",
        CHUNKED + b"0\r\nContent-Length: 5\r\n folded\r\n\r\n",
    ],
)
@on_uvloop
async def test_no_request_can_be_smuggled_behind_another(data: bytes) -> None:
    app = App()
    async with serving(app, Limits(linger_seconds=0.5)) as running:
        client = await running.client()
        await client.send(data + b"\r\n" + SMUGGLED)
        assert (await client.answer())[0] == 400
        assert await client.ended()
        assert [request.target for request in app.requests if request.target == b"/secret"] == []
        await still_serves(running)


@on_uvloop
async def test_garbage_in_any_shape_ends_its_own_connection_only() -> None:
    dice = random.Random(7)
    seeds = [GET, put(b"hello"), CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"]
    async with serving(App(), Limits(head_seconds=0.2, idle_seconds=0.2, body_seconds=0.2, linger_seconds=0.2)) as running:
        for _ in range(300):
            data = bytearray(dice.randbytes(dice.randrange(1, 400)) if dice.random() < 0.3 else dice.choice(seeds) * 2)
            for _ in range(dice.randrange(4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            client = await running.client()
            await client.send(bytes(data))
            if dice.random() < 0.5:
                client.reset()
        await still_serves(running)
        await until(lambda: running.server.connections == 0)


@on_uvloop
async def test_a_tls_client_on_a_plain_port_is_told_at_once() -> None:
    async with serving(App()) as running:
        client = await running.client()
        await client.send(bytes.fromhex("16030100c8010000c40303") + bytes(193))
        assert (await client.answer())[0] == 400
        client.writer.write_eof()
        assert await client.ended()


@on_uvloop
async def test_idle_connections_cost_little_memory() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    async with serving(App()) as running:
        await still_serves(running)
        before = resident()
        for _ in range(400):
            client = await running.client()
            await client.send(GET)
            await client.answer()
        assert running.server.connections >= 400
        grown = resident() - before
        assert grown / 400 < 32 * 1024, "client and server side together, less than half of one receive buffer"


@on_uvloop
async def test_many_clients_at_once_are_all_served() -> None:
    async with serving(App()) as running:

        async def one(number: int) -> None:
            client = await running.client()
            body = bytes([number]) * 5000
            for _ in range(5):
                await client.send(put(body))
                assert (await client.answer())[2].startswith(b"5000 ")

        await asyncio.gather(*(one(number) for number in range(100)))
