"""The write path: what lands on the volumes, what it costs on the way, and what is left when it fails."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence

import pytest
from blake3 import blake3
from xxhash import xxh3_64_intdigest, xxh64

from abixio.codec import encode
from abixio.codec.checksum import block_seed
from abixio.config import KIB, MIB, Config
from abixio.errors import (
    ClientDisconnected,
    DigestMismatch,
    EntityTooLarge,
    IncompleteBody,
    InsufficientStorage,
    Overloaded,
    Unavailable,
    VolumeError,
    VolumeFull,
    VolumeUnusable,
)
from abixio.message import Buffer
from abixio.store import shardset, upload
from abixio.store.encoder import Cut, Encoder
from abixio.store.inline import INLINE_LIMIT
from abixio.store.layout import STRIPE_BUFFER, stripe_size, stripes
from abixio.store.record import Layout
from abixio.store.types import Seal
from abixio.store.upload import EtagMode, receive
from abixio.volume.interface import ShardWriter
from tests.store_memvolume import MemVolume
from tests.store_rig import FILE, BytesSource, FailingSource, noise, pools, rig


def borders(layout: Layout) -> Iterator[int]:
    """Sizes at which something changes, and their neighbours."""
    yield from (0, 1, 2, 4095, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1)
    for border in (layout.k, layout.k * INLINE_LIMIT, layout.chunk, stripe_size(layout)):
        yield from (border - 1, border, border + 1)
    yield 2 * stripe_size(layout) + 12345


def shards_of(data: bytes, layout: Layout) -> list[bytes]:
    """What the shards should hold, by the codec for tests."""
    shards = [bytearray() for _ in layout.slots]
    for stripe in stripes(layout, len(data), 0, len(data)):
        for index, piece in enumerate(encode(data[stripe.start : stripe.start + stripe.length], layout.k, layout.m)):
            shards[index] += piece[: stripe.stored(index, layout.k)]
    return [bytes(shard) for shard in shards]


# ---- what is stored --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "ftt"), pools(4))
async def test_the_volumes_hold_the_shards_of_the_codec_with_their_sums(n: int, ftt: int) -> None:
    async with rig(n) as r:
        layout = r.layout(ftt)
        for size in sorted(set(borders(layout))):
            data = noise(size)
            received = await r.receive(data, ftt, number=7)
            assert await received.finish(b"a record") == set(range(n))
            assert (received.part.number, received.part.size, received.part.stored) == (7, size, size)
            for index, expected in enumerate(shards_of(data, layout)):
                slot = layout.slots[index]
                seed = block_seed(received.part.write_id, 7, slot)
                blocks = [expected[at : at + 65536] for at in range(0, len(expected), 65536)]
                sums = b"".join(xxh3_64_intdigest(b, (seed + i) % 2**64).to_bytes(8, "little") for i, b in enumerate(blocks))
                if received.inline is not None:
                    assert received.inline[slot] == expected + (sums or xxh3_64_intdigest(b"", seed).to_bytes(8, "little"))
                    continue
                stored = r.volumes[slot].shards[received.part.write_id]
                assert stored.data == expected
                assert stored.checksums == sums
                assert stored.blake3 == blake3(expected).digest()
                assert stored.record == b"a record"
            await received.discard()
            assert not any(volume.shards for volume in r.volumes)


@pytest.mark.parametrize(("n", "ftt"), [(1, 0), (4, 1), (4, 3), (5, 0)])
async def test_shards_up_to_the_limit_stay_inline_and_longer_ones_become_files(n: int, ftt: int) -> None:
    async with rig(n) as r:
        most = (n - ftt) * INLINE_LIMIT
        assert (await r.receive(noise(most), ftt)).inline is not None
        longer = await r.receive(noise(most + 1), ftt)
        assert longer.inline is None
        await longer.discard()


async def test_parts_that_may_not_be_inline_are_files_whatever_their_size() -> None:
    async with rig(4) as r:
        for size in (0, 1, 5000):
            received = await r.receive(noise(size), 1, allow_inline=False)
            assert received.inline is None
            assert await received.finish(b"") == {0, 1, 2, 3}
            assert all(len(volume.shards) == 1 for volume in r.volumes)
            await received.discard()


async def test_an_empty_body_is_one_empty_inline_shard_per_slot() -> None:
    async with rig(3) as r:
        received = await r.receive(b"", 1)
        assert received.inline is not None
        assert sorted(received.inline) == [0, 1, 2]
        assert all(len(shard) == 8 for shard in received.inline.values())
        assert received.etag == hashlib.md5(b"").hexdigest()


@pytest.mark.parametrize("length", [None, -1])
async def test_announced_and_unannounced_lengths_store_the_same(length: int | None) -> None:
    async with rig(3) as r:
        layout = r.layout(1)
        full = stripe_size(layout)
        for size in (0, 1, 40_000, full - 1, full, full + 1, 2 * full, 2 * full + 1, 3 * full - 1):
            data = noise(size)
            received = await receive(r.pool, layout, 1, BytesSource(data, length), "md5", False)
            stored = await r.commit([received])
            assert received.part.size == size
            assert received.etag == hashlib.md5(data).hexdigest()
            assert await r.get(stored) == data


# ---- digests and ETag ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1, 70_000, FILE])
async def test_the_source_gets_the_digests_it_asked_for(size: int) -> None:
    async with rig(1) as r:
        data = noise(size)
        source = BytesSource(data, algorithms=("md5", "sha1", "sha256", "crc32"))
        received = await receive(r.pool, r.layout(0), 1, source, "xxh64", False)
        assert source.digests["md5"] == hashlib.md5(data).digest()
        assert source.digests["sha1"] == hashlib.sha1(data).digest()
        assert source.digests["sha256"] == hashlib.sha256(data).digest()
        assert source.digests["crc32"] == zlib.crc32(data).to_bytes(4, "big")
        assert received.checksums == {name: source.digests[name].hex() for name in source.algorithms}
        await received.discard()


@pytest.mark.parametrize(("mode", "real_md5", "small", "large"), [
    ("auto", False, "md5", "fast-1"), ("auto", True, "md5", "md5"),
    ("xxh64", False, "fast", "fast"), ("xxh64", True, "md5", "md5"),
    ("md5", False, "md5", "md5"), ("md5", True, "md5", "md5"),
])
async def test_the_etag_follows_the_mode(mode: EtagMode, real_md5: bool, small: str, large: str) -> None:
    async with rig(1) as r:
        for data, form in ((noise(0), small), (noise(100), small), (noise(64 * KIB), small), (noise(64 * KIB + 1), large)):
            fast = f"{xxh64(data).hexdigest()}{len(data):016x}"
            expected = {"md5": hashlib.md5(data).hexdigest(), "fast": fast, "fast-1": fast + "-1"}[form]
            received = await r.receive(data, 0, mode, real_md5)
            assert received.etag == expected
            await received.discard()


# ---- what it costs ---------------------------------------------------------------------------------------------------
class Watched(BytesSource):
    """Calls back at every read."""

    def __init__(self, data: bytes, look: Callable[[memoryview], None]) -> None:
        super().__init__(data)
        self.look = look

    async def readinto(self, view: memoryview) -> int:
        self.look(view)
        await asyncio.sleep(0)
        return await super().readinto(view)


async def test_the_socket_fills_the_very_memory_that_is_written() -> None:
    async with rig(4) as r:
        received_into: set[int] = set()
        written_from: set[int] = set()
        for volume in r.volumes:
            spy(volume, lambda buffers: written_from.update(id(memoryview(buffer).obj) for buffer in buffers))
        source = Watched(noise(FILE), lambda view: received_into.add(id(view.obj)))
        received = await receive(r.pool, r.layout(2), 1, source, "auto", False)
        await received.finish(b"")
        assert written_from == received_into


def spy(volume: MemVolume, look: Callable[[Sequence[Buffer]], None]) -> None:
    """Call back with what is written."""
    make = volume.create_shard

    def create_shard(write_id: bytes, repair: bool = False, expected: int = 0) -> ShardWriter:
        writer = make(write_id, repair, expected)
        write = writer.write

        def spied(buffers: Sequence[Buffer]) -> None:
            look(buffers)
            write(buffers)

        writer.write = spied  # type: ignore[method-assign]
        return writer

    volume.create_shard = create_shard  # type: ignore[method-assign]


@pytest.mark.parametrize(("n", "ftt"), [(1, 0), (4, 1), (5, 2)])
@pytest.mark.parametrize("size", [INLINE_LIMIT * 5 + 1, MIB, 9 * MIB + 12345])
@pytest.mark.parametrize("sealed", [False, True])
async def test_volumes_are_told_how_long_a_shard_will_be_where_that_is_known(n: int, ftt: int, size: int, sealed: bool) -> None:
    seal = Seal(b"\x01" * 32, {}, False) if sealed else None
    for source in (BytesSource(noise(size)), BytesSource(noise(size), None)):
        async with rig(n) as r:
            told = [expectations(volume) for volume in r.volumes]
            received = await receive(r.pool, r.layout(ftt), 1, source, "auto", False, seal=seal)
            await received.finish(b"")
            for slot, volume in enumerate(r.volumes):
                length = len(volume.shards[received.part.write_id].data)
                assert told[slot] == [length if source.length is not None else 0]


def expectations(volume: MemVolume) -> list[int]:
    found: list[int] = []
    make = volume.create_shard

    def create_shard(write_id: bytes, repair: bool = False, expected: int = 0) -> ShardWriter:
        found.append(expected)
        return make(write_id, repair, expected)

    volume.create_shard = create_shard  # type: ignore[method-assign]
    return found


async def test_at_most_three_stripes_are_in_memory() -> None:
    async with rig(2) as r:
        out: list[int] = []
        slow(r.volumes[0], "write", 0.01)
        source = Watched(noise(16 * MIB), lambda view: out.append(r.pool.buffers.out))
        received = await receive(r.pool, r.full(1), 1, source, "auto", False)
        assert max(out) == 3 * STRIPE_BUFFER
        await received.discard()


def slow(volume: MemVolume, operation: str, seconds: float) -> None:
    pause = threading.Event()

    def before(name: str) -> None:
        if name == operation:
            pause.wait(seconds)

    volume.before = before


class Sink(MemVolume):
    """Forgets what is written."""

    def create_shard(self, write_id: bytes, repair: bool = False, expected: int = 0) -> ShardWriter:
        writer = super().create_shard(write_id, repair, expected)
        writer.write = lambda buffers: None  # type: ignore[method-assign]
        return writer


def anonymous() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * KIB


async def test_a_large_upload_grows_memory_by_less_than_64_mib() -> None:
    class Endless(BytesSource):
        left = 256 * MIB

        async def readinto(self, view: memoryview) -> int:
            count = min(len(view), self.left)
            view[:count] = noise(count)
            self.left -= count
            self.saw_end = count < len(view)
            most.append(anonymous())
            await asyncio.sleep(0)
            return count

    most: list[int] = []
    async with rig(3, volumes=[Sink(slot) for slot in range(3)]) as r:
        before = anonymous()
        received = await receive(r.pool, r.full(1), 1, Endless(b"", 256 * MIB), "auto", False)
        assert received.part.size == 256 * MIB
        await received.discard()
        assert max(most) - before < 64 * MIB


async def test_small_bodies_need_no_thread() -> None:
    async with rig(4) as r:
        r.pool.executor.submit = None  # type: ignore[assignment, method-assign]
        stored = await r.put(noise(48 * KIB), 1)
        assert stored.received.inline is not None
        assert await r.get(stored) == noise(48 * KIB)


async def test_uploads_wait_for_the_memory_budget_and_all_get_through() -> None:
    async with rig(2, budget=STRIPE_BUFFER) as r:
        bodies = [noise(FILE, start) for start in range(4)]
        stored = await asyncio.gather(*(r.put(body, 1) for body in bodies))
        for body, one in zip(bodies, stored, strict=True):
            assert await r.get(one) == body


async def test_an_upload_that_gets_no_memory_is_refused_as_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.store.buffers.WAIT", 0.05)
    async with rig(1, budget=STRIPE_BUFFER) as r:
        held = await r.pool.buffers.acquire(STRIPE_BUFFER)
        with pytest.raises(Overloaded):
            await r.receive(noise(100), 0)
        held.drop()


# ---- bodies that are not what they said ------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "announced"), [
    (0, 1), (1, 0), (100, 99), (99, 100), (65536, 65537), (65537, 65536), (65536, FILE), (FILE, 131072), (FILE, FILE - 1),
])
async def test_another_length_than_announced_is_an_incomplete_body(size: int, announced: int) -> None:
    async with rig(1) as r:
        with pytest.raises(IncompleteBody):
            await receive(r.pool, r.layout(0), 1, BytesSource(noise(size), announced), "auto", False)
        assert not r.volumes[0].shards


async def test_more_than_the_largest_object_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_OBJECT", FILE)
    async with rig(1) as r:
        with pytest.raises(EntityTooLarge):
            await receive(r.pool, r.layout(0), 1, BytesSource(noise(FILE + 1), None), "auto", False)


@pytest.mark.parametrize("size", [100, 200_000, FILE])
async def test_a_digest_that_does_not_match_leaves_nothing(size: int) -> None:
    class Wrong(BytesSource):
        def verify(self, digests: object) -> dict[str, str]:
            raise DigestMismatch("md5")

    async with rig(3) as r:
        with pytest.raises(DigestMismatch):
            await receive(r.pool, r.layout(1), 1, Wrong(noise(size)), "auto", False)
        assert not any(volume.shards or volume.unfinished for volume in r.volumes)


@pytest.mark.parametrize("size", [0, 100, 128 * KIB, 300_000, FILE])
async def test_a_client_that_goes_away_leaves_nothing(size: int) -> None:
    async with rig(3) as r:
        source = FailingSource(noise(size), 2 * MIB, ClientDisconnected("gone"))
        with pytest.raises(ClientDisconnected):
            await receive(r.pool, r.layout(1), 1, source, "auto", False)
        assert not any(volume.shards or volume.unfinished for volume in r.volumes)


@pytest.mark.parametrize("size", [0, 128 * KIB, 300_000, FILE])
async def test_a_cancelled_upload_leaves_nothing(size: int) -> None:
    async with rig(3) as r:
        source = FailingSource(noise(size), 2 * MIB, None)
        task = asyncio.create_task(receive(r.pool, r.layout(1), 1, source, "auto", False))
        await source.there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(volume.shards or volume.unfinished for volume in r.volumes)


async def test_memory_stays_out_while_a_thread_still_reads_it_after_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = threading.Event(), threading.Event()
    encode_stripe = Encoder.encode

    def held(self: Encoder, stripe: Cut) -> None:
        entered.set()
        go.wait(10)
        encode_stripe(self, stripe)

    monkeypatch.setattr(Encoder, "encode", held)
    async with rig(2) as r:
        source = FailingSource(noise(4 * MIB), 5 * MIB, None)
        task = asyncio.create_task(receive(r.pool, r.full(1), 1, source, "auto", False))
        await source.there.wait()
        await asyncio.to_thread(entered.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert r.pool.buffers.out == STRIPE_BUFFER
        go.set()


# ---- volumes that fail -----------------------------------------------------------------------------------------------
def failing(volume: MemVolume, operation: str, error: Exception, after: int = 0) -> None:
    """Let an operation fail from some call on."""
    left = [after]

    def before(name: str) -> None:
        if name == operation:
            left[0] -= 1
            if left[0] < 0:
                raise error

    volume.before = before


@pytest.mark.parametrize(("operation", "after"), [("create_shard", 0), ("write", 0), ("write", 2), ("finish", 0)])
@pytest.mark.parametrize("error", [VolumeFull("full"), VolumeError("odd"), VolumeUnusable("dead")])
async def test_a_volume_that_fails_leaves_and_the_others_go_on(operation: str, after: int, error: VolumeError) -> None:
    async with rig(4) as r:
        failing(r.volumes[2], operation, error, after)
        stored = await r.put(noise(FILE), 1)
        assert set(stored.rows) == {0, 1, 3}
        assert await r.get(stored) == noise(FILE)
        assert not r.volumes[2].shards
        assert r.volumes[2].unfinished == 0 or isinstance(error, VolumeUnusable)
        r.volumes[2].unfinished = 0
        lane = r.pool.lanes[2]
        assert lane is not None
        assert repr(lane.trouble) == repr(error)


@pytest.mark.parametrize("operation", ["create_shard", "write", "finish"])
async def test_too_many_full_volumes_are_insufficient_storage(operation: str) -> None:
    async with rig(3) as r:
        for volume in r.volumes[:2]:
            failing(volume, operation, VolumeFull("full"))
        with pytest.raises(InsufficientStorage):
            await r.put(noise(FILE), 1)
        await until(lambda: not any(volume.unfinished for volume in r.volumes))


async def test_too_many_broken_volumes_are_unavailable() -> None:
    async with rig(3) as r:
        for volume in r.volumes[:2]:
            failing(volume, "write", VolumeError("odd"))
        with pytest.raises(Unavailable):
            await r.put(noise(FILE), 1)


async def test_a_defect_in_a_volume_is_not_taken_for_a_bad_disk() -> None:
    async with rig(3) as r:
        failing(r.volumes[0], "write", ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await r.put(noise(FILE), 1)


async def test_missing_volumes_get_no_shard() -> None:
    async with rig(4) as r:
        r.lose(1)
        received = await r.receive(noise(FILE), 2)
        assert await received.finish(b"") == {0, 2, 3}
        await received.discard()


async def test_fewer_volumes_than_data_shards_are_unavailable() -> None:
    async with rig(3) as r:
        r.lose(0)
        with pytest.raises(Unavailable):
            await r.receive(noise(FILE), 0)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


class Hung:
    """Hangs an operation of a volume until released."""

    def __init__(self, volume: MemVolume, operation: str) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        volume.before = lambda name: self.hang() if name == operation else None

    def hang(self) -> None:
        self.entered.set()
        self.go.wait(10)


@pytest.mark.parametrize("operation", ["create_shard", "write", "finish"])
async def test_a_hung_volume_leaves_after_its_deadline(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shardset, "WRITE_DEADLINE", 0.1)
    async with rig(4) as r:
        hung = Hung(r.volumes[1], operation)
        received = await r.receive(noise(FILE), 1)
        assert await received.finish(b"") == {0, 2, 3}
        lane = r.pool.lanes[1]
        assert lane is not None
        assert not lane.up
        hung.go.set()
        await until(lambda: lane.up)
        await until(lambda: not r.volumes[1].shards and not r.volumes[1].unfinished)
        await received.discard()


async def test_a_hung_volume_keeps_the_memory_of_one_write_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shardset, "WRITE_DEADLINE", 0.1)
    async with rig(4, budget=16 * STRIPE_BUFFER) as r:
        hung = Hung(r.volumes[1], "write")
        uploads = await asyncio.gather(*(r.receive(noise(FILE), 1) for _ in range(4)))
        await until(lambda: r.pool.buffers.out == 4 * r.chunk)
        hung.go.set()
        for received in uploads:
            await received.discard()


async def test_an_upload_whose_volumes_all_hang_is_unavailable_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shardset, "WRITE_DEADLINE", 0.1)
    async with rig(2) as r:
        hung = [Hung(volume, "write") for volume in r.volumes]
        with pytest.raises(Unavailable):
            await r.receive(noise(FILE), 1)
        for each in hung:
            each.go.set()


async def test_discarding_finished_files_removes_them() -> None:
    async with rig(3) as r:
        received = await r.receive(noise(MIB), 1)
        await received.finish(b"")
        assert all(volume.shards for volume in r.volumes)
        await received.discard()
        assert not any(volume.shards for volume in r.volumes)
        await received.discard()


@pytest.mark.parametrize(("durability", "syncs"), [("fsync", 1), ("page-cache", 0)])
async def test_shards_are_synced_only_when_the_pool_is_durable(durability: str, syncs: int) -> None:
    async with rig(2, config=Config(durability=durability)) as r:  # type: ignore[arg-type]
        received = await r.receive(noise(MIB), 1)
        await received.finish(b"")
        assert [volume.syncs for volume in r.volumes] == [syncs, syncs]
        await received.discard()


async def test_write_ids_are_never_the_same() -> None:
    async with rig(1) as r:
        ids = {(await r.receive(b"x", 0)).part.write_id for _ in range(100)}
        assert len(ids) == 100
        assert all(len(id) == 16 for id in ids)
