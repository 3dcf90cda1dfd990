"""The body of a request as the payload it carries: decoded, counted, and checked against all that the client said of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from abixio.config import MAX_OBJECT
from abixio.message import Body, Request
from abixio.s3.errors import S3Error
from abixio.s3.payload_checks import Checks
from abixio.s3.payload_chunked import ChunkedSource, ChunkSigner
from abixio.s3.sigv4 import Identity
from abixio.s3.sigv4_claim import STREAMING, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER
from abixio.store.types import Source

LENGTH: Final = re.compile(r"\d+", re.ASCII)


class Payload(Source, Protocol):
    """A `Source` that can be asked for more than the client wants."""

    @property
    def checksum(self) -> str | None:
        """The algorithm of the x-amz-checksum-* that the client sends."""
        ...

    def add_checksum(self, algorithm: str) -> None:
        """Before the first read: also compute that checksum and give it to be kept."""
        ...


class PlainSource:
    """A `Payload` over a body that is the payload itself."""

    __slots__ = ("_body", "_checks", "_received", "algorithms", "length")

    def __init__(self, body: Body, checks: Checks) -> None:
        self.length = body.length
        self.algorithms: Collection[str] = checks.algorithms
        self._body = body
        self._checks = checks
        self._received = 0

    @property
    def checksum(self) -> str | None:
        """As `Payload.checksum`."""
        return self._checks.algorithm

    def add_checksum(self, algorithm: str) -> None:
        """As `Payload.add_checksum`."""
        self._checks.add(algorithm)
        self.algorithms = self._checks.algorithms

    async def readinto(self, view: memoryview) -> int:
        """As `abixio.message.Body.readinto`; EntityTooLarge when a body of unknown length does not end."""
        count = await self._body.readinto(view)
        self._received += count
        if self._received > MAX_OBJECT:
            raise _too_large(self._received)
        return count

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        """As `abixio.store.types.Source.verify`."""
        return self._checks.verify(digests)


def payload_source(request: Request, identity: Identity) -> Payload:
    """The payload of PutObject and UploadPart. S3Error for headers that are wrong in themselves, before any byte is read:
    InvalidDigest, InvalidRequest, InvalidArgument, MissingContentLength, EntityTooLarge. `readinto` raises S3Error for
    bad chunks (SignatureDoesNotMatch, IncompleteBody, InvalidChunkSizeError, MalformedTrailerError), `verify` for bad
    digests (BadDigest, XAmzContentSHA256Mismatch)."""
    if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
        raise S3Error("MissingContentLength")
    source = document_source(request, identity, checksums=True)
    if source.length is not None and source.length > MAX_OBJECT:
        raise _too_large(source.length)
    return source


def has_content_md5(request: Request) -> bool:
    """What `PutSpec.real_md5` wants to know."""
    return "content-md5" in request.headers


def document_source(request: Request, identity: Identity, checksums: bool) -> Payload:
    """The same for an operation that takes a document, which may be empty: its limits are `abixio.s3.documents`'s."""
    checks = Checks(request.headers, identity.payload, checksums)
    if identity.payload not in STREAMING:
        return PlainSource(request.body, checks)
    signer = None
    if identity.payload != STREAMING_UNSIGNED_TRAILER:
        signer = ChunkSigner(identity, identity.payload == STREAMING_SIGNED_TRAILER)
    return ChunkedSource(request.body, checks, _decoded_length(request), signer)


def _decoded_length(request: Request) -> int | None:
    """x-amz-decoded-content-length. Amazon always wants it; a client that streams what it does not know the length of
    cannot give it, and nothing here needs it, so it may be missing when the coded length is missing too."""
    value = request.headers.get("x-amz-decoded-content-length")
    if value is None:
        if request.body.length is not None:
            raise S3Error("MissingContentLength")
        return None
    if not LENGTH.fullmatch(value):
        raise S3Error(
            "InvalidArgument", "The x-amz-decoded-content-length header is not a length.",
            ArgumentName="x-amz-decoded-content-length", ArgumentValue=value,
        )
    return int(value) if len(value) <= len(str(MAX_OBJECT)) else MAX_OBJECT + 1


def _too_large(size: int) -> S3Error:
    return S3Error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=MAX_OBJECT)
