"""Answers in JSON: what was asked for, or `{"code", "message", "request_id"}` with the code and status that S3 has for it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from abixio.errors import AbixioError
from abixio.message import Response
from abixio.s3.errors import CLOSING, from_exception

_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Server", "abixio"))


class NotHere(AbixioError):
    """There is no such path, or no such job: the only answers that S3 has no code for."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


def answer(content: Any, request_id: str, status: int = 200) -> Response:
    """`content` may hold dataclasses."""
    return Response(status, [*_HEADERS, ("x-amz-request-id", request_id)], msgspec.json.encode(content) + b"\n")


def refusal(error: BaseException, request_id: str) -> Response:
    """What went wrong, for people and for scripts. The body of a HEAD is left out by the transport."""
    if isinstance(error, NotHere):
        status, code, message, headers = 404, error.code, error.message, []
    else:
        found = from_exception(error)
        status, code, message, headers = found.status, found.code, found.message, found.headers
    found_answer = answer({"code": code, "message": message, "request_id": request_id}, request_id, status)
    found_answer.headers += headers
    found_answer.close = code in CLOSING
    return found_answer


def reason(error: BaseException) -> str:
    """One line on why an object or a job failed. Only the root credential reads it, so it may hold what the store says."""
    found = from_exception(error)
    detail = str(error) if isinstance(error, AbixioError) else ""
    return f"{found.code}: {detail or found.message}"
