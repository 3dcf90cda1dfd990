"""Bytes of a shard that are in memory, and verified piece by piece right before they are sent.

What was verified a moment ago is in the processor's cache when the kernel copies it to the socket; what was verified 16 MiB ago
is fetched from memory once more. Whoever verifies touches the bytes, and must not meet a page that has to be read again: that
would wait for the disk, and be a signal where the disk fails. So the kernel is asked first whether all of a slice is there still,
and to map it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from abixio.codec.checksum import BLOCK, block_count, check_blocks, populated, resident
from abixio.config import KIB
from abixio.volume.interface import Shard

SLICE: Final = 512 * KIB
"""Verified and sent at a time: 30 us of the event loop, and no more than a second-level cache holds."""


class Unverified:
    """A run of bytes of one shard, with the checksums of its blocks. It stays valid when the shard is closed."""

    __slots__ = ("_data", "_mapped", "_seed", "_skip", "_stop", "_sums")

    def __init__(self, shard: Shard, seed: int, offset: int, length: int, mapped: bool) -> None:
        """Those of `shard`; `mapped`: they were populated just now, with all blocks that they touch. `seed`: of the shard."""
        first, last = offset // BLOCK, block_count(offset + length)
        self._data = shard.view[first * BLOCK : last * BLOCK]
        self._sums = memoryview(bytes(shard.checksums[first:last])).cast("Q")
        self._seed = seed + first
        self._mapped = mapped
        self._skip = offset - first * BLOCK
        self._stop = self._skip + length

    @property
    def resident(self) -> bool:
        """Whether all of it is in memory."""
        return resident(self._data)

    def __len__(self) -> int:
        return self._stop - self._skip

    def verified(self) -> Iterator[memoryview]:
        """Slices of it, each verified when it is asked for. It ends before one that is not good, or not in memory any more."""
        low, there = self._skip, resident if self._mapped else populated
        while low < self._stop:
            high = min((low // SLICE + 1) * SLICE, self._stop)
            first, last = low // BLOCK, block_count(high)
            if not there(self._data[first * BLOCK : last * BLOCK]):
                return
            if check_blocks(self._data, self._sums, self._seed, first, last) is not None:
                return
            yield self._data[low:high]
            low = high
