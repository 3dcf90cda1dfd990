"""Making a lost shard again from the others, for the volume that should have it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

from blake3 import blake3

from abixio.codec.checksum import block_seed, block_sums
from abixio.errors import DataLost, InsufficientStorage, Unavailable, VolumeError, VolumeUnusable
from abixio.store.buffers import Loan
from abixio.store.decoder import Decoder
from abixio.store.inline import pack_shard
from abixio.store.lane import Lane
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
        return await _inline(pool, copies, part, index)
    lane = pool.lanes[slot]
    if lane is None or not lane.up:
        raise VolumeUnusable(f"volume {slot} is out of service")
    shard = (part.write_id, slot)
    while shard in pool.making:
        # By whoever does not hold the key lock: two makers of one file could take it away from each other.
        other = pool.making[shard]
        await asyncio.wait((other,))
        if not other.cancelled():
            return None
    pool.making[shard] = made = pool.loop.create_future()
    try:
        async with pool.makes(*shard):
            await _make(pool, copies, part, index, lane)
        made.set_result(None)
    finally:
        made.cancel()
        del pool.making[shard]
    return None


async def _make(pool: Pool, copies: Copies, part: Part, index: int, lane: Lane) -> None:
    """From the others alone, or where they are too few, from what is still good of itself too."""
    try:
        await _file(pool, copies, OpenPart(pool, copies, part, without=index), index, lane)
    except DataLost:
        await _file(pool, copies, OpenPart(pool, copies, part), index, lane)


async def _inline(pool: Pool, copies: Copies, part: Part, index: int) -> bytes:
    """From what is in memory if that is enough, else by a thread that waits for the disks."""
    out = bytearray(shard_size(copies.layout, index, part.stored))
    if out:
        at_hand = decoder(pool, copies, part, without=index, wait=False)
        try:
            _fill(at_hand, index, memoryview(out))
        except DataLost:
            out = await _waited(pool, copies, part, index)
        finally:
            report(pool, copies, at_hand)
            at_hand.close()
    return pack_shard(out, block_seed(part.write_id, part.number, copies.layout.slots[index]))


async def _waited(pool: Pool, copies: Copies, part: Part, index: int) -> bytearray:
    source = OpenPart(pool, copies, part, without=index)
    try:
        while True:
            # In memory that no job given up for being slow can still write to.
            asked, out = source.decoder, bytearray(shard_size(copies.layout, index, part.stored))
            await source.run(_fill, index, memoryview(out))
            if source.decoder is asked:
                return out
    finally:
        source.close()


def _fill(source: Decoder, index: int, out: memoryview) -> None:
    source.rebuild(stripe_at(source.layout, source.part.stored, 0), index, 0, out)


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


async def _file(pool: Pool, copies: Copies, source: OpenPart, index: int, lane: Lane) -> None:
    """A whole file, or none."""
    try:
        part = source.decoder.part
        sizes = partial(shard_size, copies.layout, size=part.stored)
        shards = ShardSet({index: lane}, 1, part.write_id, pool.loop, repair=True, expected=sizes)
        try:
            await _write(pool, copies, source, shards, index)
        except BaseException as error:
            await shards.remove()
            if isinstance(error, Unavailable | InsufficientStorage):
                raise VolumeError(f"volume {lane.slot} did not take a shard") from error
            raise
    finally:
        source.close()


async def _write(pool: Pool, copies: Copies, source: OpenPart, shards: ShardSet, index: int) -> None:
    """Stripe by stripe: rebuild a piece on a thread, write it on the lane. The footer gets the record that its peers have: of
    a multipart object that is the part's."""
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
    record = await source.run(Decoder.footer) or next(iter(copies.rows.values())).record
    await shards.finish(number + 1, made.footer, record, pool.durable)
