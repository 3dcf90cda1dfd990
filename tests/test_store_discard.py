"""The explicit discard: it ends what nobody can decide, nothing else, and for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from abixio.errors import NoSuchKey, OutcomeUnknown, Unavailable
from abixio.store.journal import at_rest
from abixio.store.types import Bucket, PutSpec
from abixio.volume.interface import Mark, State
from tests.store_local import rest
from tests.test_store_model import Text, Walk
from tests.test_store_version_faults import bucket_of, still


async def data(walk: Walk, bucket: Bucket, key: str = "k") -> str:
    reader = await walk.store.open(bucket, key)
    try:
        return b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)]).decode()
    finally:
        await reader.aclose()


async def undecided(walk: Walk, *states: str) -> Bucket:
    """A key with the value `old`, and a write `new` of which two of three volumes are gone that had it; on 4 volumes."""
    bucket = await bucket_of(walk, *states)
    await walk.store.put(bucket, "k", PutSpec("me", ftt="2"), Text("old"))
    await walk.store.settler.cycle()
    walk.set_away(3, True)
    walk.fuse.left = 3  # T1 on three volumes, and no mark on any
    with pytest.raises(OutcomeUnknown):
        await walk.store.put(bucket, "k", PutSpec("me", ftt="2"), Text("new"))
    await walk.crash()
    walk.set_away(3, False)
    for slot in (0, 1):
        walk.set_away(slot, True)
    return bucket


@pytest.mark.parametrize("states", [(), ("Enabled",)], ids=["unversioned", "versioned"])
async def test_what_is_undecided_is_shown_and_discarded_and_what_was_there_before_is_served(
    states: tuple[str, ...], tmp_path: Path
) -> None:
    async with still(tmp_path, 4) as walk:
        bucket = await undecided(walk, *states)
        with pytest.raises(Unavailable):
            await data(walk, bucket)
        assert [version.undecided for version in await walk.store.inspect(bucket, "k")] == [True, False]
        await walk.store.journal.run_once()
        assert (await walk.store.repair_status()).undecided == [("b", "k")]
        [gone] = await walk.store.discard(bucket, "k")
        assert (gone.kind, gone.size) == ("object", 3)
        assert await data(walk, bucket) == "old"
        assert await walk.store.discard(bucket, "k") == []
        walk.store.journal._later.clear()
        await walk.store.journal.run_once()
        assert (await walk.store.repair_status()).undecided == []


async def test_it_stays_discarded_when_a_volume_returns_that_has_it_as_committed(tmp_path: Path) -> None:
    async with still(tmp_path, 4) as walk:
        bucket = await undecided(walk)
        await walk.store.discard(bucket, "k")
        newest = walk.disks[0].rows(bucket.space, b"k")[0]
        walk.disks[0].apply([[Mark(newest.id, State.COMMITTED)]], True)
        for slot in (0, 1):
            walk.set_away(slot, False)
        assert await data(walk, bucket) == "old"
        await walk.store.put(bucket, "other", PutSpec("me"), Text("x"))
        for _ in range(3):
            walk.store.journal._later.clear()
            await rest(walk.store)
        assert await data(walk, bucket) == "old"
        assert [len(disk.rows(bucket.space, b"k")) for disk in walk.disks] == [1, 1, 1, 1]
        assert at_rest(await walk.store.mender.view(bucket.space, b"k")) is False  # all have it: its entries may go


async def test_what_can_be_decided_is_not_discarded(tmp_path: Path) -> None:
    async with still(tmp_path, 4) as walk:
        bucket = await bucket_of(walk)
        await walk.store.put(bucket, "k", PutSpec("me", ftt="1"), Text("old"))
        await walk.store.put(bucket, "k", PutSpec("me", ftt="1"), Text("new"))  # on all volumes, and marked on none
        await walk.crash()
        assert await walk.store.discard(bucket, "k") == []
        assert await walk.store.discard(bucket, "nothing") == []
        assert await data(walk, bucket) == "new"
        with pytest.raises(NoSuchKey):
            await data(walk, bucket, "nothing")


async def test_it_needs_as_many_volumes_as_make_it_final(tmp_path: Path) -> None:
    async with still(tmp_path, 4) as walk:
        bucket = await undecided(walk)
        walk.set_away(3, True)
        before = walk.disks[2].rows(bucket.space, b"k")
        with pytest.raises(Unavailable):
            await walk.store.discard(bucket, "k")
        assert walk.disks[2].rows(bucket.space, b"k") == before
