"""One request and its answer: calls the application, sends what it gives, decides whether the connection lives on.

A handler is not cancelled when the client goes away: reads of the body and writes of the answer fail instead, so that no
commit is torn by a closed socket.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from abixio.errors import AbixioError, ClientDisconnected, RequestError, UnsupportedExpectation
from abixio.http.head import Head
from abixio.message import Request, Response
from abixio.transport.answer import Outlet, send_stream, send_whole
from abixio.transport.body import RequestBody
from abixio.transport.shared import Shared

logger = logging.getLogger(__name__)

_UNREADABLE: Final = Head("GET", b"", {}, 0, False, True, False)
"""Stands for a head that could not be read: its answer has a body and is the last."""


class Line(Outlet, Protocol):
    """What an exchange needs of its connection."""

    answered: bool
    """A final answer, or some of it, is on its way."""

    def abort(self) -> None:
        """Cut the connection."""
        ...

    def over(self) -> None:
        """The exchange has ended, one way or the other."""
        ...


class Exchange:
    """What a connection is busy with."""

    __slots__ = ("_head", "_line", "_shared", "body", "garbled", "keep")

    def __init__(self, shared: Shared, line: Line, head: Head | None, body: RequestBody | None = None) -> None:
        self._shared = shared
        self._line = line
        self._head = _UNREADABLE if head is None else head
        self.body = body
        self.garbled = head is None
        """Nobody knows what the client is sending."""
        self.keep = False
        """The answer said that the connection stays open."""

    @property
    def unread(self) -> bool:
        """The client may still be sending a body that nobody reads."""
        return self.garbled or (self.body is not None and not self.body.framing.done)

    async def serve(self, request: Request, answer: Response | Coroutine[Any, Any, Response]) -> None:
        """One request, to the end of its answer, which the application gave or goes on to make."""
        try:
            try:
                await self._answer(answer if isinstance(answer, Response) else await answer)
            except ClientDisconnected:
                self._line.abort()
            except Exception as error:
                self._log(error, request)
                if self._line.answered:
                    self._line.abort()
                else:
                    await self._refuse(error, request.id)
        finally:
            self._line.over()

    async def decline(self, error: Exception) -> None:
        """Answer what is no request, or comes at the wrong time."""
        try:
            await self._refuse(error, request_id())
        finally:
            self._line.over()

    async def _refuse(self, error: Exception, number: str) -> None:
        try:
            response = self._shared.app.refuse(error, number)
            if isinstance(error, UnsupportedExpectation):
                response.status = 417
            await self._answer(response)
        except ClientDisconnected:
            self._line.abort()
        except Exception:
            logger.exception("request %s: there is not even an answer to %r", number, error)
            self._line.abort()

    async def _answer(self, response: Response) -> None:
        head, line, body = self._head, self._line, response.body
        self.keep = keep = head.keep_alive and not response.close and not self._shared.draining and self._reusable()
        if isinstance(body, bytes):
            send_whole(line, response, body, head.method, close=not keep, keep=keep and not head.modern)
        else:
            await send_stream(line, response, body, head.method, close=not keep, keep=keep and not head.modern)
        if line.full:
            await line.drained()

    def _reusable(self) -> bool:
        """Whether the next request can be found behind this one's body at little cost."""
        body = self.body
        if body is None or body.framing.done:
            return True
        if body.failed or body.expecting:
            return False
        try:
            body.skip()
        except RequestError:
            return False
        return body.framing.done or (body.length is not None and body.framing.payload <= self._shared.limits.rest_bytes)

    @staticmethod
    def _log(error: Exception, request: Request) -> None:
        # The query of a presigned request is as good as a password.
        name = f"request {request.id}: {request.method} {request.target.partition(b'?')[0].decode('latin-1')!r}"
        if isinstance(error, AbixioError):
            logger.warning("%s failed: %s %s", name, type(error).__name__, error)
        else:
            logger.error("%s failed", name, exc_info=error)


def request_id() -> str:
    """Unique enough to find one request in a log; nothing depends on it being hard to guess."""
    return f"{random.getrandbits(64):016X}"
