"""Every byte of a shard against every checksum that covers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from blake3 import blake3

from abixio.codec.checksum import BLOCK, block_count, block_seed, check_blocks
from abixio.config import MIB
from abixio.errors import CatalogCorrupt, ShardCorrupt, ShardMissing, VolumeError
from abixio.store.inline import unpack_shard
from abixio.store.layout import shard_size
from abixio.store.record import Layout, Part, Record, unpack
from abixio.volume import names, shardfile
from abixio.volume.files import Files

PIECE: Final = 4 * MIB
"""Read and hashed at a time: a multiple of the block, and small beside the processor's caches and memory."""


class Verdict(NamedTuple):
    """What became of a shard."""

    defect: str = ""
    """Empty: it is sound."""
    blocks: frozenset[int] | None = frozenset()
    """Those that are bad; None: all of them."""
    read: int = 0


def check_inline(stored: bytes | None, part: Part, layout: Layout, slot: int) -> Verdict:
    """A shard that lives in the catalog."""
    if stored is None:
        return Verdict("the catalog lacks its bytes", None)
    try:
        shard = unpack_shard(stored, block_seed(part.write_id, part.number, slot))
    except ShardCorrupt as error:
        return Verdict(str(error), None)
    size = shard_size(layout, layout.slots.index(slot), part.stored)
    if len(shard) != size:
        return Verdict(f"has {len(shard)} bytes instead of {size}", None)
    return Verdict(read=size)


def check_file(
    files: Files, volume: str, part: Part, layout: Layout, slot: int, alive: Callable[[int], None]
) -> Verdict:
    """A shard file: its footer, each block, its BLAKE3. `alive` hears of every piece read."""
    try:
        shard = shardfile.open_shard(files, names.shard(volume, part.write_id), part.write_id)
    except VolumeError as error:
        return Verdict(_plain(error), None)
    try:
        size = shard_size(layout, layout.slots.index(slot), part.stored)
        if len(shard.view) != size or len(shard.checksums) != block_count(size):
            return Verdict(f"has {len(shard.view)} bytes instead of {size}", None)
        defect = _footer(shard.record, part)
        if defect:
            return Verdict(defect, frozenset())
        return _bytes(shard, block_seed(part.write_id, part.number, slot), alive)
    finally:
        shard.close()


def _plain(error: VolumeError) -> str:
    return "is missing" if isinstance(error, ShardMissing) else str(error)


def _footer(record: bytes, part: Part) -> str:
    try:
        named = unpack(record)
    except CatalogCorrupt as error:
        return f"its footer holds {error}"
    return "" if part.write_id in named.write_ids else "its footer is about another object"


def _bytes(shard: shardfile.ShardFile, seed: int, alive: Callable[[int], None]) -> Verdict:
    bad: set[int] = set()
    whole, size = blake3(), len(shard.view)
    for start in range(0, size, PIECE):
        stop = min(start + PIECE, size)
        try:
            shard.populate(start, stop - start)
        except ShardCorrupt:
            bad |= _unreadable(shard, seed, start, stop)
        else:
            bad |= _bad_blocks(shard, seed, start // BLOCK, block_count(stop))
            whole.update(shard.view[start:stop])
        alive(stop - start)
    if bad:
        return Verdict(f"{len(bad)} of {block_count(size)} blocks are bad, the first is {min(bad)}", frozenset(bad), size)
    if whole.digest() != shard.blake3:
        return Verdict("does not match its BLAKE3", None, size)
    return Verdict(read=size)


def _bad_blocks(shard: shardfile.ShardFile, seed: int, first: int, last: int) -> set[int]:
    bad: set[int] = set()
    while (block := check_blocks(shard.view, shard.checksums, seed, first, last)) is not None:
        bad.add(block)
        first = block + 1
    return bad


def _unreadable(shard: shardfile.ShardFile, seed: int, start: int, stop: int) -> set[int]:
    """Block by block where the disk does not give a piece whole."""
    bad: set[int] = set()
    for at in range(start, stop, BLOCK):
        try:
            shard.populate(at, min(BLOCK, stop - at))
        except ShardCorrupt:
            bad.add(at // BLOCK)
        else:
            bad |= _bad_blocks(shard, seed, at // BLOCK, at // BLOCK + 1)
    return bad


def readable(verdicts: dict[int, Verdict], record: Record, part: Part) -> bool:
    """Whether k shards are good at every place of the part; by slot, slots that are not there have none."""
    layout = record.layout
    assert layout is not None
    if sum(not verdict.defect for verdict in verdicts.values()) >= layout.k:
        return True
    partly = [verdict.blocks for verdict in verdicts.values() if verdict.blocks is not None]
    if len(partly) < layout.k:
        return False
    return all(
        sum(block not in blocks for blocks in partly) >= layout.k
        for block in frozenset().union(*partly)
    )
