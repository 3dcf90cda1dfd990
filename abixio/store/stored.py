"""Bytes of an open object as the source of an upload: for copies, for another layout, for what is appended to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping

from abixio.message import Buffer
from abixio.store.types import Reader


class Stored:
    """A run of bytes of an object. They were checked when they were read."""

    def __init__(self, reader: Reader, start: int, length: int) -> None:
        self.length: int | None = length
        self.algorithms: Collection[str] = ()
        self._slices = _slices(reader, start, length)
        self._rest = memoryview(b"")

    async def begin(self) -> None:
        """Read the first slice ahead of the upload: what a reader borrows to rebuild lost data must not be waited for by an
        upload that has a stripe buffer already, or several could wait for each other."""
        self._rest = memoryview(await anext(self._slices, b""))

    async def readinto(self, view: memoryview) -> int:
        """As `Source.readinto`."""
        at = 0
        while at < len(view):
            if not self._rest:
                piece = await anext(self._slices, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            taken = min(len(self._rest), len(view) - at)
            view[at : at + taken] = self._rest[:taken]
            self._rest = self._rest[taken:]
            at += taken
        return at

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        """As `Source.verify`."""
        return {}

    async def aclose(self) -> None:
        """Let go of what was read ahead."""
        self._rest = memoryview(b"")
        await self._slices.aclose()


async def _slices(reader: Reader, start: int, length: int) -> AsyncGenerator[Buffer, None]:
    async for piece in reader.stream(start, length):
        yield piece
