"""Buckets: created once, found, listed, and deleted only when they are empty."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from abixio.errors import BucketExists, BucketNotEmpty, NoSuchBucket, NoSuchKey, Unavailable
from abixio.store.record import ROOT
from tests.store_local import Disks, get, put, rest


async def test_buckets_are_found_and_listed_by_name(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        for name in ("b", "a", "c"):
            await store.create_bucket(name, "me", {"ftt": "2"})
        assert [bucket.name for bucket in await store.buckets()] == ["a", "b", "c"]
        assert (await store.bucket("b")).settings["ftt"] == "2"
        with pytest.raises(BucketExists):
            await store.create_bucket("b", "me", {})
        with pytest.raises(NoSuchBucket):
            await store.bucket("d")


async def test_of_many_creators_one_wins(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        answers = await asyncio.gather(*(store.create_bucket("b", str(n), {}) for n in range(20)), return_exceptions=True)
        winners = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(winners) == 1
        assert all(isinstance(answer, BucketExists) for answer in answers if answer not in winners)
        assert (await store.bucket("b")).space == winners[0].space


async def test_a_bucket_with_an_object_is_not_deleted(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data")
        with pytest.raises(BucketNotEmpty):
            await store.delete_bucket("b")
        assert await store.delete(bucket, "k")
        await store.delete_bucket("b")
        with pytest.raises(NoSuchBucket):
            await store.bucket("b")


async def test_a_bucket_made_again_has_nothing_of_the_old_one(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        old = await store.create_bucket("b", "me", {})
        await store.delete_bucket("b")
        new = await store.create_bucket("b", "me", {})
        assert new.space != old.space
        with pytest.raises(NoSuchBucket):
            await put(store, old, "k", b"late")
        with pytest.raises(NoSuchKey):
            await get(store, new, "k")


async def test_writers_and_the_deletion_of_their_bucket_never_both_succeed(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        for _ in range(10):
            bucket = await store.create_bucket("b", "me", {})
            answers = await asyncio.gather(
                *(put(store, bucket, f"k{n}", b"data") for n in range(4)), store.delete_bucket("b"),
                *(put(store, bucket, f"l{n}", b"data") for n in range(4)), return_exceptions=True,
            )
            stored = [a for n, a in enumerate(answers) if n != 4 and not isinstance(a, BaseException)]
            if answers[4] is None:
                assert stored == []
            else:
                assert isinstance(answers[4], BucketNotEmpty)
                for item in (await store.list(bucket, "", "", "", 100)).items:
                    await store.delete(bucket, item.key)
                await store.delete_bucket("b")


async def test_the_bucket_says_how_many_failures_its_objects_survive(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {"ftt": "3"})
        info = await put(store, bucket, "k", b"data")
        assert info.record.layout is not None
        assert info.record.layout.m == 3
        info = await put(store, bucket, "k", b"data", ftt=0)
        assert info.record.layout is not None
        assert info.record.layout.m == 0


async def test_too_few_volumes_cannot_say_that_a_bucket_is_not_there(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        await store.create_bucket("b", "me", {})
        await rest(store)
    async with disks.store(missing=(0, 1, 2)) as store:
        with pytest.raises(Unavailable):
            await store.bucket("c")
        assert not (await store.bucket("b")).certain
        with pytest.raises(Unavailable):
            await store.buckets()
        with pytest.raises(Unavailable):
            await store.create_bucket("c", "me", {})


async def test_the_deletion_of_a_bucket_that_is_not_empty_waits_for_nobody_and_makes_nobody_wait(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data")
        await rest(store)  # or what settles the bucket waits for it too
        async with store.committer.locks.shared(ROOT, b"b"):  # as a long completion holds it
            with pytest.raises(BucketNotEmpty):
                await asyncio.wait_for(store.delete_bucket("b"), 5)
            await asyncio.wait_for(put(store, bucket, "another", b"data"), 5)


async def test_a_volume_that_lists_nothing_does_not_decide_alone_that_a_bucket_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data")
        await rest(store)
        lane = store.pool.lanes[0]
        assert lane is not None
        monkeypatch.setattr(lane.volume, "scan", lambda *_: [])
        with pytest.raises(BucketNotEmpty):
            await store.delete_bucket("b")
        assert await store.delete(bucket, "k")
        await store.delete_bucket("b")
