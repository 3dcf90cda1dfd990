"""A listening server for one test, and raw clients for it. Afterwards nothing may be left: no connection, no task."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, ParamSpec

import uvloop

from abixio.http.limits import Limits
from abixio.transport.server import Server
from tests.transport_kit import DIRECT, Answer, App

SHORT = Limits(gather_bytes=0, head_seconds=0.3, idle_seconds=0.6, body_seconds=0.3, write_seconds=0.4, linger_seconds=0.5)
"""Deadlines for tests that wait for them."""


P = ParamSpec("P")


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on the event loop that serves in earnest."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


class Client:
    """One connection. Reads answers one at a time, so that a test can stop in the middle."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), 1 << 18):  # under TLS one large write would all be buffered here
            self.writer.write(data[at : at + (1 << 18)])
            await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        return int(first.split(" ")[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    async def answer(self) -> Answer:
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ended(self) -> bool:
        """Nothing more came before the server closed in good order."""
        return await self.reader.read() == b""

    def reset(self) -> None:
        """Vanish with a RST, as a killed process behind a full socket does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Running:
    """The server under test and the way to it."""

    def __init__(self, server: Server, port: int, tls: ssl.SSLContext | None) -> None:
        self.server, self.port, self._tls = server, port, tls
        self.clients: list[Client] = []

    async def client(self, receive: int | None = None) -> Client:
        """`receive` limits what the client's kernel takes before the client reads."""
        sock = socket.socket()
        if receive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        name = None if self._tls is None else "127.0.0.1"
        client = Client(*await asyncio.open_connection(sock=sock, ssl=self._tls, server_hostname=name, limit=1 << 16))
        self.clients.append(client)
        return client


async def until(reached: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait for `reached()` to be true."""
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110 - what is waited for is no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    app: App, limits: Limits | None = None, ssl: ssl.SSLContext | None = None, trust: ssl.SSLContext | None = None
) -> AsyncIterator[Running]:
    before = asyncio.all_tasks()
    server = Server(app, limits or DIRECT, ssl)
    running = Running(server, (await server.start("127.0.0.1", 0))[0][1], trust)
    try:
        yield running
    finally:
        for client in running.clients:
            client.writer.close()
        await server.close()
        await asyncio.sleep(0.01)
    assert server.connections == 0
    assert asyncio.all_tasks() == before
