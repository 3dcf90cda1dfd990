"""The read path: exactly the right bytes, or an error, whatever is lost or rotten."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio.codec.checksum import BLOCK, block_seed, block_sums
from abixio.config import KIB, MIB
from abixio.errors import DataLost, Overloaded, VolumeError, VolumeUnusable
from abixio.store import decoder, openpart, reader, unverified
from abixio.store.inline import INLINE_LIMIT
from abixio.store.layout import STRIPE_BUFFER, stripe_size
from abixio.store.reader import open_reader
from tests.store_memvolume import MemVolume, StoredShard
from tests.store_rig import FILE, Rig, Stored, begin_on_threads, noise, pools, rig


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the kernel says that nothing is in memory."""
    for ask in ("resident", "populated"):
        monkeypatch.setattr(unverified, ask, lambda view: False)


def shard(r: Rig, stored: Stored, slot: int) -> StoredShard:
    found: StoredShard = r.volumes[slot].shards[stored.record.parts[0].write_id]
    return found


def reported(r: Rig) -> set[int]:
    return {slot for _, slot in r.pool.bad}


# ---- whole objects ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "ftt"), pools())
async def test_what_was_put_is_got_at_every_border(n: int, ftt: int) -> None:
    async with rig(n) as r:
        full, k = stripe_size(r.layout(ftt)), n - ftt
        sizes = {0, 1, 4095, 65535, 65536, 65537, 2 * full + 54321}
        sizes |= {border + d for border in (k, k * INLINE_LIMIT, r.layout(ftt).chunk, full) for d in (-1, 0, 1)}
        for size in sizes:
            stored = await r.put(noise(size), ftt)
            assert await r.get(stored) == noise(size)
        assert not r.pool.bad


async def test_slices_are_the_maps_of_the_shards_themselves() -> None:
    async with rig(4) as r:
        stored = await r.put(noise(FILE), 1)
        maps = {id(shard(r, stored, slot).data) for slot in stored.record.layout.slots[:3]}  # type: ignore[union-attr]
        opened = await open_reader(r.pool, stored.record, stored.rows)
        async for piece in opened.stream(0, FILE):
            assert isinstance(piece, memoryview)
            assert id(piece.obj) in maps
        del piece
        await opened.aclose()


async def test_a_healthy_read_asks_no_parity_and_takes_no_memory() -> None:
    async with rig(4) as r:
        for size in (1000, FILE):
            stored = await r.put(noise(size), 2)
            parity = stored.record.layout.slots[2:]  # type: ignore[union-attr]
            for slot in parity:
                r.volumes[slot].calls.clear()
            opened = await open_reader(r.pool, stored.record, stored.rows)
            async for _ in opened.stream(0, size):
                assert r.pool.buffers.out == 0
            await opened.aclose()
            assert not any(r.volumes[slot].calls for slot in parity)


