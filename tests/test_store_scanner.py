"""The scanner finds what nobody reads: rotten and missing shards, rows that one catalog hides, parts without an upload."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from abixio.config import MIB, Config
from abixio.store import scanner
from abixio.store.budget import Budget
from abixio.store.health import Healed
from abixio.store.pool import Pool
from abixio.store.record import unpack
from abixio.store.scanner import Scan, Scanner
from abixio.store.store import Store
from abixio.store.types import Bucket, PartRef, PutSpec
from abixio.volume.interface import Drop, Head, Insert, Op, Row, RowId, Settle, State
from tests.store_local import Disks, get, put, rest
from tests.store_rig import BytesSource


def lane(store: Store, slot: int) -> Any:
    """Of which these tests know more than they should."""
    found = store.pool.lanes[slot]
    assert found is not None
    return found


def shard(root: Path, slot: int, write_id: bytes) -> Path:
    return root / f"v{slot}/shards/{write_id[-1]:02x}/{write_id.hex()}"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def spoil_inline(store: Store, slot: int, bucket: Bucket, key: str) -> None:
    """One bit of a shard in the catalog, as a rotten page would."""
    def work() -> None:
        volume = lane(store, slot).volume
        where = volume.rows(bucket.space, key.encode())[0].inline
        spoil = "UPDATE inline SET shard = CAST(x'00' || substr(shard, 2) AS BLOB) WHERE id = ?"
        volume._catalog._connection.execute(spoil, (where,))

    await lane(store, slot).run(work)


@pytest.mark.parametrize("size", [100_000, 9 * MIB], ids=["at once", "in steps"])
async def test_rotten_missing_and_torn_shard_files_are_made_again(tmp_path: Path, size: int) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        bodies = {name: os.urandom(size) for name in ("rotten", "missing", "torn", "swapped")}
        ids = {}
        for name, body in bodies.items():
            ids[name] = (await put(store, bucket, name, body, ftt=1)).record.parts[0].write_id
        await rest(store)
        good = {name: shard(tmp_path, 0, write_id).read_bytes() for name, write_id in ids.items()}
        flip(shard(tmp_path, 0, ids["rotten"]), size // 3)
        shard(tmp_path, 0, ids["missing"]).unlink()
        shard(tmp_path, 0, ids["torn"]).write_bytes(good["torn"][:-1])
        shard(tmp_path, 0, ids["swapped"]).write_bytes(good["rotten"])
        found = await store.scan_now()
        assert (found.bad, found.repaired) == (4, 4)
        assert found.objects >= 4
        assert found.bytes > 2 * size
        assert {name: shard(tmp_path, 0, write_id).read_bytes() for name, write_id in ids.items()} == good
        assert (await store.scan_now()).bad == 0


async def test_a_shard_that_only_its_blake3_gives_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        write_id = (await put(store, bucket, "k", os.urandom(100_000))).record.parts[0].write_id
        await rest(store)
        flip(shard(tmp_path, 1, write_id), 5000)
        with monkeypatch.context() as patch:
            patch.setattr("abixio.store.examine.check_blocks", lambda *arguments: None)
            assert (await store.scan_now()).bad == 1


async def test_rotten_inline_shards_are_made_again(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        body = b"\x01" + os.urandom(3000)
        await put(store, bucket, "k", body)
        await rest(store)
        for slot in range(3):
            await spoil_inline(store, slot, bucket, "k")
            found = await store.scan_now()
            assert (found.bad, found.repaired) == (1, 1)
        assert await get(store, bucket, "k") == body


async def test_a_row_that_one_catalog_lost_comes_back_though_no_journal_knows(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        ids = []
        for key, size in (("large", 200_000), ("small", 100)):
            record = (await put(store, bucket, key, os.urandom(size))).record
            ids.append(RowId(bucket.space, key.encode(), record.seq, record.rev))
        await rest(store)
        for id in ids:
            await lane(store, 2).apply((Drop(id), Head(*id[:2], None)), False)
        await store.journal.run_once()
        assert not lane(store, 2).volume.rows(*ids[0][:2])
        found = await store.scan_now()
        assert (found.bad, found.repaired) == (2, 2)
        await rest(store)
        for id in ids:
            (row,) = lane(store, 2).volume.rows(*id[:2])
            assert row.id == id
            assert row.state is State.COMMITTED
            assert row.record == lane(store, 0).volume.rows(*id[:2])[0].record
        assert (await store.scan_now()).bad == 0


async def test_what_the_journal_knows_is_left_to_it(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await store.journal.stop()
        lane(store, 1).breaker.down("a test says so")
        await put(store, bucket, "k", b"x" * 100_000)
        lane(store, 1).breaker.state = type(lane(store, 1).breaker.state).UP
        found = await store.scan_now()
        assert found.bad == 0
        assert not lane(store, 1).volume.rows(bucket.space, b"k")


async def test_parts_whose_upload_has_ended_go_and_those_of_open_ones_stay(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    body = os.urandom(5 * MIB)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        uploads = []
        for key in ("open", "ended"):
            uploads.append(await store.create_upload(bucket, key, PutSpec("me")))
            await store.put_part(bucket, key, uploads[-1].id, 1, BytesSource(body))
        await rest(store)
        ended = bytes.fromhex(uploads[1].id)
        rows = lane(store, 0).volume.history(ended, b"", 10)
        with store.pool.reads([id for row in rows for id in unpack(row.record).write_ids]):  # so their files stay
            await store.abort_upload(bucket, "ended", uploads[1].id)
            await rest(store)
            assert not lane(store, 0).volume.history(ended, b"", 10)
            for slot in range(3):
                await lane(store, slot).apply([op for row in rows for op in again(row)], False)
        await store.journal.run_once()
        assert lane(store, 0).volume.history(ended, b"", 10)
        await store.scan_now()
        assert not any(lane(store, slot).volume.history(ended, b"", 10) for slot in range(3))
        parts, _ = await store.parts(bucket, "open", uploads[0].id, 0, 10)
        assert [part.number for part in parts] == [1]
        await store.complete_upload(bucket, "open", uploads[0].id, [PartRef(1, parts[0].etag)])
        assert await get(store, bucket, "open") == body


def again(row: Row) -> list[Op]:
    """As a row that is long settled."""
    return [Insert(row.id, State.COMMITTED, row.to, row.record, unpack(row.record).write_ids, None, False), Settle(row.id)]


async def test_parts_of_a_completed_object_are_verified_too(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        parts = [await store.put_part(bucket, "k", upload.id, n, BytesSource(os.urandom(5 * MIB))) for n in (1, 2)]
        info = await store.complete_upload(bucket, "k", upload.id, [PartRef(part.number, part.etag) for part in parts])
        await rest(store)
        flip(shard(tmp_path, 0, info.record.parts[1].write_id), 1 << 20)
        found = await store.scan_now()
        assert (found.bad, found.repaired) == (1, 1)


async def test_what_cannot_be_repaired_is_counted_and_waits_in_the_queue(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await store.repairs.stop()
        write_id = (await put(store, bucket, "k", os.urandom(200_000), ftt=1)).record.parts[0].write_id
        await rest(store)
        kept = shard(tmp_path, 0, write_id).read_bytes()
        for slot in (0, 1):
            shard(tmp_path, slot, write_id).unlink()
        found = await store.scan_now()
        assert (found.bad, found.repaired) == (2, 0)
        assert {slot for _, slot in store.pool.bad} == {0, 1}
        shard(tmp_path, 0, write_id).write_bytes(kept)
        found = await store.scan_now()
        assert (found.bad, found.repaired) == (1, 1)


async def test_a_repair_that_fails_is_tried_again_without_another_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        write_id = (await put(store, bucket, "k", os.urandom(200_000), ftt=1)).record.parts[0].write_id
        await rest(store)
        await store.repairs.stop()
        shard(tmp_path, 0, write_id).unlink()

        async def full(*arguments: object) -> Healed:
            return Healed(failed=("volume 0: only its reserve is left",))

        with monkeypatch.context() as patch:
            patch.setattr(store.healer, "heal_key", full)
            found = await store.scan_now()
            assert (found.bad, found.repaired) == (1, 0)
        await store.repairs.run_once()
        assert shard(tmp_path, 0, write_id).exists()


async def test_writes_during_a_scan_are_not_taken_for_damage(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for number in range(30):
            await put(store, bucket, f"{number}", os.urandom(60_000 if number % 2 else 2000))
        scan = asyncio.create_task(store.scan_now())
        number = 0
        while not scan.done():
            await put(store, bucket, f"{number % 30}", os.urandom(60_000))
            if number % 5 == 0:
                await store.delete(bucket, f"{number % 30}")
            number += 1
        assert number > 3
        assert (await scan).bad == 0


# ---- how it goes on ------------------------------------------------------------------------------------------------------
async def test_a_pass_goes_on_after_a_restart_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "PAGE", 5)
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for number in range(40):
            await put(store, bucket, f"{number:02}", b"x" * 50_000)
        await rest(store)
    read: list[int] = []
    original = Scanner._keys

    async def counted(self: Scanner, found: object) -> None:
        await original(self, found)  # type: ignore[arg-type]
        read.append(len(found.keys))  # type: ignore[attr-defined]
        if len(read) == 4:
            await asyncio.Event().wait()

    monkeypatch.setattr(Scanner, "_keys", counted)
    monkeypatch.setattr(scanner, "DELAY", 0.0)
    async with disks.store() as store:
        await until(lambda: len(read) == 4)
        before = store.scanner.status()
        assert before.running
        assert "'14'" in before.position or "'13'" in before.position
    async with disks.store() as store:
        await until(lambda: store.scanner.status().finished > 0)
        after = store.scanner.status()
        assert after.finished >= after.started == before.started
        assert after.objects == 41 + read[3]
        assert sum(read) == 41 + read[3]
    async with disks.store() as store:
        await asyncio.sleep(0.3)
        assert store.scanner.status() == after  # there is nothing to do for a week


async def until(condition: Callable[[], bool]) -> None:
    """Poll: nobody tells."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_the_next_pass_begins_a_week_after_the_last_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "DELAY", 0.0)
    disks = Disks(tmp_path, 1)
    async with disks.store() as store:
        await until(lambda: store.scanner.status().finished > 0)
        first = store.scanner.status()
    monkeypatch.setattr(scanner, "INTERVAL", (time.time() * 1000 - first.started) / 1000 + 0.5)
    async with disks.store() as store:
        await until(lambda: store.scanner.status().started > first.started)


