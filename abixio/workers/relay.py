"""Requests that only the runner can answer, passed on to it by the worker that got them: jobs live in one process.

They go through a socket without a name in any directory, which the supervisor holds, so requests wait in it while a runner is
started again. A token keeps other programs of this machine out; the runner checks the signature as if the request had come to it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
from contextlib import suppress
from typing import Final

import msgspec

from abixio.admin.answers import refusal
from abixio.admin.asks import MAX_BODY
from abixio.config import MIB
from abixio.errors import BadRequest
from abixio.message import Application, Request, Response, finished
from abixio.s3.errors import S3Error

_log = logging.getLogger(__name__)

HEAD: Final = 4
"""Bytes in front of a message: its length."""
MOST: Final = 256 * MIB
"""Of an answer, as the client of the commands has it."""
MOST_ASKED: Final = 1 * MIB
"""Of a request: a head, and the longest body that the runner would read."""
ROOM: Final = 2 * MAX_BODY
"""Of a body: more than the runner takes, also as signed chunks, so that it is the one to refuse."""
PATIENCE: Final = 15.0
"""Seconds until the runner takes the request: longer than it takes to start one again."""
GREETING: Final = b"\x01"
RESTARTING: Final = "The process that answers this is being started again. Please try again."


class Asked(msgspec.Struct):
    """A request on its way."""

    token: bytes
    method: str
    target: bytes
    headers: dict[str, str]
    length: int | None
    body: bytes
    id: str
    peer: str
    secure: bool


class Answered(msgspec.Struct):
    """And back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    close: bool


class Relay:
    """Application of a worker: has the runner answer."""

    def __init__(self, name: str, token: bytes) -> None:
        self._name = "\0" + name
        self._token = token

    async def __call__(self, request: Request) -> Response:
        try:
            body = await _read(request)
            asked = Asked(
                self._token, request.method, request.target, request.headers, request.body.length, body, request.id, request.peer,
                request.secure,
            )  # fmt: skip
            answered = await self._ask(asked)
        except (OSError, TimeoutError, EOFError, asyncio.IncompleteReadError) as error:
            _log.warning("the worker that does this does not answer: %s", error or "it ended")
            return refusal(S3Error("ServiceUnavailable", RESTARTING), request.id)
        return Response(answered.status, answered.headers, answered.body, answered.close)

    def refuse(self, error: Exception, request_id: str) -> Response:
        return refusal(error, request_id)

    async def _ask(self, asked: Asked) -> Answered:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._name)
            reader, writer = await asyncio.open_unix_connection(sock=sock)
        except BaseException:
            sock.close()
            raise
        try:
            async with asyncio.timeout(PATIENCE):
                await reader.readexactly(len(GREETING))
            await _send(writer, msgspec.msgpack.encode(asked))
            return msgspec.msgpack.decode(await _receive(reader, MOST), type=Answered)
        finally:
            writer.close()


class RelayServer:
    """In the runner: answers what others pass on."""

    def __init__(self, app: Application, token: bytes) -> None:
        self._app = app
        self._token = token
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """It answers for as long as somebody refers to it."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    def close(self) -> None:
        """Take no more of them."""
        if self._server is not None:
            self._server.close()

    async def __call__(self, request: Request) -> Response:
        """What comes to the runner itself."""
        return await finished(self._app(request))

    def refuse(self, error: Exception, request_id: str) -> Response:
        return self._app.refuse(error, request_id)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(GREETING)
            async with asyncio.timeout(PATIENCE):
                asked = msgspec.msgpack.decode(await _receive(reader, MOST_ASKED), type=Asked)
            if hmac.compare_digest(asked.token, self._token):
                response = await finished(self._app(_request(asked)))
                assert isinstance(response.body, bytes)
                answered = Answered(response.status, response.headers, response.body, response.close)
                await _send(writer, msgspec.msgpack.encode(answered))
        except (OSError, TimeoutError, EOFError, msgspec.MsgspecError) as error:
            _log.info("a request from another worker came to nothing: %s", error)
        finally:
            with suppress(OSError):
                writer.close()


class HeldBody:
    """A body that is in memory."""

    def __init__(self, data: bytes, length: int | None) -> None:
        self.length = length
        self._data = data
        self._at = 0

    async def readinto(self, view: memoryview) -> int:
        piece = self._data[self._at : self._at + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    async def readline(self, limit: int) -> bytes:
        end = self._data.find(b"\n", self._at, self._at + limit) + 1
        if not end:
            if len(self._data) - self._at > limit:
                raise BadRequest("a line of the body is too long")
            end = len(self._data)
        line, self._at = self._data[self._at : end], end
        return line

    def at_hand(self) -> bytes | None:
        return self._data if self._at == 0 and len(self._data) == self.length else None


def _request(asked: Asked) -> Request:
    body = HeldBody(asked.body, asked.length)
    return Request(asked.method, asked.target, asked.headers, body, asked.id, asked.peer, asked.secure)


async def _read(request: Request) -> bytes:
    """As much of the body as anybody will look at; nothing of one that is too long anyway."""
    if (request.body.length or 0) > ROOM:
        return b""
    room = bytearray(ROOM)
    return bytes(room[: await request.body.readinto(memoryview(room))])


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(len(data).to_bytes(HEAD, "big") + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader, most: int) -> bytes:
    size = int.from_bytes(await reader.readexactly(HEAD), "big")
    if size > most:
        raise EOFError(f"a message of {size} bytes")
    return await reader.readexactly(size)
