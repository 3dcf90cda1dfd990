"""Where a body with Content-Length ends. Shares its four words with `Chunked`: `payload` bytes may be taken next, `took`
says how many were, `feed` gives bytes that are not payload, `done` tells the end."""

from __future__ import annotations

from typing import Protocol


class Framing(Protocol):
    """How the payload of one body lies in the bytes of its connection. Never touches the payload itself."""

    @property
    def payload(self) -> int:
        """Bytes of payload that come next, as far as is known. 0: none, or `feed` comes first."""
        ...

    @property
    def done(self) -> bool:
        """The body has ended; the next byte belongs to the next request."""
        ...

    def took(self, count: int) -> None:
        """`count` of the `payload` bytes were received."""
        ...

    def feed(self, data: bytes | bytearray) -> int:
        """Read what stands between payloads from the start of `data`; returns how many bytes that was. IncompleteBody."""
        ...


class Sized:
    """A body of known length. Nothing stands between its bytes."""

    __slots__ = ("payload",)

    def __init__(self, length: int) -> None:
        self.payload = length

    @property
    def done(self) -> bool:
        return self.payload == 0

    def took(self, count: int) -> None:
        self.payload -= count

    def feed(self, data: bytes | bytearray) -> int:
        return 0