async def test_a_rate_of_zero_turns_the_scanner_off_until_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "DELAY", 0.0)
    monkeypatch.setattr("tests.store_local.Config", partial(Config, scan_rate=0))
    disks = Disks(tmp_path, 1)
    async with disks.store() as store:
        await asyncio.sleep(0.3)
        assert store.scanner.status().started == 0
        assert (await store.scan_now()).finished > 0


async def test_words_of_another_version_begin_the_scan_anew(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 2)
    async with disks.store() as store:
        await lane(store, 0).run(lambda: lane(store, 0).volume.remember("scan", '{"started": "yesterday"'))
        await lane(store, 1).run(lambda: lane(store, 1).volume.remember("scan", '{"started": 7, "saved": 9, "later": 1}'))
        await store.scanner._load()
        assert store.scanner._scan == Scan(started=7, saved=9)


async def test_the_budget_keeps_bytes_and_processor_time_down() -> None:
    loop = asyncio.get_running_loop()
    for size, seconds in ((100_000, 0.0), (0, 0.01)):
        budget = Budget(loop, rate=1_000_000, share=0.1)
        await budget.spend(1_000_000, 0.0)  # what was saved up
        start = loop.time()
        for _ in range(3):
            await budget.spend(size, seconds)
        assert 0.25 < loop.time() - start < 1.0


async def test_background_work_steps_back_while_clients_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.store.budget.SAMPLE", 0.01)
    disks = Disks(tmp_path, 1)
    async with disks.store() as store:
        pool: Pool = store.pool

        async def work() -> float:
            start = pool.loop.time()
            async with store.refill._manners.turn():
                await asyncio.sleep(0.02)
            return pool.loop.time() - start

        await asyncio.sleep(0.02)
        assert max(await asyncio.gather(work(), work(), work())) < 0.06
        pool.asked += 1000
        await asyncio.sleep(0.02)
        took = []
        for _ in range(2):
            pool.asked += 1000
            took.append(await work())
        assert min(took) > 0.08
