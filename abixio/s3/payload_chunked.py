"""The aws-chunked coding: a payload in chunks, perhaps each with its signature, and a checksum behind the last.

    chunk    = size in hex [ ";chunk-signature=" 64 hex digits ] CRLF  data CRLF
    body     = *chunk  a chunk of size 0 without data  *trailer  CRLF
    trailer  = name ":" value CRLF       (signed forms end with x-amz-trailer-signature)

The data of a chunk is read straight to where it belongs, so what is left to do per chunk is two short lines. Chunk
hashes are made once for all chunks of one `readinto`: a thread hand-over for each chunk would cost more than its hash.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final

from abixio.config import KIB, MAX_OBJECT
from abixio.errors import BadRequest
from abixio.message import Body
from abixio.s3.errors import S3Error
from abixio.s3.payload_checks import Checks
from abixio.s3.sigv4 import Identity, same, sign
from abixio.s3.sigv4_claim import ALGORITHM

CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?\r\n")
CHUNK_LINE: Final = 128
"""The longest chunk line is 16 + 17 + 64 + 2 bytes."""
TRAILER_LINE: Final = KIB
"""The longest trailer is a checksum or a signature; about 100 bytes."""
MAX_TRAILER_LINES: Final = 16
"""One checksum, one signature, and the empty lines that some clients put between them."""
MIN_CHUNK: Final = 8 * KIB
"""All chunks but the last, as S3: smaller ones cost more to parse than to store."""
INLINE_HASH: Final = 256 * KIB
"""About 150 us of SHA-256; below that, handing it to a thread takes as long as doing it."""
TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"
EMPTY_SHA256: Final = sha256().hexdigest()


def incomplete() -> S3Error:
    """What S3 calls every mistake in the coding itself."""
    return S3Error("IncompleteBody", "The request body terminated unexpectedly")


class ChunkSigner:
    """Checks the chain of signatures: each covers the one before it and the hash of its chunk."""

    def __init__(self, identity: Identity, trailer: bool) -> None:
        self._identity = identity
        self.trailer = trailer
        self._previous = identity.signature
        self._hash = sha256()
        self._pieces: list[tuple[memoryview, str]] = []
        self._bytes = 0

    def add(self, piece: memoryview, signature: str) -> None:
        """More data of the current chunk; with a signature, it is the last of that chunk."""
        self._pieces.append((piece, signature))
        self._bytes += len(piece)

    async def settle(self) -> None:
        """Hash what was added and check the chunks that ended in it. SignatureDoesNotMatch."""
        if self._bytes < INLINE_HASH:
            self._run()
        else:
            await asyncio.get_running_loop().run_in_executor(None, self._run)

    def _run(self) -> None:
        pieces, self._pieces, self._bytes = self._pieces, [], 0
        for piece, signature in pieces:
            self._hash.update(piece)
            if signature:
                self._check("PAYLOAD", f"{EMPTY_SHA256}\n{self._hash.hexdigest()}", signature)
                self._hash = sha256()

    def check_trailers(self, found: dict[str, str]) -> None:
        """Takes the trailer signature out of `found` and checks it over the rest."""
        signature = found.pop(TRAILER_SIGNATURE, None)
        if signature is None:
            raise S3Error("MalformedTrailerError")
        lines = "".join(f"{name}:{value}\n" for name, value in sorted(found.items()))
        self._check("TRAILER", sha256(lines.encode("latin-1")).hexdigest(), signature)

    def _check(self, kind: str, hashes: str, signature: str) -> None:
        identity = self._identity
        string_to_sign = f"{ALGORITHM}-{kind}\n{identity.timestamp}\n{identity.scope}\n{self._previous}\n{hashes}"
        expected = sign(identity.key, string_to_sign)
        if not same(expected, signature):
            raise S3Error(
                "SignatureDoesNotMatch",
                AWSAccessKeyId=identity.access_key, StringToSign=string_to_sign, SignatureProvided=signature,
            )
        self._previous = expected


class ChunkedSource:
    """A `Payload` over an aws-chunked body. The coding is read to its very end as soon as the last payload byte is."""

    def __init__(self, body: Body, checks: Checks, length: int | None, signer: ChunkSigner | None) -> None:
        self.length = length
        self.algorithms: Collection[str] = checks.algorithms
        self._body = body
        self._checks = checks
        self._signer = signer
        self._received = 0
        self._chunks = 0
        self._size = MIN_CHUNK  # of the current chunk
        self._left = 0  # of the current chunk, still to come
        self._signature = ""
        self._ended = False

    @property
    def checksum(self) -> str | None:
        """As `abixio.s3.payload.Payload.checksum`."""
        return self._checks.algorithm

    def add_checksum(self, algorithm: str) -> None:
        """As `abixio.s3.payload.Payload.add_checksum`."""
        self._checks.add(algorithm)
        self.algorithms = self._checks.algorithms

    async def readinto(self, view: memoryview) -> int:
        """As `abixio.message.Body.readinto`. S3Error for a bad coding, a bad signature or a wrong length; what was written
        to `view` is then not to be used."""
        filled = 0
        while not self._ended:
            if self._left:
                if filled == len(view):
                    break
                piece = view[filled : filled + self._left]
                await self._read_data(piece)
                filled += len(piece)
            elif filled == len(view) and self._received != self.length:
                break
            else:
                await self._next_chunk()
        if self._signer:
            await self._signer.settle()
        return filled

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        """As `abixio.store.types.Source.verify`. A body whose end nobody read is not a body: its trailers are unknown."""
        if not self._ended:
            raise incomplete()
        return self._checks.verify(digests)

    async def _read_data(self, piece: memoryview) -> None:
        if await self._body.readinto(piece) != len(piece):
            raise incomplete()
        self._received += len(piece)
        self._left -= len(piece)
        if self._signer:
            self._signer.add(piece, "" if self._left else self._signature)
        if not self._left and await self._line(2) != b"\r\n":
            raise incomplete()

    async def _next_chunk(self) -> None:
        match = CHUNK.fullmatch(await self._line(CHUNK_LINE))
        if match is None or (self._signer and match[2] is None):
            raise incomplete()
        size = int(match[1], 16)
        self._signature = (match[2] or b"").decode("ascii")
        if size == 0:
            await self._finish()
            return
        self._chunks += 1
        if self._size < MIN_CHUNK:
            raise S3Error("InvalidChunkSizeError", Chunk=self._chunks, BadChunkSize=self._size)
        if self.length is not None and self._received + size > self.length:
            raise S3Error("IncompleteBody")
        if self._received + size > MAX_OBJECT:
            raise S3Error("EntityTooLarge", ProposedSize=self._received + size, MaxSizeAllowed=MAX_OBJECT)
        self._size = self._left = size

    async def _finish(self) -> None:
        if self.length is not None and self._received != self.length:
            raise S3Error("IncompleteBody")
        if self._signer:
            self._signer.add(memoryview(b""), self._signature)
            await self._signer.settle()
        trailers = await self._trailers()
        if self._signer and self._signer.trailer:
            self._signer.check_trailers(trailers)
        self._checks.take_trailers(trailers)
        self._ended = True

    async def _trailers(self) -> dict[str, str]:
        """All lines up to the end of the body, which must be an empty one. Empty lines before are let through: the published
        example of a signed trailer has one in front of the signature, and clients were made after it."""
        found: dict[str, str] = {}
        last = b""
        for _ in range(MAX_TRAILER_LINES):
            line = await self._line(TRAILER_LINE)
            if not line:
                if last != b"\r\n":
                    raise incomplete()
                return found
            last = line
            text = line.strip()
            if not text:
                continue
            name, colon, value = text.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\n"):
                raise S3Error("MalformedTrailerError")
            found[name.strip().lower()] = value.strip()
        raise S3Error("MalformedTrailerError")

    async def _line(self, limit: int) -> bytes:
        try:
            return await self._body.readline(limit)
        except BadRequest as error:
            raise incomplete() from error
