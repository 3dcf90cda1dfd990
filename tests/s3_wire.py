"""What the tests of `abixio.s3` send: requests without a wire, bodies over bytes, and a chunk signer of their own."""

from __future__ import annotations

import asyncio
import hmac
import random
from collections.abc import Mapping, Sequence
from hashlib import sha256

from abixio.errors import BadRequest, IncompleteBody
from abixio.message import Request

ACCESS = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIALS = {ACCESS: SECRET}


class BytesBody:
    """A body that is there already. Gives way to other tasks at random, as a socket does."""

    def __init__(self, data: bytes, length: int | None = -1, seed: int = 0) -> None:
        self.length = len(data) if length == -1 else length
        self._data = data
        self._at = 0
        self._random = random.Random(seed)

    @property
    def unread(self) -> int:
        return len(self._data) - self._at

    async def readinto(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view) and self.unread:
            step = min(len(view) - filled, self.unread, self._random.choice((1, 100, 70_000, 2**24)))
            view[filled : filled + step] = self._data[self._at : self._at + step]
            self._at += step
            filled += step
            if self._random.random() < 0.1:
                await asyncio.sleep(0)
        if filled < len(view) and self.length is not None and self._at < self.length:
            raise IncompleteBody
        return filled

    async def readline(self, limit: int) -> bytes:
        end = self._data.find(b"\n", self._at)
        end = len(self._data) if end < 0 else end + 1
        if end - self._at > limit:
            raise BadRequest("line too long")
        line = self._data[self._at : end]
        self._at = end
        return line

    def at_hand(self) -> bytes | None:
        return self._data if self._at == 0 and self.length == len(self._data) else None


def request(
    method: str = "GET", target: bytes | str = b"/", headers: Mapping[str, str] | None = None, body: bytes | BytesBody = b""
) -> Request:
    """A request as the transport would hand it over."""
    if isinstance(body, bytes):
        body = BytesBody(body)
    target = target.encode() if isinstance(target, str) else target
    sent = {name.lower(): value.strip(" \t") for name, value in (headers or {}).items()}
    return Request(method, target, sent, body, "0123456789ABCDEF", "127.0.0.1")


def derive(secret: str, scope: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), sha256).digest()
    return key


class ChunkWriter:
    """Writes aws-chunked bodies, step by step as the S3 documentation describes them."""

    def __init__(self, seed: str, timestamp: str, scope: str, secret: str = SECRET) -> None:
        self.previous = seed
        self._timestamp, self._scope = timestamp, scope
        self._key = derive(secret, scope)

    def _sign(self, kind: str, *hashes: str) -> str:
        lines = ["AWS4-HMAC-SHA256-" + kind, self._timestamp, self._scope, self.previous, *hashes]
        self.previous = hmac.new(self._key, "\n".join(lines).encode(), "sha256").hexdigest()
        return self.previous

    def chunk(self, data: bytes) -> bytes:
        signature = self._sign("PAYLOAD", sha256(b"").hexdigest(), sha256(data).hexdigest())
        head = f"{len(data):x};chunk-signature={signature}\r\n".encode()
        return head + data + (b"\r\n" if data else b"")

    def trailer(self, name: str, value: str) -> bytes:
        signature = self._sign("TRAILER", sha256(f"{name}:{value}\n".encode()).hexdigest())
        return f"{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n".encode()


def unsigned_chunks(pieces: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """As boto3 sends them over TLS."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
