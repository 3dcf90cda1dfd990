"""One connection: its stages, and what bytes, time and the end of input mean in each.

    stage      bytes that arrive           limit of time               then
    IDLE       begin a head                idle_seconds                closed silently
    HEAD       belong to a head            head_seconds                refused: RequestTimeout
    GATHERING  belong to a small body      gather_seconds              the request begins with what there is
    BUSY       body, or kept ahead         body_ / write_seconds       body read fails / connection cut
    SKIPPING   rest of a body, dropped     body_seconds                cut
    LINGERING  dropped                     linger_seconds              cut
    CLOSING    none                        write_seconds               cut
    LOST       none                        none                        none
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from enum import IntEnum
from typing import Final, NoReturn, cast

from abixio.errors import BadRequest, ClientDisconnected, HeadTooLarge, IncompleteBody, Overloaded, RequestError, RequestTimeout
from abixio.http.chunked import Chunked
from abixio.http.framing import Sized
from abixio.http.head import END, Head, parse_head
from abixio.http.response import CONTINUE, render_again
from abixio.message import Again, Answer, Buffer, Promise, Repeated, Request, Response
from abixio.transport.answer import WrongLength, whole
from abixio.transport.body import EmptyBody, RequestBody
from abixio.transport.deadline import Deadline
from abixio.transport.eager import Work, start
from abixio.transport.exchange import Exchange, request_id
from abixio.transport.flow import Flow
from abixio.transport.guarded import copied
from abixio.transport.known import LONGEST
from abixio.transport.shared import Shared

_NO_BODY: Final = EmptyBody()
_KNOWN: Final = Head("GET", b"", {}, 0, True, True, False)
"""Stands for one that `Known` remembers."""


class Stage(IntEnum):
    IDLE = 0
    HEAD = 1
    GATHERING = 2
    BUSY = 3
    SKIPPING = 4
    LINGERING = 5
    CLOSING = 6
    LOST = 7


async def _failing(error: BaseException) -> NoReturn:
    raise error


class Connection(asyncio.BufferedProtocol):
    """One client, as asyncio sees it (Inlet of its bodies, Line of its exchanges)."""

    __slots__ = (
        "_body", "_deadline", "_eof", "_exchange", "_flow", "_head", "_high", "_limits", "_mark", "_peer", "_reading",
        "_received", "_room", "_searched", "_secure", "_shared", "_stage", "_task", "_transport", "ahead", "answered", "largest",
    )  # fmt: skip

    def __init__(self, shared: Shared) -> None:
        # shared
        self._shared = shared
        self._limits = shared.limits
        self._room = shared.room
        # of the connection
        self._transport: asyncio.Transport
        self._flow = Flow(shared.loop)
        self._deadline = Deadline(shared.loop, self._expired)
        self._stage = Stage.IDLE
        self._peer = ""
        self._secure = False
        self._high = 0
        self._eof = False
        self._reading = True
        self._received = 0
        self._mark = 0
        self.ahead = bytearray()
        self._searched = 0
        self.largest = shared.limits.slice_bytes
        # of the request
        self._head: Head | None = None
        self._exchange: Exchange | None = None
        self.answered = False
        self._task: asyncio.Task[None] | None = None
        self._body: RequestBody | None = None

    # ---- for the server ----------------------------------------------------------------------------------------------
    @property
    def serving(self) -> bool:
        """A request is being served, or the end of an answer is on its way."""
        return self._exchange is not None or self._stage is Stage.CLOSING

    def drain(self) -> None:
        """Take no further request."""
        if self._stage in (Stage.IDLE, Stage.HEAD):
            self._close()
        elif self._stage is Stage.GATHERING:
            self._gathered()

    def cut(self) -> None:
        """End it now."""
        self.abort()
        if self._task is not None:
            self._task.cancel()

    # ---- for the body (Inlet) ----------------------------------------------------------------------------------------
    def reading(self) -> None:
        self._mark = self._received
        self._deadline.set(self._limits.body_seconds)
        self._steer()

    def satisfied(self) -> None:
        self._deadline.clear()

    def interim(self) -> None:
        self.send(CONTINUE)
        self.answered = False

    # ---- for the exchange (Line) -------------------------------------------------------------------------------------
    def send(self, first: Buffer, second: Buffer = b"") -> None:
        if self._stage is Stage.LOST or self._transport.is_closing():
            raise ClientDisconnected("the client went away before the end of the answer")
        if self._secure:
            first, second = copied(first), copied(second)
        self.answered = True
        if second:
            self._transport.writelines((first, second))
        else:
            self._transport.write(first)

    @property
    def full(self) -> bool:
        return self._flow.paused

    async def drained(self) -> None:
        if self._stage is Stage.LOST:
            raise ClientDisconnected("the client went away before the end of the answer")
        self._mark = -self._transport.get_write_buffer_size()
        self._deadline.set(self._limits.write_seconds)
        try:
            await self._flow.drain()
        finally:
            self._deadline.clear()

    def abort(self) -> None:
        self._transport.abort()

    def over(self) -> None:
        exchange, self._exchange, self._task = cast(Exchange, self._exchange), None, None
        self._shared.tell()
        if self._stage is Stage.LOST:
            self._release()
        elif self._transport.is_closing():
            self._enter(Stage.CLOSING, self._limits.write_seconds)
        elif not self.answered:
            self.abort()
        elif not exchange.keep:
            self._hang_up(exchange.unread)
        elif exchange.unread:
            self._enter(Stage.SKIPPING, self._limits.body_seconds)
            self._take_rest(0)
            self._steer()
        else:
            self._rest()

    # ---- requests ----------------------------------------------------------------------------------------------------
    def _next_request(self) -> None:
        """Begin the request whose head is whole, if there is one."""
        ahead = self.ahead
        while ahead.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are no error
            del ahead[:2]
        end = ahead.find(END, self._searched)
        if end < 0:
            self._searched = max(0, len(ahead) - len(END) + 1)
            self._await_head()
            return
        self._searched = 0
        raw = bytes(ahead[: end + len(END)])
        del ahead[: end + len(END)]
        self._read_head(raw)

    def _read_head(self, raw: bytes) -> None:
        try:
            head = parse_head(raw, self._limits)
        except RequestError as error:
            self._refuse(error)
        else:
            self._gather(head)

    def _gather(self, head: Head) -> None:
        """Begin a request; one whose small body will be there in a moment, then."""
        limits, length = self._limits, head.length
        if length and len(self.ahead) < length <= limits.gather_bytes and not head.expects and not self._eof:
            self._head = head
            self._enter(Stage.GATHERING, limits.gather_seconds)
        else:
            self._begin(head)

    def _gathered(self) -> None:
        """No more is waited for."""
        head, self._head = cast(Head, self._head), None
        self._begin(head)

    def _await_head(self) -> None:
        """No head is whole yet: wait for the rest, unless it can be nothing good."""
        ahead = self.ahead
        if self._eof:
            self._close()
        elif not ahead or ahead == b"\r":
            if self._stage is not Stage.IDLE:
                self._enter(Stage.IDLE, self._limits.idle_seconds)
        elif len(ahead) > self._limits.head_bytes:
            self._refuse(HeadTooLarge(f"a request head of more than {self._limits.head_bytes} bytes"))
        elif not ahead[:1].isupper():
            self._refuse(BadRequest("this is not HTTP"))
        elif self._stage is not Stage.HEAD:
            self._enter(Stage.HEAD, self._limits.head_seconds)

    def _begin(self, head: Head) -> None:
        shared = self._shared
        body = None
        if head.length != 0:
            framing = Chunked() if head.length is None else Sized(head.length)
            body = RequestBody(shared.loop, self, framing, head.length, head.expects)
            if self._eof:
                body.fail(IncompleteBody, "the client stopped sending in the middle of the body")
        request = Request(
            head.method, head.target, head.headers, body or _NO_BODY, request_id(), self._peer, self._secure
        )  # fmt: skip
        try:
            answer = shared.app(request)
        except Exception as error:  # as from a coroutine: a defect, for the exchange to log and to answer
            answer = _failing(error)
        if body is None and isinstance(answer, (Repeated, Response)) and self._answers(head, answer):
            return
        if isinstance(answer, Repeated):
            answer = answer.response()
        exchange = Exchange(shared, self, head, body)
        self._body = body
        if isinstance(answer, Future):
            self._enter(Stage.BUSY, None)
            self._exchange = exchange
            self.answered = False
            if body is not None:
                body.skip()
            answer.add_done_callback(lambda done: self._kept(request, head, exchange, done))
        else:
            self._busy(exchange, exchange.serve(request, answer))

    def _kept(self, request: Request, head: Head, exchange: Exchange, done: Promise) -> None:
        """A promised answer is there."""
        error = done.exception()
        if error is None and self._stage is Stage.BUSY and self._answers(head, done.result()):
            self._exchange = None
            self._shared.tell()
            self._steer()
            return
        task = start(exchange.serve(request, done.result() if error is None else _failing(error)))
        if task is not None:
            self._task = task

    def _repeats(self, again: Again) -> bool:
        """Answer a request whose head is known. False when the application has to be asked."""
        try:
            answer = again(request_id())
        except Exception:  # the application fails as well then, where that is seen to
            return False
        return answer is not None and self._answers(_KNOWN, answer)

    def _answers(self, head: Head, answer: Answer) -> bool:
        """Send an answer that is there at once, the common case, without all that waiting takes. False when the line is not
        free for it, or it cannot be sent as it is: then nothing is sent yet."""
        transport, body = self._transport, answer.body
        if not isinstance(body, bytes) or self.ahead or self._eof or self._stage > Stage.BUSY:
            return False
        if transport.is_closing() or transport.get_write_buffer_size():
            return False
        keep = head.keep_alive and not self._shared.draining
        try:
            if isinstance(answer, Repeated):
                data = render_again(answer, close=not keep, keep=keep and not head.modern) + body
            else:
                keep = keep and not answer.close
                data = whole(answer, body, head.method, close=not keep, keep=keep and not head.modern)
        except (WrongLength, ValueError):
            return False
        if len(data) >= self._high:  # might have to be waited for
            return False
        transport.write(data)
        self._body = None
        if keep:
            if head.raw and isinstance(answer, Repeated) and answer.again is not None and head.modern:
                self._shared.known.keep(head.raw, answer.again)
            self._enter(Stage.IDLE, self._limits.idle_seconds)
        else:
            self._hang_up(False)
        return True

    def _refuse(self, error: Exception) -> None:
        """Answer what is no request and take no further one."""
        self.ahead.clear()
        exchange = Exchange(self._shared, self, None)
        self._busy(exchange, exchange.decline(error))

    def _busy(self, exchange: Exchange, work: Work) -> None:
        self._enter(Stage.BUSY, None)
        self._exchange = exchange
        self.answered = False
        task = start(work)
        if task is not None:
            self._task = task

    # ---- what follows a request --------------------------------------------------------------------------------------
    def _rest(self) -> None:
        """Between two requests."""
        self._body = None
        if self._shared.draining:
            self._close()
        elif self.ahead or self._eof:
            self._next_request()
        else:
            self._enter(Stage.IDLE, self._limits.idle_seconds)
        self._steer()

    def _hang_up(self, unread: bool) -> None:
        """Close. A client that is sending still would get a reset, and with it lose the answer: it is heard out first."""
        self._body = None
        if self._eof or self._shared.crowded or not (unread or self.ahead):
            self._close()
            return
        self.ahead.clear()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._enter(Stage.LINGERING, self._limits.linger_seconds)
        self._steer()

    def _close(self) -> None:
        """Send what is left, then close. Twice is harmless."""
        self._transport.close()
        self._mark = -self._transport.get_write_buffer_size()
        self._enter(Stage.CLOSING, self._limits.write_seconds)

    def _release(self) -> None:
        if self._stage is Stage.LOST and self._exchange is None:
            self._shared.connections.discard(self)
            self._shared.tell()

    def _enter(self, stage: Stage, seconds: float | None) -> None:
        self._stage = stage
        if seconds is None:
            self._deadline.clear()
        else:
            self._deadline.set(seconds)

    def _steer(self) -> None:
        """Read from the socket when somebody has a use for the bytes, and only then."""
        wanted = True
        if self._stage is Stage.BUSY:
            body = self._body
            wanted = body.open if body is not None and body.missing() else len(self.ahead) < self._limits.ahead_bytes
        if wanted is not self._reading and not self._eof:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # ---- time --------------------------------------------------------------------------------------------------------
    def _expired(self) -> None:
        stage = self._stage
        if stage is Stage.HEAD:
            self._refuse(RequestTimeout("the request head took too long"))
        elif stage is Stage.BUSY and self._body is not None and self._body.open:
            if not self._moved(self._received, self._limits.body_seconds):
                self._body.fail(RequestTimeout, "the request body took too long")
        elif stage in (Stage.BUSY, Stage.CLOSING):
            if not self._moved(-self._transport.get_write_buffer_size(), self._limits.write_seconds):
                self.abort()
        elif stage is Stage.IDLE:
            self._close()
        elif stage is Stage.GATHERING:
            self._gathered()
            self._steer()
        else:
            self.abort()

    def _moved(self, now: int, seconds: float) -> bool:
        """Whether enough bytes went by since the deadline was set; if so, it is set again."""
        if now - self._mark < self._limits.progress_bytes:
            return False
        self._mark = now
        self._deadline.set(seconds)
        return True

    # ---- bytes, by stage ---------------------------------------------------------------------------------------------
    def _take_head(self, count: int) -> None:
        if not self.ahead:
            # Nearly always a head comes alone and whole.
            raw = bytes(self._room[:count])
            again = self._shared.known.find(raw) if count <= LONGEST else None
            if again is not None and self._repeats(again):
                return
            if raw.find(END) == count - len(END) and raw[:1].isupper():
                self._read_head(raw)
                return
        self.ahead += self._room[:count]
        self._next_request()

    def _take_gathered(self, count: int) -> None:
        self.ahead += self._room[:count]
        if len(self.ahead) >= cast(int, cast(Head, self._head).length):
            self._gathered()

    def _take_ahead(self, count: int) -> None:
        self.ahead += self._room[:count]

    def _take_rest(self, count: int) -> None:
        self.ahead += self._room[:count]
        body = cast(RequestBody, self._body)
        body.skip()
        if body.framing.done:
            self._rest()

    def _drop(self, count: int) -> None:
        """Nobody wants it."""

    _TAKERS: Final = (_take_head, _take_head, _take_gathered, _take_ahead, _take_rest, _drop, _drop, _drop)

    # ---- asyncio's callbacks -----------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        shared = self._shared
        self._transport = cast(asyncio.Transport, transport)
        self._secure = transport.get_extra_info("sslcontext") is not None
        self._high = self._limits.write_high
        if self._secure:
            self._high = self.largest = self._limits.tls_slice
        self._transport.set_write_buffer_limits(self._high)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        shared.connections.add(self)
        if shared.draining:
            self._close()
        elif shared.crowded:
            self._refuse(Overloaded(f"more than {self._limits.connections} connections"))
        else:
            self._enter(Stage.IDLE, self._limits.idle_seconds)

    def get_buffer(self, sizehint: int) -> memoryview:
        body = self._body
        return body.place(self._room) if body is not None and body.open else self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._received += nbytes
        body = self._body
        if body is not None and body.open:
            body.arrived(nbytes, self._room)
            if body.open:
                return
        else:
            self._TAKERS[self._stage](self, nbytes)
        self._steer()

    def eof_received(self) -> bool:
        """True keeps the other direction open: who has sent a whole request and closed that side still gets the answer."""
        self._eof = True
        if self._stage is Stage.GATHERING:
            self._gathered()
        if self._stage is not Stage.BUSY or self._secure:
            self._close()
            return False
        if self._body is not None:
            self._body.fail(IncompleteBody, "the client stopped sending in the middle of the body")
        return True

    def pause_writing(self) -> None:
        self._flow.pause()

    def resume_writing(self) -> None:
        self._flow.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stage = Stage.LOST
        self._deadline.close()
        self._flow.lose()
        if self._body is not None:
            self._body.fail(ClientDisconnected, "the client went away in the middle of the body")
        self._release()