# ---- ranges ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def world() -> Iterator[tuple[asyncio.Runner, Callable[[int], tuple[Rig, Stored]]]]:
    """Objects to read ranges of, by fault tolerance on 4 volumes; in those of -f, f data shards are lost."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        made: dict[int, tuple[Rig, Stored]] = {}

        async def make(ftt: int) -> tuple[Rig, Stored]:
            r = await stack.enter_async_context(rig(4))
            stored = await r.put(noise(FILE), abs(ftt))
            for slot in stored.record.layout.slots[: max(-ftt, 0)]:  # type: ignore[union-attr]
                r.lose(slot)
            return r, stored

        def get(ftt: int) -> tuple[Rig, Stored]:
            if ftt not in made:
                made[ftt] = runner.run(make(ftt))
            return made[ftt]

        yield runner, get
        runner.run(stack.aclose())


World = tuple[asyncio.Runner, Callable[[int], tuple[Rig, Stored]]]
near = st.integers(-3, 3)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([0, 1, 2, 3, -1, -2, -3]), st.integers(0, 12), near, st.integers(0, 12), near, st.booleans())
def test_every_range_around_every_border_is_right(
    world: World, ftt: int, a: int, near_a: int, b: int, near_b: int, chunks: bool,
) -> None:
    runner, get = world
    r, stored = get(ftt)
    layout = r.layout(abs(ftt))
    unit = layout.chunk if chunks else stripe_size(layout)
    low, high = sorted(min(max(border * unit + d, 0), FILE) for border, d in ((a, near_a), (b, near_b)))
    assert runner.run(r.get(stored, low, high - low)) == noise(high - low, low)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([0, 1, -1, -2]), st.integers(0, FILE - 1), st.integers(1, 200_000))
def test_any_range_is_right(world: World, ftt: int, start: int, length: int) -> None:
    runner, get = world
    r, stored = get(ftt)
    length = min(length, FILE - start)
    assert runner.run(r.get(stored, start, length)) == noise(length, start)


@pytest.mark.parametrize("size", [1, 3, 1000, 48 * KIB, 200 * KIB])
async def test_ranges_of_small_objects_are_right(size: int) -> None:
    async with rig(4) as r:
        stored = await r.put(noise(size), 1)
        for start in {0, 1, size // 2, size - 1} & set(range(size)):
            for length in {0, 1, size - start}:
                assert await r.get(stored, start, length) == noise(length, start)


async def test_a_short_range_touches_only_its_blocks() -> None:
    async with rig(4) as r:
        stored = await r.put(noise(FILE), 1)
        for slot in range(4):
            sound = shard(r, stored, slot)
            rotten = random.randbytes(len(sound.data))
            sound.data[2 * BLOCK :] = rotten[2 * BLOCK :]
        assert await r.get(stored, BLOCK + 5, 1000) == noise(1000, BLOCK + 5)
        assert not r.pool.bad


# ---- losses ----------------------------------------------------------------------------------------------------------
def lane_gone(r: Rig, stored: Stored, slot: int) -> None:
    r.lose(slot)


def volume_dead(r: Rig, stored: Stored, slot: int) -> None:
    def before(operation: str) -> None:
        raise VolumeUnusable("dead")

    r.volumes[slot].before = before


def shard_gone(r: Rig, stored: Stored, slot: int) -> None:
    where = stored.rows[slot].inline
    if where is None:
        del r.volumes[slot].shards[stored.record.parts[0].write_id]
    else:
        r.volumes[slot].spoil_inline(where, None)


def bit_flipped(r: Rig, stored: Stored, slot: int) -> None:
    r.spoil(stored, slot)


def footer_torn(r: Rig, stored: Stored, slot: int) -> None:
    if stored.rows[slot].inline is None:
        shard(r, stored, slot).torn = True
    else:
        r.spoil(stored, slot, -1)


def sector_bad(r: Rig, stored: Stored, slot: int) -> None:
    if stored.rows[slot].inline is None:
        shard(r, stored, slot).bad_sectors.add(70_000)
    else:
        r.spoil(stored, slot, 1)


def cut_short(r: Rig, stored: Stored, slot: int) -> None:
    where = stored.rows[slot].inline
    if where is None:
        whole = shard(r, stored, slot)
        whole.data, whole.checksums = whole.data[:BLOCK], whole.checksums[:8]
    else:
        r.volumes[slot].spoil_inline(where, r.volumes[slot].inline(where)[:-1])


def sums_of_another_slot(r: Rig, stored: Stored, slot: int) -> None:
    seed = block_seed(stored.record.parts[0].write_id, 1, slot + 1)
    where = stored.rows[slot].inline
    if where is None:
        found = shard(r, stored, slot)
        found.checksums = block_sums(found.data, seed)
    else:
        data = r.volumes[slot].inline(where)[:-8]
        r.volumes[slot].spoil_inline(where, data + block_sums(data, seed))


DAMAGES = (lane_gone, volume_dead, shard_gone, bit_flipped, footer_torn, sector_bad, cut_short, sums_of_another_slot)
SILENT = (lane_gone, volume_dead)
"""A volume that does not answer says nothing of its shards: no reason to repair them."""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("n", "ftt"), [(1, 0), (2, 1), (3, 2), (4, 1), (4, 2), (5, 3), (6, 2)])
@pytest.mark.parametrize("size", [3000, FILE])
async def test_any_losses_up_to_the_fault_tolerance_are_made_good_and_one_more_is_an_error(
    damage: Callable[[Rig, Stored, int], None], n: int, ftt: int, size: int, monkeypatch: pytest.MonkeyPatch,
) -> None:
    if damage is sector_bad:
        begin_on_threads(monkeypatch)
    patterns = list(itertools.combinations(range(n), ftt))
    for lost in random.Random(n * size).sample(patterns, min(len(patterns), 4)):
        async with rig(n) as r:
            stored = await r.put(noise(size), ftt)
            for slot in lost:
                damage(r, stored, slot)
            assert await r.get(stored) == noise(size)
            assert await r.get(stored, size // 3, size // 2) == noise(size // 2, size // 3)
            assert reported(r) <= set(lost)
            data = set(stored.record.layout.slots[: n - ftt])  # type: ignore[union-attr]
            assert damage in SILENT or reported(r) >= set(lost) & data
            damage(r, stored, next(slot for slot in range(n) if slot not in lost))
            with pytest.raises(DataLost):
                await r.get(stored)


@pytest.mark.parametrize(("n", "ftt"), [(4, 2), (5, 1), (6, 3)])
async def test_every_pattern_of_lost_volumes_is_made_good(n: int, ftt: int) -> None:
    async with rig(n) as r:
        small, large = await r.put(noise(20_000), ftt), await r.put(noise(500_001), ftt)
        lanes = list(r.pool.lanes)
        for lost in itertools.combinations(range(n), ftt):
            for slot in lost:
                r.lose(slot)
            assert await r.get(small) == noise(20_000)
            assert await r.get(large) == noise(500_001)
            r.pool.lanes[:] = lanes


@pytest.mark.parametrize("size", [3000, FILE])
async def test_any_k_rows_are_enough(size: int) -> None:
    async with rig(4) as r:
        stored = await r.put(noise(size), 2)
        for unknown in itertools.combinations(range(4), 2):
            assert await r.get(stored.without(unknown)) == noise(size)


async def test_bad_blocks_in_more_shards_than_the_tolerance_are_made_good_where_they_do_not_meet() -> None:
    async with rig(4) as r:
        r.chunk = 4 * BLOCK
        stored = await r.put(noise(FILE), 1)
        for slot in range(4):
            r.spoil(stored, slot, slot * BLOCK)
        assert await r.get(stored) == noise(FILE)
        assert reported(r) == {0, 1, 2, 3}
        r.spoil(stored, 2, BLOCK - 1)
        with pytest.raises(DataLost):
            await r.get(stored)
        assert await r.get(stored, 800_000, 200_000) == noise(200_000, 800_000)


async def test_an_intact_block_in_the_wrong_place_is_found_out() -> None:
    async with rig(1) as r:
        stored = await r.put(noise(FILE), 0)
        found = shard(r, stored, 0)
        found.data[:BLOCK], found.data[BLOCK : 2 * BLOCK] = found.data[BLOCK : 2 * BLOCK], found.data[:BLOCK]
        sums = bytearray(found.checksums)
        sums[:8], sums[8:16] = sums[8:16], sums[:8]
        found.checksums = bytes(sums)
        with pytest.raises(DataLost):
            await r.get(stored)


async def test_rot_that_is_met_in_the_middle_of_a_stream_is_made_good() -> None:
    async with rig(4) as r:
        stored = await r.put(noise(FILE), 1)
        opened = await open_reader(r.pool, stored.record, stored.rows)
        got = bytearray()
        async for piece in opened.stream(0, FILE):
            if not got:
                r.spoil(stored, stored.record.layout.slots[1], 3 * BLOCK)  # type: ignore[union-attr]
            got += piece
        del piece
        await opened.aclose()
        assert got == noise(FILE)


async def test_what_cannot_be_made_good_in_the_middle_ends_the_stream_before_a_wrong_byte() -> None:
    async with rig(2) as r:
        stored = await r.put(noise(FILE), 0)
        r.spoil(stored, 0, len(shard(r, stored, 0).data) - 1)
        opened = await open_reader(r.pool, stored.record, stored.rows)
        got = bytearray()

        async def read() -> None:
            async for piece in opened.stream(0, FILE):
                got.extend(piece)

        with pytest.raises(DataLost):
            await read()
        await opened.aclose()
        assert FILE - 2 * BLOCK <= len(got) < FILE
        assert got == noise(len(got))


async def test_a_degraded_reader_counts_the_memory_of_two_slices() -> None:
    async with rig(4) as r:
        stored = await r.put(noise(FILE), 1)
        r.lose(stored.record.layout.slots[0])  # type: ignore[union-attr]
        opened = await open_reader(r.pool, stored.record, stored.rows)
        most = 0
        async for _ in opened.stream(0, FILE):
            most = max(most, r.pool.buffers.out)
            await asyncio.sleep(0.005)
        assert 0 < most <= 2 * BLOCK
        await opened.aclose()


async def test_degraded_readers_wait_for_the_budget_and_all_get_through() -> None:
    async with rig(3, budget=STRIPE_BUFFER) as r:
        r.chunk = MIB
        stored = await r.put(noise(9 * MIB), 1)
        r.lose(stored.record.layout.slots[0])  # type: ignore[union-attr]
        bodies = await asyncio.gather(*(r.get(stored) for _ in range(8)))
        assert all(body == noise(9 * MIB) for body in bodies)


async def test_copies_are_read_in_place_of_the_data_without_memory() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 2)
        r.lose(stored.record.layout.slots[0])  # type: ignore[union-attr]
        r.spoil(stored, stored.record.layout.slots[1], 100_000)  # type: ignore[union-attr]
        opened = await open_reader(r.pool, stored.record, stored.rows)
        got = bytearray()
        async for piece in opened.stream(0, FILE):
            assert r.pool.buffers.out == 0
            got += piece
        del piece
        await opened.aclose()
        assert got == noise(FILE)


# ---- parts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_an_object_of_many_parts_is_read_across_their_borders(lost: int) -> None:
    async with rig(4) as r:
        sizes = {3: MIB, 4: 200_001, 9: 128 * KIB, 12: 77, 10_000: 300 * KIB}
        starts = list(itertools.accumulate(sizes.values(), initial=0))
        parts = [
            await r.receive(noise(size, start), 2, number=number, allow_inline=False)
            for (number, size), start in zip(sizes.items(), starts, strict=False)
        ]
        stored = await r.commit(parts)
        for slot in range(lost):
            r.lose(slot)
        whole = starts[-1]
        assert await r.get(stored) == noise(whole)
        for border in starts[1:-1]:
            assert await r.get(stored, border - 2, 4) == noise(4, border - 2)
            assert await r.get(stored, border, 1) == noise(1, border)
        assert await r.get(stored, starts[1] - 1, starts[4] - starts[1] + 2) == noise(starts[4] - starts[1] + 2, starts[1] - 1)


# ---- life of a reader ------------------------------------------------------------------------------------------------
async def test_all_parts_are_pinned_until_the_last_reader_is_closed() -> None:
    async with rig(2) as r:
        parts = [await r.receive(noise(MIB), 1, number=n, allow_inline=False) for n in (1, 2)]
        stored = await r.commit(parts)
        readers = [await open_reader(r.pool, stored.record, stored.rows) for _ in range(2)]
        assert r.pool.pins == {part.part.write_id: 2 for part in parts}
        for opened in readers:
            await opened.aclose()
            await opened.aclose()
        assert not r.pool.pins


async def test_a_reader_that_cannot_open_leaves_nothing_behind() -> None:
    async with rig(2) as r:
        stored = await r.put(noise(MIB), 0)
        shard_gone(r, stored, 1)
        with pytest.raises(DataLost):
            await open_reader(r.pool, stored.record, stored.rows)
        assert not r.pool.pins


@pytest.mark.parametrize("size", [3000, 200 * KIB, FILE])
async def test_an_object_that_is_deleted_under_its_reader_is_read_to_the_end(size: int) -> None:
    async with rig(3) as r:
        stored = await r.put(noise(size), 1)
        opened = await open_reader(r.pool, stored.record, stored.rows)
        for slot in range(3):
            shard_gone(r, stored, slot)
        assert b"".join([bytes(piece) async for piece in opened.stream(0, size)]) == noise(size)
        await opened.aclose()


async def test_a_stream_that_is_left_early_lets_go_of_everything() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        r.lose(stored.record.layout.slots[0])  # type: ignore[union-attr]
        for _ in range(3):
            opened = await open_reader(r.pool, stored.record, stored.rows)
            stream = opened.stream(0, FILE)
            await anext(stream)
            await opened.aclose()
            await stream.aclose()  # type: ignore[attr-defined]
            await r.settled()


async def test_a_reader_is_closed_at_once_and_its_shards_when_the_thread_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    async with rig(1) as r:
        stored = await r.put(noise(FILE), 0)
        hung = Hung(r.volumes[0], "populate")
        opened = await open_reader(r.pool, stored.record, stored.rows)

        async def read() -> None:
            await anext(opened.stream(0, FILE))

        task = asyncio.create_task(read())
        await asyncio.to_thread(hung.entered.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await opened.aclose()
        assert r.volumes[0].open_shards == 1
        hung.go.set()


class Hung:
    """Hangs an operation of a volume until released."""

    def __init__(self, volume: MemVolume, operation: str) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        volume.before = lambda name: self.hang() if name == operation else None

    def hang(self) -> None:
        self.entered.set()
        self.go.wait(10)


@pytest.mark.parametrize("operation", ["open_shard", "populate"])
@pytest.mark.parametrize("size", [200 * KIB, FILE])
async def test_a_read_goes_on_without_a_volume_that_hangs(operation: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openpart, "SLOW", 0.05)
    begin_on_threads(monkeypatch)
    async with rig(3) as r:
        stored = await r.put(noise(size), 1)
        slot = stored.record.layout.slots[1]  # type: ignore[union-attr]
        lane = r.pool.lanes[slot]
        assert lane is not None
        hung = Hung(r.volumes[slot], operation)
        assert await r.get(stored) == noise(size)
        assert lane.lagging == 1
        r.volumes[slot].calls.clear()
        assert await r.get(stored) == noise(size)
        assert not r.volumes[slot].calls, "a volume that lags is not asked when others will do"
        hung.go.set()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not lane.lagging:
                break
        assert lane.lagging == 0
        assert lane.up


async def test_a_slow_volume_that_is_needed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openpart, "SLOW", 0.02)
    async with rig(3) as r:
        stored = await r.put(noise(FILE), 0)
        r.volumes[0].before = lambda name: threading.Event().wait(0.1) and None if name == "populate" else None
        assert await r.get(stored) == noise(FILE)


async def test_a_volume_that_errs_on_opening_is_not_reported_for_repair() -> None:
    def before(operation: str) -> None:
        if operation == "open_shard":
            raise VolumeError("odd")

    async with rig(3) as r:
        stored = await r.put(noise(FILE), 1)
        r.volumes[0].before = before
        assert await r.get(stored) == noise(FILE)
        assert not r.pool.bad


async def test_small_files_are_prepared_by_the_job_that_opens_them() -> None:
    async with rig(1) as r:
        r.chunk = MIB
        stored = await r.put(noise(reader.EAGER), 0)
        opened = await open_reader(r.pool, stored.record, stored.rows)
        r.volumes[0].calls.clear()
        assert b"".join([bytes(piece) async for piece in opened.stream(0, reader.EAGER)]) == noise(reader.EAGER)
        assert not r.volumes[0].calls
        await opened.aclose()


# ---- without a thread ------------------------------------------------------------------------------------------------
def peeking(r: Rig) -> Rig:
    for volume in r.volumes:
        volume.peeks = True
    return r


def opened(r: Rig) -> list[str]:
    return [call for volume in r.volumes for call in volume.calls if call == "open_shard"]


@pytest.mark.parametrize(("n", "ftt"), [(1, 0), (2, 1), (4, 1), (6, 2)])
async def test_small_files_in_memory_are_read_on_the_loop_into_one_piece(n: int, ftt: int) -> None:
    async with rig(n) as r:
        size = min(stripe_size(peeking(r).layout(ftt)), reader.EAGER) - 5
        stored = await r.put(noise(size), ftt)
        assert await r.get(stored) == noise(size)
        assert await r.get(stored, 7, size - 9) == noise(size - 9, 7)
        assert not opened(r)
        one = await open_reader(r.pool, stored.record, stored.rows)
        assert [len(piece) async for piece in one.stream(0, size)] == [size]
        assert r.pool.buffers.scraps.out == size
        await one.aclose()
        del one
        assert r.pool.buffers.scraps.out == 0


@pytest.mark.parametrize("harm", [bit_flipped, footer_torn, sums_of_another_slot, shard_gone])
async def test_a_small_file_that_is_not_good_is_made_good_and_reported_as_ever(harm: Callable[[Rig, Stored, int], None]) -> None:
    async with rig(4) as r:
        stored = await peeking(r).put(noise(150_000), 1)
        slot = stored.record.layout.slots[1]  # type: ignore[union-attr]
        harm(r, stored, slot)
        assert await r.get(stored) == noise(150_000)
        assert opened(r)
        assert reported(r) == {slot}


async def test_a_small_file_that_is_not_in_memory_or_on_a_slow_volume_is_left_to_a_thread() -> None:
    async with rig(3) as r:
        stored = await peeking(r).put(noise(150_000), 1)
        r.volumes[1].cold = True
        assert await r.get(stored) == noise(150_000)
        assert opened(r)
        r.volumes[1].cold = False
        r.volumes[1].calls.clear()
        r.pool.lanes[1].well = False  # type: ignore[union-attr]
        assert await r.get(stored) == noise(150_000)
        assert not r.volumes[1].calls
        r.pool.lanes[1].well = True  # type: ignore[union-attr]


@pytest.mark.parametrize(("n", "ftt"), [(2, 1), (3, 1), (4, 1), (6, 2)])
async def test_a_small_file_is_rebuilt_on_the_loop_where_volumes_are_down(n: int, ftt: int) -> None:
    async with rig(n) as r:
        size = min(stripe_size(peeking(r).layout(ftt)), reader.EAGER) - 5
        stored = await r.put(noise(size), ftt)
        slots = stored.record.layout.slots  # type: ignore[union-attr]
        for lost in itertools.combinations(slots, ftt):
            lanes = list(r.pool.lanes)
            for slot in lost:
                r.lose(slot)
            assert await r.get(stored) == noise(size)
            assert not opened(r)
            r.pool.lanes[:] = lanes
        for slot in slots[: ftt + 1]:
            r.pool.lanes[slot] = None
        with pytest.raises(DataLost):
            await r.get(stored)
        r.pool.lanes[:] = lanes


async def test_small_files_are_mapped_when_too_many_clients_do_not_read_their_answers() -> None:
    async with rig(3) as r:
        size = stripe_size(peeking(r).layout(1))
        stored = await r.put(noise(size), 1)
        slow: list[object] = []
        while not opened(r):
            one = await open_reader(r.pool, stored.record, stored.rows)
            slow += [piece async for piece in one.stream(0, size)]
            await one.aclose()
        assert r.pool.buffers.scraps.out <= r.pool.buffers.scraps.most
        assert len(slow) * size > r.pool.buffers.scraps.most
        slow.clear()
        del one
        assert r.pool.buffers.scraps.out == 0


# ---- several stripes in one job --------------------------------------------------------------------------------------
async def test_a_stream_is_prepared_in_long_jobs_unless_that_takes_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = openpart.OpenPart.run

    def counted(own: openpart.OpenPart, job: Any, *args: Any) -> Any:
        if job in (reader.load, reader.read):
            runs.append(len(args[0]))
        return run(own, job, *args)

    monkeypatch.setattr(openpart.OpenPart, "run", counted)
    async with rig(3) as r:
        full = stripe_size(r.layout(1))
        monkeypatch.setattr(reader, "AHEAD", 4 * full)
        stored = await r.put(noise(20 * full), 1)
        assert await r.get(stored) == noise(20 * full)
        assert runs == [4, 4, 4, 4]  # the first four were in memory
        with monkeypatch.context() as patched:
            patched.setattr(reader, "resident", lambda source, run: None)
            runs.clear()
            assert await r.get(stored) == noise(20 * full)
            assert runs == [1, 3, 4, 4, 4, 4]
        runs.clear()
        r.lose(stored.record.layout.slots[0])  # type: ignore[union-attr]
        assert await r.get(stored) == noise(20 * full)
        assert runs == 20 * [1]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the jobs that readers gave to threads."""
    found: list[str] = []
    run = openpart.OpenPart.run

    def noted(own: openpart.OpenPart, job: Any, *args: Any) -> Any:
        found.append(job.__name__)
        return run(own, job, *args)

    monkeypatch.setattr(openpart.OpenPart, "run", noted)
    return found


