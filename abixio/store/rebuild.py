"""Making a lost shard again from the others, for the volume that should have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blake3 import blake3

from abixio.codec.checksum import block_seed, block_sums
from abixio.errors import InsufficientStorage, Unavailable, VolumeError, VolumeUnusable
from abixio.store.buffers import Loan
from abixio.store.decoder import Decoder
from abixio.store.inline import pack_shard
from abixio.store.layout import Stripe, shard_size, stripe_at, stripes
from abixio.store.openpart import OpenPart
from abixio.store.pool import Pool
from abixio.store.record import Part, Record
from abixio.store.shardset import ShardSet
from abixio.store.sources import Copies, decoder, report
from abixio.volume.interface import Row

IN_FLIGHT: Final = 2
"""Pieces of the new shard in memory: one is computed while the one before is written."""


async def rebuild_shard(pool: Pool, record: Record, part: Part, rows: Mapping[int, Row], slot: int) -> bytes | None:
    """Make the shard of `slot` again. A small one is returned, to be put into the catalog; of another the file is in its
    place on return (synced when the pool is durable), and the answer is None.

    DataLost when the others are too few, VolumeError when the volume does not take it.
    """
    assert record.layout is not None
    copies = Copies(record, record.layout, rows)
    index = copies.layout.slots.index(slot)
    if copies.inline:
        return _inline(pool, copies, part, index)
    lane = pool.lanes[slot]
    if lane is None or not lane.up:
        raise VolumeUnusable(f"volume {slot} is out of service")
    shards = ShardSet({index: lane}, 1, part.write_id, pool.loop)
    source = OpenPart(pool, copies, part, without=index)
    try:
        await _file(pool, copies, source, shards, index)
    except BaseException as error:
        await shards.remove()
        if isinstance(error, Unavailable | InsufficientStorage):
            raise VolumeError(f"volume {slot} did not take a shard") from error
        raise
    finally:
        source.close()
    return None


def _inline(pool: Pool, copies: Copies, part: Part, index: int) -> bytes:
    source = decoder(pool, copies, part, without=index)
    size = shard_size(copies.layout, index, part.stored)
    out = bytearray(size)
    try:
        if size:
            source.rebuild(stripe_at(copies.layout, part.stored, 0), index, 0, memoryview(out))
    finally:
        report(pool, copies, source)
        source.close()
    return pack_shard(out, block_seed(part.write_id, part.number, copies.layout.slots[index]))


class _Made:
    """What the footer of the new shard says, piece by piece."""

    def __init__(self, seed: int) -> None:
        self.sums = bytearray()
        self._seed = seed
        self._hash = blake3()

    def add(self, piece: memoryview) -> None:
        self.sums += block_sums(piece, self._seed, len(self.sums) // 8)
        self._hash.update(piece)

    def footer(self, index: int) -> tuple[bytes, bytes]:
        return bytes(self.sums), self._hash.digest()


async def _rebuilt(source: OpenPart, memory: Loan, stripe: Stripe, index: int, length: int) -> memoryview:
    """That piece, in memory that no job given up for being slow can still write to."""
    while True:
        asked, piece = source.decoder, await memory.take(length)
        await source.run(Decoder.rebuild, stripe, index, 0, piece)
        if source.decoder is asked:
            return piece


async def _file(pool: Pool, copies: Copies, source: OpenPart, shards: ShardSet, index: int) -> None:
    """Stripe by stripe: rebuild a piece on a thread, write it on the lane."""
    layout, part = copies.layout, source.decoder.part
    made = _Made(block_seed(part.write_id, part.number, layout.slots[index]))
    memory = pool.buffers.loan()
    number = 0
    for number, stripe in enumerate(stripes(layout, part.stored, 0, part.stored)):
        await shards.written(number - IN_FLIGHT)
        length = stripe.stored(index, layout.k)
        if length:
            piece = await _rebuilt(source, memory, stripe, index, length)
            await pool.loop.run_in_executor(pool.executor, made.add, piece)
            shards.write(number, index, piece)
    record = next(iter(copies.rows.values())).record
    await shards.finish(number + 1, made.footer, record, pool.durable)
