"""OPTIONS: what a browser asks before it lets a page of another origin send a request. It is never signed, and says nothing
about what is there: without CORS rules no origin may do anything, whatever it asks for."""

from __future__ import annotations

from typing import Final, NoReturn

from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.names import Target

METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})


def refuse(request: Request, target: Target) -> NoReturn:
    """AccessForbidden, or InvalidRequest for what is no question of a browser."""
    if not request.headers.get("origin"):
        raise S3Error("InvalidRequest", "Insufficient information. Origin request header needed.")
    method = request.headers.get("access-control-request-method")
    if method not in METHODS:
        raise S3Error("InvalidRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    raise S3Error("AccessForbidden", Method=method, ResourceType="OBJECT" if target.key else "BUCKET")