@pytest.mark.parametrize(("n", "ftt"), [(1, 0), (2, 1), (4, 1), (6, 2)])
async def test_a_file_in_memory_is_begun_without_a_thread(
    n: int, ftt: int, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(n) as r:
        r.chunk = MIB
        full = stripe_size(peeking(r).layout(ftt))
        stored = await r.put(noise(full), ftt)
        assert await r.get(stored) == noise(full)
        assert await r.get(stored, 7, full - 9) == noise(full - 9, 7)
        assert not jobs
        parity = stored.record.layout.slots[n - ftt :]  # type: ignore[union-attr]
        assert not any("open_shard" in r.volumes[slot].calls for slot in parity if n > 2)
        longer = await r.put(noise(2 * full + 5), ftt)
        assert await r.get(longer) == noise(2 * full + 5)
        assert not jobs
        monkeypatch.setattr(reader, "AHEAD", full)
        assert await r.get(longer) == noise(2 * full + 5)
        assert jobs == ["load", "load"]


@pytest.mark.parametrize("harm", [bit_flipped, footer_torn, sums_of_another_slot, shard_gone, cut_short])
async def test_a_file_in_memory_that_is_not_good_is_made_good_and_reported(
    harm: Callable[[Rig, Stored, int], None], jobs: list[str]
) -> None:
    async with rig(4) as r:
        stored = await peeking(r).put(noise(FILE), 1)
        slot = stored.record.layout.slots[1]  # type: ignore[union-attr]
        harm(r, stored, slot)
        assert await r.get(stored) == noise(FILE)
        assert reported(r) == {slot}
        assert jobs
        await r.settled()


async def test_a_file_on_a_slow_volume_or_one_not_in_memory_is_left_to_a_thread(jobs: list[str]) -> None:
    async with rig(3) as r:
        stored = await peeking(r).put(noise(FILE), 1)
        r.volumes[stored.record.layout.slots[1]].cold = True  # type: ignore[union-attr]
        assert await r.get(stored) == noise(FILE)
        assert jobs.pop(0) == "_begin"
        r.volumes[stored.record.layout.slots[1]].cold = False  # type: ignore[union-attr]
        slow = r.pool.lanes[stored.record.layout.slots[0]]  # type: ignore[union-attr]
        slow.well = False  # type: ignore[union-attr]
        jobs.clear()
        assert await r.get(stored) == noise(FILE)
        assert jobs[0] == "read"  # its pieces are rebuilt
        slow.well = True  # type: ignore[union-attr]


async def test_what_is_not_in_memory_any_more_when_a_stream_begins_is_left_to_a_thread(
    jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(3) as r:
        stored = await peeking(r).put(noise(FILE), 1)
        one = await open_reader(r.pool, stored.record, stored.rows)
        assert not jobs
        forget(monkeypatch)
        assert b"".join([bytes(piece) async for piece in one.stream(0, FILE)]) == noise(FILE)
        assert jobs[0] == "read"
        await one.aclose()


async def test_what_is_rotten_at_once_is_made_good_before_anything_is_fetched_ahead(jobs: list[str]) -> None:
    async with rig(4) as r:
        stored = await peeking(r).put(noise(FILE), 1)
        bit_flipped(r, stored, stored.record.layout.slots[0])  # type: ignore[union-attr]
        one = await open_reader(r.pool, stored.record, stored.rows)
        stream = one.stream(0, FILE)
        first = bytes(await anext(stream))  # type: ignore[arg-type]
        assert first == noise(FILE)[: len(first)]
        assert jobs[0] == "read"
        await stream.aclose()  # type: ignore[attr-defined]
        await one.aclose()
        await r.settled()


@pytest.mark.parametrize("lost", [2, 3, 4])
async def test_too_few_volumes_are_known_when_a_file_in_memory_is_opened(lost: int) -> None:
    async with rig(4) as r:
        stored = await peeking(r).put(noise(FILE), 1)
        for slot in stored.record.layout.slots[:lost]:  # type: ignore[union-attr]
            r.lose(slot)
        with pytest.raises(DataLost):
            await open_reader(r.pool, stored.record, stored.rows)


async def test_a_decoder_that_a_thread_still_uses_is_not_touched_by_the_next_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(1) as r:
        stored = await peeking(r).put(noise(FILE), 0)
        one = await open_reader(r.pool, stored.record, stored.rows)
        hung = Hung(r.volumes[0], "populate")
        with monkeypatch.context() as patched:
            forget(patched)
            left = asyncio.create_task(anext(one.stream(0, FILE)))  # type: ignore[arg-type]
            await asyncio.to_thread(hung.entered.wait)
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left
        stream = one.stream(0, FILE)
        first = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert not first.done()
        hung.go.set()
        assert bytes(await first) + b"".join([bytes(piece) async for piece in stream]) == noise(FILE)
        await one.aclose()
        await r.settled()


# ---- verified when it is sent ----------------------------------------------------------------------------------------
def rot(r: Rig, stored: Stored, at: int) -> int:
    """Change a byte of the object on the volume that has it; returns its slot."""
    layout = r.layout(len(stored.record.layout.slots) - stored.record.layout.k)  # type: ignore[union-attr]
    number, rest = divmod(at, stripe_size(layout))
    index, offset = divmod(rest, layout.chunk)
    slot = stored.record.layout.slots[index]  # type: ignore[union-attr]
    shard(r, stored, slot).data[number * layout.chunk + offset] ^= 1
    return slot


@pytest.mark.parametrize("by_thread", [True, False])
@pytest.mark.parametrize(("n", "ftt"), [(4, 1), (3, 2), (4, 0), (1, 0)])
async def test_what_rots_after_it_was_prepared_is_not_sent(
    n: int, ftt: int, by_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_thread:
        begin_on_threads(monkeypatch)
    async with rig(n) as r:
        full = stripe_size(r.layout(ftt))
        monkeypatch.setattr(reader, "AHEAD", 4 * full)
        monkeypatch.setattr(unverified, "SLICE", BLOCK)
        size = 9 * full
        for at in (full, 5 * full // 2 + 7, 4 * full - 1, size - 1):
            stored = await r.put(noise(size), ftt)
            opened = await open_reader(r.pool, stored.record, stored.rows)
            got = bytearray()
            slot = -1
            try:
                async for piece in opened.stream(0, size):
                    if slot < 0:
                        await asyncio.wait({opened._ahead})  # type: ignore[attr-defined]
                        slot = rot(r, stored, at)
                    got += piece
                    del piece
                assert ftt
                assert got == noise(size)
            except DataLost:
                assert not ftt
                assert got == noise(len(got))
                assert BLOCK <= len(got) <= at
            finally:
                await opened.aclose()
            assert slot in reported(r)
            r.pool.bad.clear()


async def test_what_is_not_in_memory_any_more_is_verified_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_thread = threading.get_ident()
    check, threads = unverified.check_blocks, set()

    def checked(*args: Any) -> int | None:
        threads.add(threading.get_ident())
        return check(*args)

    async with rig(4) as r:
        size = 9 * stripe_size(r.layout(1))
        stored = await r.put(noise(size), 1)
        for module in (unverified, decoder):
            monkeypatch.setattr(module, "check_blocks", checked)
        assert await r.get(stored, 100, size - 300) == noise(size - 300, 100)
        assert loop_thread in threads
        threads.clear()
        forget(monkeypatch)
        assert await r.get(stored, 100, size - 300) == noise(size - 300, 100)
        assert loop_thread not in threads


@pytest.mark.parametrize("full_of_maps", [False, True])
async def test_a_part_is_read_again_that_was_left_for_the_next_one(monkeypatch: pytest.MonkeyPatch, full_of_maps: bool) -> None:
    async with rig(4) as r:
        size = 4 * stripe_size(r.layout(1))
        received = [await r.receive(noise(size, size * at), 1, number=at + 1, allow_inline=False) for at in range(3)]
        stored = await r.commit(received)
        opened = await open_reader(r.pool, stored.record, stored.rows)
        got, piece = bytearray(), memoryview(b"")
        try:
            async for piece in opened.stream(0, 3 * size):
                got += piece
                if len(got) == size // 4 or (len(got) == size // 2 and not full_of_maps):
                    await asyncio.wait({opened._ahead})  # type: ignore[attr-defined]
                if len(got) == size // (4 if full_of_maps else 2):  # while or after the next part is opened
                    forget(monkeypatch)
                    if full_of_maps:
                        monkeypatch.setattr(r.pool.maps, "take", no_more)
            assert not full_of_maps
            assert got == noise(3 * size)
        except Overloaded:
            assert full_of_maps
        finally:
            monkeypatch.undo()
            del piece
            await opened.aclose()


def no_more(maps: int) -> None:
    raise Overloaded("too many parts are open")


async def test_a_stream_of_a_reader_that_was_closed_opens_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(4) as r:
        full = stripe_size(r.layout(1))
        stored = await r.put(noise(9 * full), 1)
        opened = await open_reader(r.pool, stored.record, stored.rows)
        stream = aiter(opened.stream(0, 9 * full))
        got = 0
        while got < 2 * full:
            got += len(await anext(stream))
        forget(monkeypatch)
        await opened.aclose()
        with pytest.raises(asyncio.CancelledError):
            await anext(stream)
