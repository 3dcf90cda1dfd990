"""Block checksums of a shard: one XXH3-64 per 64 KiB, seeded so that a block that is intact but misplaced fails too.

The seed of a shard is the XXH3-64 (seed 0) of 22 bytes: write id (16), part number (4, little-endian), slot (2,
little-endian). Block b, counted from 0 over the whole shard, is hashed with the seed (shard seed + b) mod 2^64.
The last block of a shard may be short; it is hashed as long as it is. A shard of no bytes has no blocks.
"""

from __future__ import annotations

import struct
import sys
from typing import Final

from xxhash import xxh3_64_intdigest

from abixio import _blocks
from abixio.message import Buffer

BLOCK: Final = 65536
"""Bytes: a range read of 1 byte reads this much, and the sums take 1/8192 of the space."""
SUM: Final = 8
"""Bytes of one sum."""
_WORD: Final = (1 << 64) - 1


NATIVE: Final = _blocks.available() and sys.byteorder == "little"
"""All blocks of a slice are hashed in one C call without the GIL. Where not, one by one in Python: the same sums, but for
0.3 ms per 4 MiB the event loop has to wait."""


resident: Final = _blocks.resident
"""Whether all pages of a buffer are in memory."""
populated: Final = _blocks.populated
"""The same, and they are mapped: to check the buffer waits for no disk and ends in no signal."""


def block_seed(write_id: bytes, part: int, slot: int) -> int:
    """The seed of the shard that this write put on this slot."""
    if len(write_id) != 16:
        raise ValueError(f"a write id of {len(write_id)} bytes")
    return xxh3_64_intdigest(write_id + struct.pack("<IH", part, slot))


def block_count(length: int) -> int:
    """Blocks of a shard of that many bytes."""
    return -(-length // BLOCK)


def block_sums(view: Buffer, seed: int, first_block: int = 0) -> bytes:
    """One little-endian u64 per started block of `view`, whose first byte begins block `first_block` of the shard.

    A shard that comes chunk by chunk is hashed chunk by chunk, as long as all but the last are whole blocks.
    """
    seed = (seed + first_block) & _WORD
    if NATIVE:
        return _blocks.sums(view, seed)
    data = memoryview(view)
    starts = enumerate(range(0, len(data), BLOCK), seed)
    sums = [xxh3_64_intdigest(data[at : at + BLOCK], block & _WORD) for block, at in starts]
    return struct.pack(f"<{len(sums)}Q", *sums)


def check_blocks(view: Buffer, sums: memoryview, seed: int, first_block: int, last_block: int) -> int | None:
    """The first block in first_block <= b < last_block that does not match its sum, or None when all do.

    `view` is the whole shard and `sums` ('Q') has all its sums; only the blocks named are touched.
    """
    data = memoryview(view)
    if len(sums) != block_count(len(data)) or not 0 <= first_block <= last_block <= len(sums):
        raise ValueError(f"blocks {first_block} to {last_block} of {len(sums)} sums for {len(data)} bytes")
    if NATIVE:
        few = data[first_block * BLOCK : last_block * BLOCK]
        bad = _blocks.first_bad(few, sums[first_block:last_block], (seed + first_block) & _WORD)
        return None if bad is None else first_block + bad
    for block in range(first_block, last_block):
        if xxh3_64_intdigest(data[block * BLOCK : (block + 1) * BLOCK], (seed + block) & _WORD) != sums[block]:
            return block
    return None
