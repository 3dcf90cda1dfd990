"""A lost shard made again is the shard that was lost, byte for byte, or nothing at all."""

from __future__ import annotations

import asyncio
import threading

import pytest

from abixio.codec.checksum import BLOCK
from abixio.config import Config
from abixio.errors import DataLost, VolumeError, VolumeFull, VolumeUnusable
from abixio.store.rebuild import rebuild_shard
from abixio.store.record import pack
from tests.store_rig import FILE, noise, pools, rig


@pytest.mark.parametrize(("n", "ftt"), [(n, ftt) for n, ftt in pools(5) if ftt])
@pytest.mark.parametrize("size", [0, 1, 5000, FILE])
async def test_every_shard_can_be_made_again_from_the_others(n: int, ftt: int, size: int) -> None:
    async with rig(n) as r:
        stored = await r.put(noise(size), ftt)
        (part,) = stored.record.parts
        for slot in range(n):
            others = stored.without({slot}).rows
            if stored.received.inline is not None:
                assert await rebuild_shard(r.pool, stored.record, part, others, slot) == stored.received.inline[slot]
                continue
            lost = r.volumes[slot].shards.pop(part.write_id)
            assert await rebuild_shard(r.pool, stored.record, part, others, slot) is None
            made = r.volumes[slot].shards[part.write_id]
            assert (made.data, made.checksums, made.blake3) == (lost.data, lost.checksums, lost.blake3)
            assert made.record == pack(stored.record)
        assert not r.pool.bad


async def test_an_empty_part_in_a_file_can_be_made_again() -> None:
    async with rig(3) as r:
        stored = await r.commit([await r.receive(b"", 1, allow_inline=False)])
        (part,) = stored.record.parts
        del r.volumes[1].shards[part.write_id]
        await rebuild_shard(r.pool, stored.record, part, stored.rows, 1)
        assert r.volumes[1].shards[part.write_id].data == b""


async def test_a_rotten_shard_is_replaced_although_it_is_there() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        (part,) = stored.record.parts
        sound = bytes(r.volumes[0].shards[part.write_id].data)
        r.spoil(stored, 0, 12345)
        await rebuild_shard(r.pool, stored.record, part, stored.rows, 0)
        assert r.volumes[0].shards[part.write_id].data == sound


async def test_rot_in_the_sources_is_worked_around_and_reported() -> None:
    async with rig(4) as r:
        stored = await r.put(noise(FILE), 2)
        (part,) = stored.record.parts
        lost = r.volumes[3].shards.pop(part.write_id)
        r.spoil(stored, 0, 5 * BLOCK)
        r.spoil(stored, 1, 7 * BLOCK)
        await rebuild_shard(r.pool, stored.record, part, stored.rows, 3)
        assert r.volumes[3].shards[part.write_id].data == lost.data
        assert (part.write_id, 3) not in r.pool.bad
        assert r.pool.bad.keys() <= {(part.write_id, 0), (part.write_id, 1)}


async def test_blocks_that_the_others_lack_come_from_what_is_still_good_of_the_shard_itself() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        (part,) = stored.record.parts
        sound = bytes(r.volumes[0].shards[part.write_id].data)
        r.spoil(stored, 0, 2 * BLOCK)
        r.spoil(stored, 1, 5 * BLOCK)
        await rebuild_shard(r.pool, stored.record, part, stored.rows, 0)
        assert r.volumes[0].shards[part.write_id].data == sound
        r.spoil(stored, 0, 5 * BLOCK)
        with pytest.raises(DataLost):
            await rebuild_shard(r.pool, stored.record, part, stored.rows, 0)


async def test_two_who_make_the_same_shard_at_once_make_it_once() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        (part,) = stored.record.parts
        lost = r.volumes[0].shards.pop(part.write_id)
        await asyncio.gather(*(rebuild_shard(r.pool, stored.record, part, stored.rows, 0) for _ in range(3)))
        assert r.volumes[0].calls.count("finish") == 2
        assert r.volumes[0].shards[part.write_id].data == lost.data
        assert not r.pool.making


async def test_who_waits_for_a_maker_that_fails_makes_it_himself() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        (part,) = stored.record.parts
        del r.volumes[0].shards[part.write_id]
        first = asyncio.create_task(rebuild_shard(r.pool, stored.record, part, stored.rows, 0))
        second = asyncio.create_task(rebuild_shard(r.pool, stored.record, part, stored.rows, 0))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert part.write_id in r.volumes[0].shards
        del first, second  # they keep the frames of their errors, and those the memory of the rebuild


@pytest.mark.parametrize("size", [5000, FILE])
async def test_with_too_few_others_nothing_is_made(size: int) -> None:
    async with rig(3) as r:
        stored = await r.put(noise(size), 1)
        (part,) = stored.record.parts
        r.volumes[0].shards.pop(part.write_id, None)
        r.spoil(stored, 1, -9)
        with pytest.raises(DataLost):
            await rebuild_shard(r.pool, stored.record, part, stored.without({0}).rows, 0)
        assert r.volumes[0].unfinished == 0


@pytest.mark.parametrize("operation", ["create_shard", "write", "finish"])
async def test_a_volume_that_does_not_take_the_shard_is_an_error_and_keeps_nothing(operation: str) -> None:
    def before(name: str) -> None:
        if name == operation:
            raise VolumeFull("full")

    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        (part,) = stored.record.parts
        del r.volumes[0].shards[part.write_id]
        r.volumes[0].before = before
        with pytest.raises(VolumeError):
            await rebuild_shard(r.pool, stored.record, part, stored.rows, 0)
        assert not r.volumes[0].shards
        assert r.volumes[0].unfinished == 0


async def test_a_volume_that_is_away_gets_no_shard() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        r.lose(0)
        with pytest.raises(VolumeUnusable):
            await rebuild_shard(r.pool, stored.record, stored.record.parts[0], stored.rows, 0)


async def test_a_cancelled_rebuild_leaves_nothing() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        (part,) = stored.record.parts
        del r.volumes[0].shards[part.write_id]
        entered, go = threading.Event(), threading.Event()

        def before(name: str) -> None:
            if name == "populate":
                entered.set()
                go.wait(10)

        r.volumes[1].before = before
        task = asyncio.create_task(rebuild_shard(r.pool, stored.record, part, stored.rows, 0))
        await asyncio.to_thread(entered.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert not r.volumes[0].shards


async def test_a_rebuilt_shard_is_synced_when_the_pool_is_durable() -> None:
    async with rig(2, config=Config()) as r:
        stored = await r.put(noise(FILE), 1)
        before = r.volumes[0].syncs
        await rebuild_shard(r.pool, stored.record, stored.record.parts[0], stored.rows, 0)
        assert r.volumes[0].syncs == before + 1
