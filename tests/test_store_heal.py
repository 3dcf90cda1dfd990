"""Healing a key: what is missing or rotten on up to FTT volumes comes back, byte for byte; beyond that nothing is made up."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from abixio.codec.checksum import block_seed
from abixio.errors import DataLost, InsufficientStorage, NoSuchKey, Unavailable, VolumeUnusable
from abixio.store import mend
from abixio.store.health import Healed
from abixio.store.inline import pack_shard
from abixio.store.lane import Lane
from abixio.store.record import ROOT, unpack
from abixio.store.store import Store
from abixio.store.types import Bucket, PartRef, PutSpec
from abixio.volume.interface import Row
from abixio.volume.local import LocalVolume, last, reserve
from tests.store_local import Disks, files, get, put, quiet, rest
from tests.store_process import process
from tests.store_rig import FILE, BytesSource, noise

SMALL = 5000
NONSENSE = "INSERT INTO row SELECT space, key, seq + 1, rev, state, mask, randomblob(200), NULL FROM row WHERE space = ?"
"""A newer row whose record is rotten."""


class Damaged:
    """A stored object and its shards, to be damaged on chosen volumes."""

    def __init__(self, disks: Disks, store: Store, space: bytes, key: bytes, version: int = 0) -> None:
        self.disks, self.store, self.space, self.key, self.version = disks, store, space, key, version
        self.record = unpack(self.row(0).record)
        self.before = {slot: self.shards(slot) for slot in range(disks.n)}

    def lane(self, slot: int) -> Lane:
        lane = self.store.pool.lanes[slot]
        assert lane is not None
        return lane

    def volume(self, slot: int) -> LocalVolume:
        volume = getattr(self.lane(slot).volume, "inner", self.lane(slot).volume)
        assert isinstance(volume, LocalVolume)
        return volume

    def row(self, slot: int) -> Row:
        return self.volume(slot).rows(self.space, self.key)[self.version]

    def path(self, slot: int, part: int = 0) -> Path:
        id = self.record.parts[part].write_id.hex()
        return self.disks.root / f"v{slot}" / "shards" / id[-2:] / id

    def shards(self, slot: int) -> list[bytes]:
        """Everything that the volume keeps of it, for comparison."""
        rows = self.volume(slot).rows(self.space, self.key)
        found = [row.record for row in rows]
        for row in rows:
            if row.inline is not None:
                with suppress(Exception):
                    found.append(self.volume(slot).inline(row.inline))
        for number in range(len(self.record.parts)):
            with suppress(FileNotFoundError):
                found.append(self.path(slot, number).read_bytes())
        return found

    async def sql(self, slot: int, text: str, *values: object) -> None:
        """Straight into the catalog, as rot would."""
        await self.lane(slot).run(lambda: self.volume(slot)._catalog._connection.execute(text, values).fetchall())

    def same(self) -> bool:
        return all(self.shards(slot) == self.before[slot] for slot in range(self.disks.n))


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(bytes(data))


async def first_block(object: Damaged, slot: int) -> None:
    _flip(object.path(slot), 0)


async def last_block(object: Damaged, slot: int) -> None:
    _flip(object.path(slot), FILE // 4 - 100)


async def footer(object: Damaged, slot: int) -> None:
    _flip(object.path(slot), -60)


async def blake3_alone(object: Damaged, slot: int) -> None:
    """A footer that is sound and says another digest: all blocks are good and the shard is not."""
    from xxhash import xxh3_64_intdigest

    from abixio.volume.shardfile import TRAILER_BYTES

    data = bytearray(object.path(slot).read_bytes())
    data[len(data) - TRAILER_BYTES] ^= 1
    length = int.from_bytes(data[len(data) - TRAILER_BYTES + 48 : len(data) - TRAILER_BYTES + 56], "little")
    data[-16:-8] = xxh3_64_intdigest(bytes(data[length:-16])).to_bytes(8, "little")
    object.path(slot).write_bytes(bytes(data))


async def cut_short(object: Damaged, slot: int) -> None:
    os.truncate(object.path(slot), object.path(slot).stat().st_size - 9)


async def file_gone(object: Damaged, slot: int) -> None:
    object.path(slot).unlink()


async def another_file(object: Damaged, slot: int) -> None:
    """The sound shard of another slot."""
    object.path(slot).write_bytes(object.path((slot + 1) % object.disks.n).read_bytes())


async def row_rotten(object: Damaged, slot: int) -> None:
    record = bytearray(object.row(slot).record)
    record[9] ^= 0xFF
    await object.sql(slot, "UPDATE row SET record = ? WHERE space = ? AND key = ?", bytes(record), object.space, object.key)


async def state_rotten(object: Damaged, slot: int) -> None:
    """One that there is not."""
    await object.sql(slot, "UPDATE row SET state = ? WHERE space = ? AND key = ?", (9, -1)[slot % 2], object.space, object.key)


async def row_gone(object: Damaged, slot: int) -> None:
    """As a rotten index page hides it."""
    await object.sql(slot, "DELETE FROM row WHERE space = ? AND key = ?", object.space, object.key)


async def inline_rotten(object: Damaged, slot: int) -> None:
    where = object.row(slot).inline
    await object.sql(slot, "UPDATE inline SET shard = zeroblob(length(shard)) WHERE id = ?", where)


async def inline_short(object: Damaged, slot: int) -> None:
    await object.sql(slot, "UPDATE inline SET shard = substr(shard, 2) WHERE id = ?", object.row(slot).inline)


async def inline_other(object: Damaged, slot: int) -> None:
    """A sound shard of another length."""
    seed = block_seed(object.record.write_ids[0], 1, slot)
    await object.sql(slot, "UPDATE inline SET shard = ? WHERE id = ?", pack_shard(b"short", seed), object.row(slot).inline)


async def inline_gone(object: Damaged, slot: int) -> None:
    await object.sql(slot, "DELETE FROM inline WHERE id = ?", object.row(slot).inline)


Damage = Callable[[Damaged, int], object]
ROWS = (row_rotten, state_rotten, row_gone)
FILE_DAMAGES = (first_block, last_block, footer, blake3_alone, cut_short, file_gone, another_file, *ROWS)
INLINE_DAMAGES = (inline_rotten, inline_short, inline_other, inline_gone, *ROWS)


async def stored(disks: Disks, store: Store, bucket: Bucket, key: str, size: int, ftt: int) -> Damaged:
    await put(store, bucket, key, noise(size), ftt)
    await rest(store)
    return Damaged(disks, store, bucket.space, key.encode())


async def whole(store: Store, bucket: Bucket, key: str) -> bool:
    await rest(store)
    return all(version.whole and version.readable for version in await store.inspect(bucket, key))


@pytest.mark.parametrize("ftt", [1, 2, 3])
@pytest.mark.parametrize(("size", "damages"), [(FILE, FILE_DAMAGES), (SMALL, INLINE_DAMAGES)])
async def test_damage_on_as_many_volumes_as_may_fail_is_undone_byte_for_byte(
    tmp_path: Path, ftt: int, size: int, damages: tuple[Damage, ...]
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        for number, damage in enumerate(damages):
            key = damage.__name__
            object = await stored(disks, store, bucket, key, size, ftt)
            slots = [(number + i) % 4 for i in range(ftt)]
            for slot in slots:
                await damage(object, slot)  # type: ignore[misc]
            (version,) = await store.inspect(bucket, key)
            assert version.readable and not version.whole, key
            healed = await store.heal(bucket, key)
            assert healed.failed == (), key
            assert object.same(), key
            assert await whole(store, bucket, key), key
            only_rows = damage in (row_rotten, state_rotten) or (damage is row_gone and size == FILE)
            assert healed.rebuilt_shards == (0 if only_rows else ftt), key
            assert healed.rows == (ftt if damage in ROWS else 0), key
            again = await store.heal(bucket, key)
            assert again == Healed(examined_shards=4), key
        assert files(disks) == 4 * len(damages) * (size == FILE)


@pytest.mark.parametrize("ftt", [0, 1, 3])
@pytest.mark.parametrize(("size", "damage"), [(FILE, first_block), (FILE, file_gone), (SMALL, inline_rotten)])
async def test_damage_on_one_volume_more_is_reported_and_nothing_is_made_up(
    tmp_path: Path, ftt: int, size: int, damage: Damage
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", size, ftt)
        for slot in range(ftt + 1):
            await damage(object, slot)  # type: ignore[misc]
        after = [object.shards(slot) for slot in range(4)]
        healed = await store.heal(bucket, "k")
        assert len(healed.failed) == ftt + 1 and healed.rebuilt_shards == 0
        assert [object.shards(slot) for slot in range(4)] == after
        (version,) = await store.inspect(bucket, "k")
        assert not version.readable


async def test_blocks_that_are_bad_in_different_places_do_not_add_up_to_a_loss(tmp_path: Path) -> None:
    """Two bad shards of an object that can lose one: the bad blocks are in different stripes."""
    disks = Disks(tmp_path, 3)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", FILE, 1)
        _flip(object.path(0), 10)
        _flip(object.path(1), 200_000)
        assert (await store.heal(bucket, "k")).failed == ()
        assert object.same()


async def test_a_sound_file_of_another_length_in_a_shard_s_place_is_a_bad_shard(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", FILE, 2)
        layout = object.record.layout
        assert layout is not None
        longer, shorter = (object.path(slot) for slot in layout.slots[:2])
        longer.write_bytes(shorter.read_bytes())
        assert await get(store, bucket, "k") == noise(FILE)
        assert (await store.heal(bucket, "k")).rebuilt_shards == 1
        assert object.same()


async def test_a_volume_that_was_away_for_everything_is_brought_up_to_date(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks, missing=(2,)) as store:
        bucket = await store.create_bucket("b", "me", {})
        for key, size in (("small", SMALL), ("large", FILE), ("empty", 0)):
            await put(store, bucket, key, noise(size), 1)
    async with quiet(disks) as store:
        bucket = await store.bucket("b")
        for key in ("small", "large", "empty"):
            healed = await store.heal(bucket, key)
            assert healed.failed == () and healed.rows <= 1
            assert await whole(store, bucket, key)


async def test_parts_of_open_uploads_and_of_completed_ones_are_healed(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me", ftt="2"))
        sizes = (5 << 20, 5 << 20, 1000)
        parts = [
            await store.put_part(bucket, "k", upload.id, number, BytesSource(noise(size)))
            for number, size in enumerate(sizes, 1)
        ]
        await rest(store)
        space = bytes.fromhex(upload.id)
        part = Damaged(disks, store, space, (2).to_bytes(4, "big"))
        await file_gone(part, 0)
        await row_gone(part, 1)
        assert (await store.healer.heal_key(space, part.key)).failed == ()
        assert part.same()
        await store.complete_upload(bucket, "k", upload.id, [PartRef(part.number, part.etag) for part in parts])
        await rest(store)
        object = Damaged(disks, store, bucket.space, b"k")
        object.path(0, 0).unlink()
        _flip(object.path(3, 1), 5)
        _flip(object.path(2, 2), 5)
        healed = await store.heal(bucket, "k")
        assert (healed.rebuilt_shards, healed.examined_shards, healed.failed) == (3, 12, ())
        assert object.same()
        assert await get(store, bucket, "k") == b"".join(noise(size) for size in sizes)


async def test_the_footer_of_a_part_that_is_made_again_keeps_the_part_s_own_record(tmp_path: Path) -> None:
    """The object's record has all parts: ten thousand files with ten thousand parts each would be ten gigabytes of it."""
    disks = Disks(tmp_path, 2)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        part = await store.put_part(bucket, "k", upload.id, 1, BytesSource(noise(100_000)))
        await store.complete_upload(bucket, "k", upload.id, [PartRef(1, part.etag)])
        await rest(store)
        object = Damaged(disks, store, bucket.space, b"k")
        await file_gone(object, 0)
        await store.heal(bucket, "k")
        assert object.same()


