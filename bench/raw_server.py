"""What L1 measures, as a process of its own; prints its port, ends when its standard input does.

    python -m bench.raw_server transport FILE    our transport: GET /SIZE gives the first SIZE bytes of FILE from a map in
                                                 4 MiB slices; PUT reads into a buffer and discards; PUT /hash answers with
                                                 the BLAKE3 of what came
    python -m bench.raw_server raw               the floor: uvloop and httptools and nothing else; every GET gets 4 KiB
"""

from __future__ import annotations

import asyncio
import mmap
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

import uvloop
from blake3 import blake3
from httptools import HttpRequestParser

from abixio.message import Buffer, Request, Response
from abixio.transport.server import Server

SLICE: Final = 4 << 20
"""As the store's streams have it."""


class Mapped:
    """A Stream over the start of a map. (An async generator would cost more than all else here: the event loop keeps a list
    of those.)"""

    def __init__(self, view: memoryview, length: int) -> None:
        self._view = view
        self._at = 0
        self.length = length

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        start = self._at
        if start == self.length:
            raise StopAsyncIteration
        self._at = min(start + SLICE, self.length)
        return self._view[start : self._at]

    async def aclose(self) -> None:
        pass


class RawApp:
    """Bodies without S3 and without storage."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        self._free: list[memoryview] = []

    async def __call__(self, request: Request) -> Response:
        if request.method == "PUT":
            return Response(200, [], await self._discard(request))
        size = int(request.target[1:])
        if size > len(self._view):
            return Response(404)
        return Response(200, [("Content-Type", "application/octet-stream")], Mapped(self._view, size))

    async def _discard(self, request: Request) -> bytes:
        digest = blake3() if request.target == b"/hash" else None
        buffer = self._free.pop() if self._free else memoryview(mmap.mmap(-1, SLICE))
        while count := await request.body.readinto(buffer):
            if digest is not None:
                digest.update(buffer[:count])
            if count < SLICE:
                break
        self._free.append(buffer)
        return b"" if digest is None else digest.hexdigest().encode()

    def refuse(self, error: Exception, request_id: str) -> Response:
        return Response(500, [], repr(error).encode())


class Floor(asyncio.Protocol):
    """The least that answers HTTP on this stack."""

    ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\n" + bytes(4096)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined]
        self._feed = HttpRequestParser(self).feed_data

    def data_received(self, data: bytes) -> None:
        self._feed(data)

    def on_message_complete(self) -> None:
        self._write(self.ANSWER)


async def main(mode: str, *paths: str) -> None:
    loop = asyncio.get_running_loop()
    if mode == "raw":
        floor = await loop.create_server(Floor, "127.0.0.1", 0)
        print(floor.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        floor.close()
    else:
        server = Server(RawApp(*paths))
        print((await server.start("127.0.0.1", 0))[0][1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        await server.drain(1)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
