"""The messages between the wire and the handlers: `transport` builds requests, `s3` answers them, neither owns these."""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

ID: Final = "x-amz-request-id"
Buffer = bytes | bytearray | memoryview


class Body(Protocol):
    """The body of one request, with the transfer coding removed. One reader at a time.

    The first read sends `100 Continue` if the client waits for it, so check all that needs no body before.
    Both reads raise ClientDisconnected, IncompleteBody or RequestTimeout; after that the body is of no more use.
    """

    length: int | None
    """Content-Length; 0 without a body; None when the length is not announced (chunked)."""

    async def readinto(self, view: memoryview) -> int:
        """Fill `view` and return how many bytes that were: fewer than len(view) only where the body ends.

        The kernel writes straight into `view` whenever nothing was received ahead; the caller keeps it alive and untouched.
        """
        ...

    async def readline(self, limit: int) -> bytes:
        """The next line, its LF included; without one at the end of the body. BadRequest when longer than `limit` bytes."""
        ...

    def at_hand(self) -> bytes | None:
        """All of it, where it was received already and nothing of it was read; it can still be read after that."""
        ...


@dataclass(slots=True)
class Request:
    """One request head and the handle on its body."""

    method: str
    target: bytes
    """The request target exactly as received: path, and query behind the first `?`."""
    headers: dict[str, str]
    """Lower-case names; values decoded as latin-1 (lossless), stripped; repeated lines joined with `,`."""
    body: Body
    id: str
    """16 upper-case hex digits; the x-amz-request-id of the answer."""
    peer: str
    secure: bool = False


class Stream(Protocol):
    """A response body that is produced while it is sent. `length` bytes in all, or the connection is cut."""

    length: int

    def __aiter__(self) -> AsyncIterator[Buffer]:
        """Slices in order. A slice must stay unchanged for as long as anybody refers to it."""
        ...

    async def aclose(self) -> None:
        """Always called once, also when the client went away in the middle."""
        ...


@dataclass(slots=True)
class Response:
    """Transport adds Date, Content-Length (from the body, unless given: HEAD and 304 give their own) and Connection."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | Stream = b""
    close: bool = False
    """Close the connection after this answer."""


class Template:
    """The head of an answer that is given again and again: all of it but the line with the request's id, which goes in at
    `place`. The transport keeps here what it makes of it."""

    __slots__ = ("headers", "lines", "place", "status")

    def __init__(self, status: int, headers: list[tuple[str, str]], place: int) -> None:
        self.status = status
        self.headers = headers
        self.place = place
        self.lines: tuple[bytes, bytes, bytes] | None = None


@dataclass(slots=True)
class Repeated:
    """The answer to a request that is just like one before, but for its id."""

    template: Template
    id: str
    body: bytes
    again: Again | None = None
    """Answers every further request that comes in the very same bytes, of whatever connection: None when it cannot any more, or
    not now, and the application has to be asked. Without it the application has to be asked each time."""

    def response(self) -> Response:
        """The same, made out."""
        headers = list(self.template.headers)
        headers.insert(self.template.place, (ID, self.id))
        return Response(self.template.status, headers, self.body)


Again = Callable[[str], Repeated | None]
"""Gives the answer to a request with that id."""
Answer = Response | Repeated
Promise = Future[Response]


class Application(Protocol):
    """What a transport serves."""

    def __call__(self, request: Request) -> Answer | Promise | Coroutine[Any, Any, Response]:
        """Answer a request: at once, where nothing has to be waited for, else by a coroutine; or by a future, which somebody else
        sees to, when the body was at hand and is not needed any more. Anything that any of them raises is a defect: the
        transport logs it and answers 500."""
        ...

    def refuse(self, error: Exception, request_id: str) -> Response:
        """The answer to a request that could not be read (a RequestError) or whose handler failed (anything else)."""
        ...


async def finished(answer: Answer | Promise | Coroutine[Any, Any, Response]) -> Response:
    """What an application gave, once it is there."""
    if isinstance(answer, Repeated):
        return answer.response()
    return answer if isinstance(answer, Response) else await answer