async def test_bucket_records_and_uploads_are_healed(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with quiet(disks) as store:
        await store.create_bucket("b", "me", {})
        await rest(store)
        record = Damaged(disks, store, ROOT, b"b")
        await row_rotten(record, 0)
        assert (await store.healer.heal_key(ROOT, b"b")).rows == 1
        assert record.same()
        await row_gone(record, 2)
        assert (await store.healer.heal_key(ROOT, b"b")).rows == 1
        assert record.same()


async def test_a_rotten_row_that_no_other_volume_knows_goes(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", SMALL, 1)
        await object.sql(1, NONSENSE, bucket.space)
        assert await get(store, bucket, "k") == noise(SMALL)
        assert (await store.heal(bucket, "k")).failed == ()
        assert object.same()
        assert [info.key for info in (await store.list(bucket, "", "", "", 10)).items] == ["k"]


async def test_a_rotten_row_that_may_be_all_that_is_left_of_a_write_stays(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", SMALL, 3)
        for slot in (0, 1):
            await object.sql(slot, NONSENSE, bucket.space)
        object.lane(3).failed = VolumeUnusable("away")
        await store.heal(bucket, "k")
        assert [len(object.volume(slot).rows(bucket.space, b"k")) for slot in (0, 1)] == [2, 2]


async def test_writers_do_not_wait_for_a_check_and_what_they_replace_is_left_alone(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", FILE, 1)
        object.path(0).unlink()
        there, go = asyncio.Event(), asyncio.Event()

        async def slowly(size: int) -> None:
            there.set()
            await go.wait()

        heal = asyncio.create_task(store.healer.heal_key(bucket.space, b"k", slowly))
        await there.wait()
        async with asyncio.timeout(5):
            await put(store, bucket, "k", noise(FILE, 7), 1)
            await store.settler.cycle()
        go.set()
        assert (await heal).failed == ()
        await rest(store)
        assert await get(store, bucket, "k") == noise(FILE, 7)
        assert files(disks) == 4


@pytest.mark.parametrize("away", [0, 2])
async def test_a_version_that_is_deleted_while_its_files_are_made_leaves_none(
    tmp_path: Path, away: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks, missing=(away,)) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(FILE), 1)
    async with process(disks) as store:
        bucket = await store.bucket("b")
        real = mend.rebuild_shard

        async def overtaken(*args: object) -> object:
            made = await real(*args)  # type: ignore[arg-type]
            await store.delete(bucket, "k")
            await store.settler.cycle()
            return made

        monkeypatch.setattr(mend, "rebuild_shard", overtaken)
        assert (await store.mender.settle(bucket.space, b"k")).settled
        await rest(store)
        assert files(disks) == 0
        with pytest.raises(NoSuchKey):
            await store.head(bucket, "k")


async def test_two_repairs_of_one_key_do_the_work_once(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", FILE, 2)
        object.path(0).unlink()
        _flip(object.path(1), 5)
        healed = await asyncio.gather(*(store.heal(bucket, "k") for _ in range(3)))
        assert sorted(one.rebuilt_shards for one in healed) == [0, 0, 2]
        assert object.same()


@pytest.mark.parametrize("size", [FILE, SMALL])
async def test_a_repair_that_is_cut_off_anywhere_harms_nothing_and_the_next_one_completes_it(tmp_path: Path, size: int) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks, "fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", size, 2)
        damages = (row_gone, file_gone if size == FILE else inline_gone)
        for delay in (0, 0.001, 0.002, 0.004, 0.008, 0.016):
            for slot, damage in enumerate(damages):
                await damage(object, slot)
            heal = asyncio.create_task(store.heal(bucket, "k"))
            await asyncio.sleep(delay)
            heal.cancel()
            with suppress(asyncio.CancelledError):
                await heal
            assert await get(store, bucket, "k") == noise(size)
            assert (await store.heal(bucket, "k")).failed == ()
            assert object.same()
        await rest(store)
        assert files(disks) == 4 * (size == FILE)
        assert not store.pool.making and not store.pool.writing and not store.pool.pins


async def test_inspect_names_what_is_wrong_with_each_row_and_shard(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "k", FILE, 3)
        await row_rotten(object, 0)
        object.path(1).unlink()
        _flip(object.path(2), 5)
        object.lane(3).failed = VolumeUnusable("away")
        (version,) = await store.inspect(bucket, "k")
        assert version.row_states == {0: "rotten", 1: "committed", 2: "committed", 3: "down"}
        assert {shard.slot: shard.state for shard in version.shards} == {
            0: "no row", 1: "missing", 2: "corrupt", 3: "volume down"
        }
        assert not version.readable and not version.whole
        (shallow,) = await store.inspect(bucket, "k", deep=False)
        assert {shard.slot: shard.state for shard in shallow.shards}[2] == "ok"
        assert [shard.role for shard in version.shards] == ["data", "parity", "parity", "parity"]
        with pytest.raises(NoSuchKey):
            await store.inspect(bucket, "other")
        with pytest.raises(NoSuchKey):
            await store.heal(bucket, "other")


@pytest.mark.parametrize("size", [SMALL, FILE])
async def test_every_version_of_a_key_is_healed_and_the_newest_stays_the_one_that_is_listed(
    tmp_path: Path, size: int
) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {"versioning": "Enabled"})
        for start in (0, 7):
            await put(store, bucket, "k", noise(size, start), 2)
        await rest(store)
        old, new = (Damaged(disks, store, bucket.space, b"k", version) for version in (1, 0))
        assert old.record.seq < new.record.seq
        await row_gone(new, 2)  # both of them
        for object in (old, new):
            await (file_gone if size == FILE else inline_rotten)(object, 0)
        assert (await store.mender.settle(bucket.space, b"k")).settled
        assert [row.id.seq for row in store.pool.up()[2].volume.scan(bucket.space, b"", None, 10)] == [new.record.seq]
        assert (await store.heal(bucket, "k")).rebuilt_shards == 2
        await rest(store)
        assert old.same() and new.same()
        versions = await store.inspect(bucket, "k")
        assert [version.seq for version in versions] == [new.record.seq, old.record.seq]
        assert all(version.whole for version in versions)
        assert await get(store, bucket, "k") == noise(size, 7)


async def test_a_tombstone_is_a_version_too(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks, missing=(3,)) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(SMALL), 1)
        await store.delete(bucket, "k")
        version = (await store.inspect(bucket, "k"))[0]
        assert (version.kind, version.readable, version.whole, version.shards) == ("tombstone", True, False, [])
        assert version.row_states[3] == "down"


async def test_a_row_of_a_state_that_cannot_be_is_no_answer_and_the_volume_stays_in_service(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "key", SMALL, 1)
        await put(store, bucket, "other", noise(100))
        for slot in range(2):
            await state_rotten(object, slot)
        assert await get(store, bucket, "other") == noise(100)
        for _ in range(5):
            assert [item.key for item in (await store.list(bucket, "", "", "", 10)).items] == ["key", "other"]
            with pytest.raises((Unavailable, DataLost)):
                await get(store, bucket, "key")
        assert all(object.lane(slot).up for slot in range(4))


def leave(object: Damaged, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much room on all disks."""
    for slot in range(object.disks.n):
        monkeypatch.setattr(object.volume(slot).files, "room", lambda path: (free, 1 << 40))
        object.volume(slot)._room_until = 0.0


@pytest.mark.parametrize("size", [SMALL, FILE])
async def test_repair_may_use_the_reserve_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        object = await stored(disks, store, bucket, "key", size, 1)
        await (row_gone if size == SMALL else file_gone)(object, 2)
        kept = reserve(1 << 40)
        leave(object, kept * 3 // 4, monkeypatch)
        with pytest.raises(InsufficientStorage):
            await put(store, bucket, "new", noise(size), 1)
        assert (await store.heal(bucket, "key")).failed == ()
        assert object.same()
        await row_gone(object, 2)
        await file_gone(object, 2) if size == FILE else None
        leave(object, last(kept) - 1, monkeypatch)
        assert bool((await store.heal(bucket, "key")).failed) == (size == FILE), "a row is less than what a delete needs"
        await store.delete(bucket, "key")
        gc.collect()  # errors that keep the frames alive they went through, and these the piece that was not taken
