"""Shard files that no row names: which go, and which must not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from abixio.errors import OutcomeUnknown
from abixio.store import scanner
from abixio.store.clock import write_id
from abixio.store.orphans import AGE
from abixio.store.store import Store
from abixio.volume.interface import Drop, Head, RowId
from tests.store_local import Disks, files, get, put, rest
from tests.test_store_scanner import lane, until


def aged(seconds: float) -> bytes:
    """A write id that is so old."""
    return int((time.time() - seconds) * 1000).to_bytes(6, "big") + os.urandom(10)


def lay(store: Store, slot: int, id: bytes) -> Path:
    """A finished shard file without a row."""
    path: Path = store.root / f"v{slot}/shards/{id[-1]:02x}/{id.hex()}"  # type: ignore[attr-defined]
    path.write_bytes(b"shard")
    return path


async def test_files_that_no_row_names_go_and_all_others_stay(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        store.root = tmp_path  # type: ignore[attr-defined]
        bucket = await store.create_bucket("b", "me", {})
        body = os.urandom(200_000)
        await put(store, bucket, "k", body)
        await rest(store)
        kept = files(disks)
        orphan, written, read = (lay(store, 1, write_id()) for _ in range(3))
        foreign = tmp_path / "v1/shards/00/notes.txt"
        foreign.write_bytes(b"mine")
        with store.pool.writes([bytes.fromhex(written.name)]), store.pool.reads([bytes.fromhex(read.name)]):
            found = await store.scan_now()
            assert found.orphans == 1
            assert not orphan.exists()
            assert written.exists()
            assert read.exists()
        assert (await store.scan_now()).orphans == 2
        assert foreign.exists()
        assert files(disks) == kept + 1
        assert await get(store, bucket, "k") == body


async def test_the_background_scan_leaves_recent_files_alone(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 1)
    async with disks.store() as store:
        store.root = tmp_path  # type: ignore[attr-defined]
        recent, old = lay(store, 0, write_id()), lay(store, 0, aged(AGE + 1))
        store.scanner._orphans._born = 0.0
        for path in (recent, old):
            await store.scanner._orphans.sweep(int(path.name[-2:], 16))
        assert recent.exists()
        assert not old.exists()


async def test_a_file_whose_row_one_rotten_catalog_hides_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        record = (await put(store, bucket, "k", os.urandom(200_000))).record
        await rest(store)
        (id,) = record.write_ids
        await lane(store, 0).apply((Drop(RowId(bucket.space, b"k", record.seq, 0)), Head(bucket.space, b"k", None)), False)
        await lane(store, 0).run(
            lambda: lane(store, 0).volume._catalog._connection.execute("DELETE FROM ref WHERE write_id = ?", (id,))
        )
        assert not lane(store, 0).volume.named(id)
        assert await store.scanner._orphans.sweep(id[-1], at_once=True) == 0
        assert (tmp_path / f"v0/shards/{id[-1]:02x}/{id.hex()}").exists()


async def test_with_too_few_others_to_deny_it_no_file_is_removed(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store(missing=(1, 2)) as store:
        store.root = tmp_path  # type: ignore[attr-defined]
        orphan = lay(store, 0, write_id())
        assert (await store.scan_now()).orphans == 0
        assert orphan.exists()
    async with disks.store(missing=(1,)) as store:
        assert (await store.scan_now()).orphans == 1


async def test_what_a_kill_between_file_and_row_leaves_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        body = os.urandom(200_000)
        await put(store, bucket, "k", body)
        await rest(store)
        kept = files(disks)
        with monkeypatch.context() as patch:
            async def killed(*arguments: object, **more: object) -> None:
                raise OutcomeUnknown("killed")

            patch.setattr(store.committer, "commit", killed)
            with pytest.raises(OutcomeUnknown):
                await put(store, bucket, "cut", body)
        assert files(disks) == kept + 3
        # No volume is closed in good order.
        for slot in range(3):
            lane(store, slot).volume.clean = False
    monkeypatch.setattr(scanner, "DELAY", 3600.0)
    async with disks.store() as store:
        assert not lane(store, 0).volume.orderly
        await until(lambda: files(disks) == kept)
        assert await get(store, bucket, "k") == body
