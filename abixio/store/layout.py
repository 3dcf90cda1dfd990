"""Where the bytes of an object lie: its stripes, their pieces on the shards, and the choice of a layout for a new object.

An object of S bytes is cut into full stripes of k chunks, then a last stripe of the L bytes that are left (docs/format.md).
The last stripe is cut into k pieces of p = ceil(L / k) bytes; of the data pieces only what the object fills is stored, the
rest is zeros for the arithmetic; parity pieces are p bytes. So no shard is longer than the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from abixio.config import KIB, MIB
from abixio.errors import InvalidFaultTolerance
from abixio.store.record import Layout

STRIPE: Final = 4 * MIB
"""Data of a full stripe at most: long enough that a thread hand-over (about 0.1 ms) is noise beside it (1.5 ms at 3 GB/s)."""
STRIPE_BUFFER: Final = 8 * MIB
"""Data and parity of a stripe at most: one buffer holds both."""
MIN_CHUNK: Final = 64 * KIB
"""The checksum block: chunks are multiples of it, so that no block spans two stripes. 16 slots x 64 KiB fit any buffer."""


def choose(n: int, ftt: int, space: bytes, key: bytes) -> Layout:
    """The layout of a new object on n slots that survives the loss of any `ftt` of them.

    The slots are rotated by a hash of the name, so that over many objects data and parity spread evenly.
    """
    return _rotated(n, ftt, xxh3_64_intdigest(space + key) % n)


@lru_cache(maxsize=256)
def _rotated(n: int, ftt: int, first: int) -> Layout:
    """The one whose first data shard is on that slot: most objects of a pool share a few."""
    if not 0 <= ftt < n:
        raise InvalidFaultTolerance(f"fault tolerance {ftt} on {n} volumes: it must be 0 to {n - 1}")
    k = n - ftt
    chunk = STRIPE
    while chunk > MIN_CHUNK and (k * chunk > STRIPE or n * chunk > STRIPE_BUFFER):
        chunk //= 2
    return Layout(k, ftt, tuple((first + i) % n for i in range(n)), chunk)


class Piece(NamedTuple):
    """A run of object bytes on one data shard."""

    shard: int
    """Its index, in shard order."""
    offset: int
    """In the shard."""
    length: int


class Stripe(NamedTuple):
    """One stripe of an object (or part) of known size."""

    start: int
    """The first object byte."""
    length: int
    """Object bytes in it."""
    offset: int
    """Where its pieces begin in every shard."""
    piece: int
    """Bytes of one piece, padding included."""

    def stored(self, index: int, k: int) -> int:
        """Bytes of it that shard `index` stores."""
        if index >= k:
            return self.piece
        return min(max(self.length - index * self.piece, 0), self.piece)

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Where the object bytes [start, stop), all within this stripe, lie."""
        while start < stop:
            index, skip = divmod(start - self.start, self.piece)
            length = min(self.piece - skip, stop - start)
            yield Piece(index, self.offset + skip, length)
            start += length


def stripe_size(layout: Layout) -> int:
    """Object bytes of a full stripe."""
    return layout.k * layout.chunk


def piece_size(length: int, k: int) -> int:
    """Bytes of one piece of a stripe with so many object bytes."""
    return -(-length // k)


def stripe_at(layout: Layout, size: int, number: int) -> Stripe:
    """Stripe `number` of an object of `size` bytes."""
    full = stripe_size(layout)
    start = number * full
    length = min(full, size - start)
    return Stripe(start, length, number * layout.chunk, piece_size(length, layout.k))


def stripes(layout: Layout, size: int, start: int, stop: int) -> Iterator[Stripe]:
    """The stripes that the object bytes [start, stop) touch."""
    full = stripe_size(layout)
    for number in range(start // full, -(-stop // full)):
        yield stripe_at(layout, size, number)


def shard_size(layout: Layout, index: int, size: int) -> int:
    """Bytes that shard `index` stores of an object of `size` bytes."""
    if size == 0:
        return 0
    last = stripe_at(layout, size, (size - 1) // stripe_size(layout))
    return last.offset + last.stored(index, layout.k)
