"""Puts the access log around an application: notes when a request comes, and what became of it when its answer has ended."""

from __future__ import annotations

import time
from asyncio import Future
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from abixio.accesslog import AccessLog, Line, line_of
from abixio.errors import ClientDisconnected
from abixio.message import Answer, Application, Buffer, Promise, Repeated, Request, Response, Stream

GONE: Final = 499
"""Of a request whose client did not wait for the answer; what other servers write, too."""


class Logged:
    """Application over another one."""

    def __init__(self, app: Application, log: AccessLog) -> None:
        self._app = app
        self._log = log
        self._told: BaseException | None = None

    def __call__(self, request: Request) -> Answer | Promise | Coroutine[Any, Any, Response]:
        began = time.time()
        try:
            answer = self._app(request)
        except Exception as error:
            self._failed(request, began, error)
            raise
        if isinstance(answer, Repeated):
            answer = answer.response()
        if isinstance(answer, Future):
            answer.add_done_callback(lambda done: self._kept(request, began, done))
            return answer
        return self._noted(request, began, answer) if isinstance(answer, Response) else self._later(request, began, answer)

    def _kept(self, request: Request, began: float, done: Promise) -> None:
        error = done.exception()
        if error is None:
            self._noted(request, began, done.result())
        else:
            self._failed(request, began, error)

    async def _later(self, request: Request, began: float, answer: Coroutine[Any, Any, Response]) -> Response:
        try:
            return self._noted(request, began, await answer)
        except BaseException as error:
            self._failed(request, began, error)
            raise

    def _failed(self, request: Request, began: float, error: BaseException) -> None:
        # The transport answers it next, by way of `refuse`, with nothing in between.
        self._told = error
        gone = isinstance(error, ClientDisconnected) or not isinstance(error, Exception)
        self._log.add(line_of(request, began, GONE if gone else 500, 0))

    def _noted(self, request: Request, began: float, response: Response) -> Response:
        body = response.body
        if isinstance(body, bytes):
            sent = 0 if request.method == "HEAD" else len(body)
            self._log.add(line_of(request, began, response.status, sent))
        else:
            response.body = _Counted(body, self._log, request, began, response.status)
        return response

    def refuse(self, error: Exception, request_id: str) -> Response:
        response = self._app.refuse(error, request_id)
        if error is not self._told:
            sent = len(response.body) if isinstance(response.body, bytes) else 0
            self._log.add(Line(time.time(), "", "", "-", "-", response.status, sent, 0.0, request_id))
        self._told = None
        return response


class _Counted:
    """A stream whose bytes are counted."""

    def __init__(self, stream: Stream, log: AccessLog, request: Request, began: float, status: int) -> None:
        self.length = stream.length
        self._stream = stream
        self._log = log
        self._request, self._began, self._status = request, began, status
        self._slices: AsyncIterator[Buffer] | None = None
        self._sent = 0

    def __aiter__(self) -> AsyncIterator[Buffer]:
        self._slices = aiter(self._stream)
        return self

    async def __anext__(self) -> Buffer:
        """No generator: its frame would hold on to a slice, which may be a pooled buffer that somebody waits for."""
        assert self._slices is not None
        piece = await anext(self._slices)
        self._sent += len(piece)
        return piece

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._log.add(line_of(self._request, self._began, self._status, self._sent))
