"""What the transport tests share: an application that does as told, a connection without sockets whose network and clock
the test drives, and readers for answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from abixio.errors import AbixioError
from abixio.http.limits import Limits
from abixio.message import Buffer, Request, Response
from abixio.transport.protocol import Connection
from abixio.transport.shared import Shared

Handler = Callable[[Request], Awaitable[Response]]
Answer = tuple[int, dict[str, str], bytes]


class Slices:
    """A Stream over ready slices that remembers how it was treated. An exception among the slices is raised in its place."""

    def __init__(self, slices: Iterable[Buffer | Exception], length: int | None = None) -> None:
        self._slices = list(slices)
        self.length = sum(len(piece) for piece in self._slices if not isinstance(piece, Exception)) if length is None else length
        self.given = 0
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for piece in self._slices:
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            self.given += len(piece)
            yield piece

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


async def read_all(request: Request, size: int = 1 << 16) -> bytes:
    data, view = bytearray(), memoryview(bytearray(size))
    while True:
        count = await request.body.readinto(view)
        data += view[:count]
        if count < size:
            return bytes(data)


async def echo(request: Request) -> Response:
    """Says what it was asked, and the length and digest of the body."""
    body = await read_all(request)
    return Response(200, [("x-target", request.target.decode("latin-1"))], echoed(body))


async def deny(request: Request) -> Response:
    return Response(403, [], b"denied")


def echoed(body: bytes) -> bytes:
    return f"{len(body)} {hashlib.md5(body).hexdigest()}".encode()


class App:
    """Answers with `handler`; remembers requests, refusals and everything that went wrong in a handler."""

    def __init__(self, handler: Handler = echo) -> None:
        self.handler = handler
        self.requests: list[Request] = []
        self.refused: list[Exception] = []
        self.raised: list[BaseException] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        try:
            return await self.handler(request)
        except BaseException as error:
            self.raised.append(error)
            raise

    def refuse(self, error: Exception, request_id: str) -> Response:
        self.refused.append(error)
        status = 400 if isinstance(error, AbixioError) else 500
        return Response(status, [("x-amz-request-id", request_id)], type(error).__name__.encode())


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class ManualLoop:
    """Futures of the running loop, but a clock that only the test moves."""

    def __init__(self) -> None:
        self.create_future = asyncio.get_running_loop().create_future
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self.armed += 1
        self.timers.append(Timer(when, call))
        return self.timers[-1]

    def pending(self) -> list[Timer]:
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        return self.timers

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((timer for timer in self.pending() if timer.when <= end), key=lambda timer: timer.when):
            self.now = max(self.now, due[0].when)
            self.timers.remove(due[0])
            due[0].call()
        self.now = end

DIRECT = Limits(gather_bytes=0)
"""Every body is read while it comes, also a small one."""

class Wire(asyncio.Transport):
    """A transport and the client at its other end. `step` bytes travel at a time; `room` bytes go out before it blocks."""

    def __init__(
        self, app: App, limits: Limits | None = None, step: int = 1 << 16, room: int = 1 << 40, secure: bool = False
    ) -> None:
        super().__init__({"peername": ("192.0.2.7", 4321), "sslcontext": object() if secure else None})
        self.app = app
        self.loop = ManualLoop()
        self.shared = Shared(app, limits or DIRECT, self.loop)  # type: ignore[arg-type]
        self.step, self.room, self.secure = step, room, secure
        self.outgoing = bytearray()
        self.unsent = bytearray()
        self.received = bytearray()
        self.high = self.low = 0
        self.reading = True
        self.switches = 0
        self.paused = self.closing = self.aborted = self.lost = self.shut = False
        self.eof_sent = False
        self.connection = Connection(self.shared)
        self.connection.connection_made(self)

    # ---- the client --------------------------------------------------------------------------------------------------
    async def send(self, data: bytes) -> None:
        self.outgoing += data
        await self.settle()

    async def end(self) -> None:
        """The client shuts down its sending side."""
        self.eof_sent = True
        await self.settle()

    async def disconnect(self) -> None:
        """The client is gone."""
        self.abort()
        await self.settle()

    async def read(self, room: int) -> None:
        """The client takes that many more bytes."""
        self.room += room
        self._flush()
        await self.settle()

    async def pass_time(self, seconds: float) -> None:
        self.loop.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that can without more bytes or time."""
        quiet = 0
        while quiet < 20:
            before = len(self.outgoing), len(self.received)
            asyncio.get_running_loop().call_soon(self._pump)  # as the event loop does: not from within a task
            await asyncio.sleep(0)
            quiet = quiet + 1 if before == (len(self.outgoing), len(self.received)) else 0

    def _pump(self) -> None:
        while self.outgoing and self.reading and not self.closing:
            view = self.connection.get_buffer(65536)
            assert len(view) > 0
            count = min(len(view), self.step, len(self.outgoing))
            view[:count] = self.outgoing[:count]
            del self.outgoing[:count]
            self.connection.buffer_updated(count)
        if self.eof_sent and not self.outgoing and self.reading and not self.closing:
            self.reading = self.eof_sent = False
            if not self.connection.eof_received() or self.secure:
                self.close()

    @property
    def answers(self) -> list[Answer]:
        return parse_answers(bytes(self.received))

    def assert_clean(self) -> None:
        """After the end: no timer, no task, no connection, no buffer is left."""
        assert self.lost
        assert self.loop.pending() == []
        assert not self.shared.connections
        assert asyncio.all_tasks() == {asyncio.current_task()}

    # ---- the transport -----------------------------------------------------------------------------------------------
    def write(self, data: Any) -> None:
        assert not self.lost
        assert not self.shut, "write after write_eof"
        if not self.closing:
            self.unsent += data
            self._flush()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def _flush(self) -> None:
        count = min(self.room, len(self.unsent))
        self.received += self.unsent[:count]
        del self.unsent[:count]
        self.room -= count
        if not self.paused and len(self.unsent) > self.high:
            self.paused = True
            self.connection.pause_writing()
        elif self.paused and len(self.unsent) <= self.low and not self.lost:
            self.paused = False
            self.connection.resume_writing()
        if self.closing and not self.unsent:
            self._lose()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0
        self.low = self.high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False
        self.switches += 1

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True
        self.switches += 1

    def can_write_eof(self) -> bool:
        return not self.secure

    def write_eof(self) -> None:
        self.shut = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._flush()

    def abort(self) -> None:
        self.aborted = self.closing = True
        self.unsent.clear()
        self._lose()

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


def parse_answers(data: bytes, heads: Iterable[int] = ()) -> list[Answer]:
    """All final answers in `data`; those whose index is in `heads` have no body."""
    found: list[Answer] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        if status == 100:
            continue
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if len(found) in heads or status in (204, 304) else int(headers["content-length"])
        assert len(data) >= length, f"half a body: {len(data)} of {length}"
        found.append((status, headers, data[:length]))
        data = data[length:]
    return found


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def put(body: bytes, *headers: str, length: int | None = None, target: str = "/p") -> bytes:
    lines = [f"PUT {target} HTTP/1.1", "Host: h", *headers, f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode() + body
