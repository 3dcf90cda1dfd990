"""What the pool keeps for all: which files are being written, so that nobody takes them for orphans."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from abixio.config import KIB, MIB
from abixio.errors import ClientDisconnected, PreconditionFailed
from abixio.store import placing
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PutSpec
from tests.store_local import Disks, files, put, rest
from tests.store_rig import BytesSource, FailingSource


def refuse(found: ObjectInfo | None) -> None:
    if found is not None:
        raise PreconditionFailed("If-None-Match")


async def upload(store: Store, bucket: Bucket, error: BaseException | None) -> tuple[asyncio.Task[ObjectInfo], FailingSource]:
    """One that hangs, or fails, behind its first stripe."""
    source = FailingSource(os.urandom(5 * MIB), 9 * MIB, error)
    task = asyncio.create_task(store.put(bucket, "key", PutSpec("me"), source))
    await source.there.wait()
    return task, source


async def test_an_upload_counts_as_being_written_until_it_is_committed(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("bucket", "me", {})
        info = await put(store, bucket, "key", os.urandom(5 * MIB))
        assert not store.pool.writing
        task, _ = await upload(store, bucket, None)
        assert len(store.pool.writing) == 1
        assert info.record.write_ids[0] not in store.pool.writing
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not store.pool.writing


async def test_an_upload_that_fails_is_written_until_its_files_are_gone(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("bucket", "me", {})
        task, _ = await upload(store, bucket, ClientDisconnected("cut"))
        with pytest.raises(ClientDisconnected):
            await task
        assert not store.pool.writing
        assert files(disks) == 0


async def test_an_upload_that_is_refused_at_its_commit_is_written_no_more(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("bucket", "me", {})

        class Overtaken(BytesSource):
            async def readinto(self, view: memoryview) -> int:
                if not self.saw_end:
                    await put(store, bucket, "key", b"first")
                return await super().readinto(view)

        with pytest.raises(PreconditionFailed):
            await store.put(bucket, "key", PutSpec("me", condition=refuse), Overtaken(os.urandom(MIB)))
        assert not store.pool.writing
        await rest(store)
        assert files(disks) == 0


async def test_a_row_that_a_straggler_may_still_insert_keeps_its_files_from_being_orphans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "STRAGGLER", 0.05)
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("bucket", "me", {})
        lane = store.pool.lanes[1]
        assert lane is not None
        apply, hang, go = lane.volume.apply, threading.Event(), threading.Event()

        def hanging(changes: object, durable: bool) -> object:
            if hang.is_set():
                go.wait(20)
            return apply(changes, durable)  # type: ignore[arg-type]

        monkeypatch.setattr(lane.volume, "apply", hanging)
        hang.set()
        info = await put(store, bucket, "key", os.urandom(300 * KIB))
        assert store.pool.writing[info.record.write_ids[0]] == 1
        go.set()
        for _ in range(200):
            await asyncio.sleep(0.02)
            if not store.pool.writing:
                break
        assert not store.pool.writing
