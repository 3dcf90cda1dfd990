"""The arithmetic of an upload: a stripe's data goes in, digests, parity, block checksums and BLAKE3 come out.

Synchronous, and nothing but arithmetic: big stripes are encoded on an executor thread, where nearly all of it runs
without the GIL; small ones on the event loop.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from blake3 import blake3

from abixio.codec import MD5, parity_into
from abixio.codec.aead import Sealer
from abixio.codec.checksum import BLOCK, block_seed, block_sums
from abixio.codec.digest import Digests
from abixio.store.inline import pack_shard
from abixio.store.layout import piece_size
from abixio.store.record import Layout


class Cut(NamedTuple):
    """A stripe in its buffer: the data, and parity right behind it. All are slices of the one buffer."""

    data: memoryview
    sources: list[memoryview]
    """k pieces of equal length, padding included."""
    parity: list[memoryview]
    """m more, to be written."""
    stored: list[memoryview]
    """All k + m pieces as they are stored: without padding."""
    body: memoryview
    """What was received: the data, or what has yet to be encrypted at the front of it."""
    last: bool


def cut(layout: Layout, view: memoryview, length: int, body: int, last: bool) -> Cut:
    """Lay a stripe of `length` bytes at the front of `view` out, where `body` bytes are now; clears the padding."""
    k, piece = layout.k, piece_size(length, layout.k)
    view[length : k * piece] = bytes(k * piece - length)
    pieces = [view[i * piece : (i + 1) * piece] for i in range(k + layout.m)]
    data = view[:length]
    stored = [data[i * piece : (i + 1) * piece] for i in range(k)] + pieces[k:]
    return Cut(data, pieces[:k], pieces[k:], stored, view[:body], last)


class Encoder:
    """The running state of one upload. Used by one thread at a time, stripe after stripe."""

    def __init__(
        self, layout: Layout, write_id: bytes, number: int, digests: Collection[str], sealer: Sealer | None = None
    ) -> None:
        self._sealer = sealer
        self._seeds = [block_seed(write_id, number, slot) for slot in layout.slots]
        self.md5 = MD5() if "md5" in digests else None
        self._digests = Digests({*digests} - {"md5"})
        self._sums = [bytearray() for _ in layout.slots]
        self._hashes: list[blake3] = []
        self._blocks = 0

    def hash(self, stripe: Cut) -> None:
        """The MD5 alone, if it is wanted: the slowest of all, and the one that several uploads may do together (see gang)."""
        if self.md5 is not None:
            self.md5.update(stripe.body)

    def hash_and_encode(self, stripe: Cut) -> None:
        """Both in turn: once a stripe is encrypted its MD5 cannot be had any more."""
        self.hash(stripe)
        self.encode(stripe)

    def encode(self, stripe: Cut) -> None:
        """A stripe that goes to shard files, but for its MD5. All but the last are whole chunks."""
        self._arithmetic(stripe)
        self._hashes = self._hashes or [blake3() for _ in self._seeds]
        for piece, seed, sums, running in zip(stripe.stored, self._seeds, self._sums, self._hashes, strict=True):
            sums += block_sums(piece, seed, self._blocks)
            running.update(piece)
        self._blocks += len(stripe.stored[0]) // BLOCK

    def inline(self, stripe: Cut) -> list[bytes]:
        """An only stripe as inline shards, in shard order."""
        self.hash(stripe)
        self._arithmetic(stripe)
        return [pack_shard(piece, seed) for piece, seed in zip(stripe.stored, self._seeds, strict=True)]

    def _arithmetic(self, stripe: Cut) -> None:
        self._digests.update(stripe.body)
        if self._sealer is not None:
            self._sealer.seal(stripe.data, len(stripe.body), stripe.last)
        if stripe.parity:
            parity_into(stripe.sources, stripe.parity)

    def digests(self) -> dict[str, bytes]:
        """Over all that was received so far."""
        own = {} if self.md5 is None else {"md5": self.md5.digest()}
        return self._digests.digests() | own

    def footer(self, index: int) -> tuple[bytes, bytes]:
        """Block checksums and BLAKE3 of shard `index`."""
        return bytes(self._sums[index]), self._hashes[index].digest()
