"""What the store tells without a wait: never anything that is not so any more, and nothing that was not checked."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from abixio.store import glance
from abixio.store.store import Store
from abixio.store.types import Bucket
from abixio.volume import names
from tests.store_local import Disks, get, put, quiet, rest
from tests.store_process import back, down


def seen(store: Store, bucket: Bucket, key: str) -> bytes | None:
    found = store.at_hand(bucket.name, key, True)
    return None if found is None else found.data()


def kept(store: Store) -> int:
    return len(store._glances._kept)


@pytest.mark.parametrize("n", [1, 3])
async def test_a_small_object_is_at_hand_as_it_is_then(tmp_path: Path, n: int) -> None:
    chance = random.Random(n)
    async with quiet(Disks(tmp_path, n)) as store:
        bucket = await store.create_bucket("b01", "me", {})
        there: dict[str, bytes] = {}
        for step in range(60):
            key = f"k{chance.randrange(6)}"
            match chance.randrange(5):
                case 0:
                    await store.delete(bucket, key)
                    there.pop(key, None)
                case 1:
                    there[key] = chance.randbytes(chance.choice([0, 1, 1000, 9000]))
                    await put(store, bucket, key, there[key], chance.randrange(n))
                case 2 if step % 20 == 0:
                    await store.settler.cycle()
                case _:
                    for each in range(6):
                        assert seen(store, bucket, f"k{each}") == there.get(f"k{each}")
        assert kept(store)
        assert all([await get(store, bucket, key) == data for key, data in there.items()])
        head = store.at_hand("b01", "k0", False)
        assert (head is not None) == ("k0" in there)
        assert head is None or head.info.size == len(there["k0"])


async def test_a_bucket_is_at_hand_as_it_is_then_and_so_is_what_is_in_it(tmp_path: Path) -> None:
    chance = random.Random(9)
    async with quiet(Disks(tmp_path, 1)) as store:
        there: dict[str, str] = {}
        told = 0
        for step in range(120):
            name = f"b0{chance.randrange(2)}"
            if name not in there:
                bucket, there[name] = await store.create_bucket(name, "me", {"a": str(step)}), str(step)
                await put(store, bucket, "k", b"%d" % step)
            elif chance.randrange(3) == 0:
                await store.delete(await store.bucket(name), "k")
                await store.delete_bucket(name)
                del there[name]
            elif chance.randrange(3) == 0:
                there[name] = str(step)
                await store.change_bucket(name, lambda settings, step=step: {**settings, "a": str(step)})
            for each in ("b00", "b01"):
                for _ in range(2):
                    home, inside = store.bucket_at_hand(each), store.at_hand(each, "k", True)
                    assert (None if home is None else home.settings["a"]) == there.get(each)
                    assert (None if inside is None else inside.bucket.settings["a"]) == there.get(each)
                    told += inside is not None
        assert told > 100


async def test_what_was_kept_is_forgotten_with_the_next_commit_of_another_process(tmp_path: Path) -> None:
    async with quiet(Disks(tmp_path, 1)) as store:
        bucket = await store.create_bucket("b01", "me", {})
        await put(store, bucket, "k", b"data")
        await rest(store)
        assert seen(store, bucket, "k") == seen(store, bucket, "k") == b"data"
        assert kept(store) == 1
        lane = store.pool.lanes[0]
        assert lane is not None
        before = lane.volume.stamp()
        assert before == lane.volume.stamp()
        path = names.catalog(str(tmp_path / "v0"))
        script = "import apsw, sys; apsw.Connection(sys.argv[1]).execute('DELETE FROM inline; DELETE FROM row WHERE inline > 0')"
        subprocess.run([sys.executable, "-c", script, path], check=True, timeout=60)  # noqa: ASYNC221
        assert lane.volume.stamp() != before
        assert seen(store, bucket, "k") is None


async def test_a_rotten_shard_is_not_served_not_even_one_that_rots_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quiet(Disks(tmp_path, 1)) as store:
        bucket = await store.create_bucket("b01", "me", {})
        await put(store, bucket, "k", b"data")
        lane = store.pool.lanes[0]
        assert lane is not None
        newest = lane.volume.newest

        def rotten(space: bytes, key: bytes, shard: bool) -> object:
            found = newest(space, key, shard)
            return found if found is None or found[1] is None else (found[0], b"date" + found[1][4:])

        monkeypatch.setattr(lane.volume, "newest", rotten)
        assert seen(store, bucket, "k") is None
        monkeypatch.undo()
        await put(store, bucket, "l", b"data")
        assert seen(store, bucket, "l") == b"data"


async def test_nothing_is_at_hand_while_a_volume_is_down_slow_or_filling(tmp_path: Path) -> None:
    async with quiet(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b01", "me", {})
        await put(store, bucket, "k", b"data")
        await rest(store)
        assert seen(store, bucket, "k") == b"data"
        down(store, 2)
        assert seen(store, bucket, "k") is None
        back(store, 2)
        assert seen(store, bucket, "k") == b"data"
        store.pool.filling.add(1)
        assert seen(store, bucket, "k") is None
        store.pool.filling.clear()
        lane = store.pool.lanes[3]
        assert lane is not None
        lane.well = False
        assert seen(store, bucket, "k") is None
        lane.well = True
        assert seen(store, bucket, "k") == b"data"


async def test_an_object_in_files_and_a_key_or_bucket_that_is_not_there_are_left_to_others(tmp_path: Path) -> None:
    async with quiet(Disks(tmp_path, 1)) as store:
        bucket = await store.create_bucket("b01", "me", {})
        await put(store, bucket, "large", bytes(100_000))
        assert seen(store, bucket, "large") is None
        found = store.at_hand("b01", "large", False)
        assert found is not None
        assert found.info.size == 100_000
        assert store.at_hand("b01", "none", True) is None
        assert store.at_hand("b02", "k", True) is None


async def test_what_is_kept_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "KEPT_BYTES", 10_000)
    async with quiet(Disks(tmp_path, 1)) as store:
        bucket = await store.create_bucket("b01", "me", {})
        for number in range(20):
            await put(store, bucket, f"k{number}", bytes(500))
        await rest(store)
        for _ in range(2):
            for number in range(20):
                assert seen(store, bucket, f"k{number}") == bytes(500)
        assert 3 <= kept(store) < 7
        assert store._glances._size == sum(entry.size for entry in store._glances._kept.values()) <= 10_000
