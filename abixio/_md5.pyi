"""MD5 (RFC 1321) in C, as `hashlib.md5` but without OpenSSL, so it is there on FIPS systems too: S3 needs it for ETags."""

from collections.abc import Sequence
from typing import Final, Self, final

from typing_extensions import Buffer

@final
class MD5:
    """A running hash. One thread at a time: RuntimeError when another one is in `update`."""

    name: str
    digest_size: int
    """16 bytes."""
    block_size: int
    """64 bytes."""

    def __init__(self, data: Buffer = b"") -> None: ...
    def update(self, data: Buffer) -> None:
        """Append contiguous bytes. The GIL is dropped from 8 KiB on: leave `data` alone meanwhile."""

    def digest(self) -> bytes:
        """Of all bytes so far; more may follow."""

    def hexdigest(self) -> str:
        """32 lower-case hex digits."""

    def copy(self) -> Self:
        """An independent hash that goes on from here."""

LANES: Final[int]
"""How many messages one call of `update_many` takes: 16."""

def update_many(hashes: Sequence[MD5], buffers: Sequence[Buffer]) -> None:
    """`hashes[i].update(buffers[i])` for each, side by side in the lanes of AVX2 vectors if the processor has them: as fast for
    sixteen as for about two. GIL dropped. ValueError for more than LANES, or the same hash twice."""
