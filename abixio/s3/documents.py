"""The documents that some operations take as their body: read whole, verified like an object, and parsed, all within
bounds of memory and time.

A document may have 8 MiB, and its tree takes three times that. Documents over `SMALL` therefore take turns, so that no
number of clients can fill the memory with them, and each has to be there in `SECONDS`, so that nobody keeps a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from abixio.codec.digest import Digests
from abixio.config import KIB
from abixio.errors import Overloaded, RequestTimeout
from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.payload import document_source
from abixio.s3.sigv4 import Identity
from abixio.s3.xml import MalformedDocument, Node, parse
from abixio.store.types import Source

SMALL: Final = 64 * KIB
"""The deletion of 500 ordinary keys. Parses in about 5 ms: longer ones leave the event loop alone."""
GROWTH: Final = 64 * KIB
"""Step in which a document of unknown length is read."""
TURNS: Final = 4
"""Long documents at once: 4 * (8 MiB + a tree of up to 24 MiB) is 128 MiB."""
WAITING: Final = 256
"""Long documents that wait for a turn. One takes some 100 ms, so the last one waits for half a minute."""
SECONDS: Final = 60.0
"""To send a long document: 8 MiB at 140 KB/s."""


class Documents:
    """Reads documents, for one server."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(TURNS)
        self._waiting = 0

    async def read(self, request: Request, identity: Identity, root: str, limit: int, checksums: bool = True) -> Node:
        """The root element. MissingRequestBodyError, MaxMessageLengthExceeded, MalformedXML for whatever is no `root`;
        else as `payload_source` and its source.

        CompleteMultipartUpload passes `checksums=False`: its x-amz-checksum-* headers are about the object it makes.
        """
        source = document_source(request, identity, checksums)
        if source.length is not None and source.length > limit:
            raise _too_long(limit)
        small = source.length is not None and source.length <= SMALL
        async with nullcontext() if small else self._turn():
            data = await _whole(source, limit)
            if not data:
                raise S3Error("MissingRequestBodyError")
            try:
                if len(data) <= SMALL:
                    return parse(data, root)
                return await asyncio.get_running_loop().run_in_executor(None, parse, data, root)
            except MalformedDocument as error:
                raise S3Error("MalformedXML") from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING:
            raise Overloaded("too many long documents at once")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            async with asyncio.timeout(SECONDS):
                yield
        except TimeoutError as error:
            raise RequestTimeout("a long document took too long") from error
        finally:
            self._turns.release()


async def _whole(source: Source, limit: int) -> bytes:
    """The payload, verified."""
    data = bytearray()
    while True:
        # One byte more than the limit is enough to see that a body is over it; one byte more than the length makes the
        # read see the end of the body, trailers included.
        room = bytearray(min(GROWTH if source.length is None else source.length - len(data), limit - len(data)) + 1)
        count = await source.readinto(memoryview(room))
        data += memoryview(room)[:count]
        if len(data) > limit:
            raise _too_long(limit)
        if count < len(room):
            break
    digests = Digests(source.algorithms)
    digests.update(data)
    source.verify(digests.digests())
    return bytes(data)


def _too_long(limit: int) -> S3Error:
    return S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=limit)
