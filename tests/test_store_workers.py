"""Two stores of one crew over the same volumes: what one of them must know, leave alone or learn of the other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from abixio.config import MIB, Config
from abixio.errors import Overloaded, VolumeError
from abixio.store import crew, journal, objects, reader
from abixio.store.assembly import rejoin
from abixio.store.buffers import BufferPool
from abixio.store.clock import write_id
from abixio.store.crew import Crew, Topic
from abixio.store.orphans import Orphans
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.store.types import PartRef, PutSpec
from abixio.volume import names
from abixio.volume.files import Files
from abixio.volume.interface import Note, State
from abixio.volume.local import LocalVolume
from tests.store_local import Disks, files, get, put, rest
from tests.store_rig import BytesSource
from tests.test_store_orphans import lay


class Pair:
    """Worker 0, the runner, and worker 1."""

    def __init__(self, disks: Disks) -> None:
        self.disks, self.memory, self.born = disks, crew.create(2), time.time()
        self.volumes: list[Mapping[int, LocalVolume]] = [{}, {}]

    @asynccontextmanager
    async def worker(self, number: int, joins: bool) -> AsyncIterator[Store]:
        mine = Crew(self.memory, number, 2, self.born)
        if joins:
            before = next(volumes for volumes in self.volumes if volumes)
            companies = {slot: mine.company(slot, True, os.dup(v.lock.fileno())) for slot, v in before.items()}
            found = rejoin(self.disks.n, {slot: v.path for slot, v in before.items()}, companies, Files())
        else:
            found = rejoin(self.disks.n, {}, {}, Files())
            for slot in range(self.disks.n):
                found.by_slot[slot] = LocalVolume.open(str(self.disks.root / f"v{slot}"), None, mine.company(slot, False))
            for slot in self.disks.filling:
                found.by_slot[slot].apply([[Note("filling", 1)]], True)
                found.filling.add(slot)
        self.volumes[number] = found.by_slot
        with ThreadPoolExecutor(4) as executor:
            loop, config = asyncio.get_running_loop(), Config(durability="page-cache")
            pool = Pool(found.by_slot, self.disks.n, found.filling, config, executor, BufferPool(64 * MIB), loop, mine)
            pool.joins = joins
            store = await Store.start(pool)
            await store.scanner.stop()
            try:
                yield store
            finally:
                await store.aclose()


@asynccontextmanager
async def two(disks: Disks) -> AsyncIterator[tuple[Store, Store]]:
    pair = Pair(disks)
    async with pair.worker(0, False) as runner, pair.worker(1, True) as other:
        yield runner, other
    os.close(pair.memory)


def meta(volume: Path, name: str) -> str:
    connection = apsw.Connection(names.catalog(str(volume)))
    value: str = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get
    connection.close()
    return value


async def test_a_process_that_joins_clears_away_what_its_own_number_left_and_nothing_else(tmp_path: Path) -> None:
    pair = Pair(Disks(tmp_path, 1))
    async with pair.worker(0, False):
        pair.volumes[0][0].create_shard(write_id())
        mine = names.tmp_shard(str(tmp_path / "v0"), write_id(), 0, 1)
        Files().close(Files().create(mine))
        async with pair.worker(1, True):
            left = os.listdir(names.tmp(str(tmp_path / "v0")))
            assert [name.split(".")[1] for name in left] == ["0"]
            same = write_id()
            for volumes in pair.volumes:
                volumes[0].create_shard(same)  # as two repairs do
    os.close(pair.memory)


async def test_only_the_last_process_says_that_all_is_well_and_only_when_told_so(tmp_path: Path) -> None:
    for last in (False, True):
        (tmp_path / str(last)).mkdir()
        disks = Disks(tmp_path / str(last), 1)
        pair = Pair(disks)
        async with pair.worker(0, False) as runner:
            async with pair.worker(1, True) as other:
                bucket = await other.create_bucket("bucket", "me", {})
                await put(runner, bucket, "k", b"x")
            assert meta(disks.root / "v0", "closed") == "no", "the runner may write yet"
            company = pair.volumes[0][0].company
            assert company is not None
            company.last = last
        assert meta(disks.root / "v0", "closed") == ("yes" if last else "no")
        os.close(pair.memory)


async def test_a_sweep_leaves_alone_what_another_process_makes_or_reads(tmp_path: Path) -> None:
    async with two(Disks(tmp_path, 3)) as (runner, other):
        runner.root = tmp_path  # type: ignore[attr-defined]
        made, read, orphan = (lay(runner, 1, write_id()) for _ in range(3))
        with other.pool.writes([bytes.fromhex(made.name)]), other.pool.reads([bytes.fromhex(read.name)]):
            await runner.scan_now()
            assert (made.exists(), read.exists(), orphan.exists()) == (True, True, False)
        await runner.scan_now()
        assert not made.exists()
        assert not read.exists()


async def test_a_runner_that_was_started_again_does_not_take_young_files_for_those_of_a_dead_server(tmp_path: Path) -> None:
    async with two(Disks(tmp_path, 3)) as (runner, _):
        runner.root = tmp_path  # type: ignore[attr-defined]
        file = lay(runner, 1, write_id())
        await asyncio.sleep(0.01)
        again = Orphans(runner.pool)
        assert await again.sweep(bytes.fromhex(file.name)[-1]) == 0
        assert file.exists()
        old = lay(runner, 1, (int(time.time() * 1000) - 10_000).to_bytes(6, "big") + os.urandom(10))
        assert await again.sweep(bytes.fromhex(old.name)[-1]) == 1


async def test_garbage_stays_while_another_process_reads_it(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with two(disks) as (runner, other):
        bucket = await runner.create_bucket("bucket", "me", {})
        record = (await put(runner, bucket, "k", os.urandom(200_000))).record
        with other.pool.reads(record.write_ids):
            await put(runner, bucket, "k", b"new")
            await rest(runner)
            assert files(disks) == 3
            volume = runner.pool.up()[0].volume
            assert volume.garbage(10) == list(record.write_ids), "and is not forgotten"
            # Who saw no reader before it had the turn sees it then.
            await runner.pool.up()[0].run(lambda: volume.unlink(record.write_ids, runner.pool.read_elsewhere))
            assert files(disks) == 3
        await rest(runner)
        assert files(disks) == 0


async def test_parts_whose_rows_went_while_they_were_opened_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(Disks(tmp_path, 3)) as (runner, other):
        bucket = await runner.create_bucket("bucket", "me", {})
        upload = await runner.create_upload(bucket, "k", PutSpec("me"))
        bodies = [os.urandom(5 * MIB) for _ in range(2)]
        parts = [await runner.put_part(bucket, "k", upload.id, n, BytesSource(body)) for n, body in enumerate(bodies, 1)]
        await runner.complete_upload(bucket, "k", upload.id, [PartRef(n, part.etag) for n, part in enumerate(parts, 1)])
        real, calls = reader.open_reader, list[bool]()

        async def open_late(*args: Any) -> Any:
            found = await real(*args)
            if not calls:
                calls.append(True)
                await put(runner, bucket, "k", b"new")
                await rest(runner)
            return found

        monkeypatch.setattr(objects, "open_reader", open_late)
        assert await get(other, bucket, "k") == b"new"
        assert calls


async def test_the_journal_leaves_young_rows_to_whoever_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(Disks(tmp_path, 3)) as (runner, other):
        await runner.journal.stop()
        bucket = await runner.create_bucket("bucket", "me", {})
        await rest(runner)
        assert other.settler._task is not None
        other.settler._task.cancel()
        await put(other, bucket, "k", b"x")
        assert await runner.journal.run_once() == 0
        assert runner.pool.up()[0].volume.rows(bucket.space, b"k")[0].state is not State.COMMITTED
        monkeypatch.setattr(journal, "YOUNG", 0.0)
        assert await runner.journal.run_once() == 1
        await rest(runner)
        assert runner.pool.up()[0].volume.rows(bucket.space, b"k")[0].state is State.COMMITTED
        assert await get(other, bucket, "k") == b"x"


async def test_a_volume_is_filling_for_all_until_the_runner_has_filled_it(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("bucket", "me", {})
        await put(store, bucket, "k", b"x")
    disks.empty(1)
    async with two(disks) as (runner, other):
        await other._news.stop()  # type: ignore[union-attr]
        assert other.pool.filling == {1}
        async with asyncio.timeout(20):
            while runner.pool.filling:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert other.pool.filling == {1}
        assert other.pool.since.keys() <= {1}
        await other._news.look()  # type: ignore[union-attr]
        assert not other.pool.filling
        assert not other.pool.since
        assert await get(other, bucket, "k") == b"x"


@pytest.mark.parametrize("error", [VolumeError("broken"), Overloaded("too much waits")])
async def test_that_a_volume_is_whole_is_heard_later_where_it_cannot_be_asked_at_once(tmp_path: Path, error: Exception) -> None:
    async with two(Disks(tmp_path, 3)) as (_, other):
        news, lane = other._news, other.pool.lanes[1]
        assert news is not None and lane is not None
        await news.stop()
        other.pool.filling.add(1)
        news._known[Topic.WHOLE] -= 1  # as if it had just been told

        def refuse(_call: object) -> object:
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane, "run", refuse)
            await news.look()
        assert other.pool.filling == {1}
        await news.look()
        assert not other.pool.filling


async def test_rules_put_through_another_process_wake_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(Disks(tmp_path, 1)) as (runner, other):
        await runner._news.stop()  # type: ignore[union-attr]
        await runner._news.look()  # type: ignore[union-attr]
        bucket = await other.create_bucket("bucket", "me", {})
        assert not runner.lifecycle._wake.is_set()
        await other.set_config(bucket, "lifecycle", "[]")
        await runner._news.look()  # type: ignore[union-attr]
        assert runner.lifecycle._wake.is_set()


async def test_background_work_steps_back_for_requests_of_all_processes(tmp_path: Path) -> None:
    async with two(Disks(tmp_path, 1)) as (runner, other):
        before = runner.pool.load
        other.pool.asked += 1000
        await other._news.look()  # type: ignore[union-attr]
        assert runner.pool.load >= before + 1000


async def test_only_the_runner_does_what_is_to_be_done_once(tmp_path: Path) -> None:
    async with two(Disks(tmp_path, 1)) as (runner, other):
        assert runner.journal._task is not None
        assert runner.refill._task is not None
        assert runner.lifecycle._task is not None
        assert other.journal._task is other.refill._task is other.scanner._task is other.lifecycle._task is None
        assert other.settler._task is not None
        assert other.repairs._task is not None


class Counting(Files):
    """How often all was made durable."""

    def __init__(self) -> None:
        self.syncs = 0

    def syncfs(self, fd: int) -> None:
        self.syncs += 1
        super().syncfs(fd)


def test_a_barrier_covers_what_other_processes_wrote(tmp_path: Path) -> None:
    Disks(tmp_path, 1)
    memory = crew.create(2)
    one = LocalVolume.open(str(tmp_path / "v0"), None, Crew(memory, 0, 2, 0.0).company(0, False))
    counted = Counting()
    other = LocalVolume.open(
        str(tmp_path / "v0"), counted, Crew(memory, 1, 2, 0.0).company(0, True, os.dup(one.lock.fileno()))
    )
    one.apply([[Note("x", 1)]], durable=False)
    before = counted.syncs
    other.barrier()
    assert counted.syncs == before + 1
    other.close()
    one.close()
    os.close(memory)


def test_a_probe_leaves_the_locks_of_the_catalog_alone(tmp_path: Path) -> None:
    """Without them the process that ends first would empty the WAL under the others."""
    Disks(tmp_path, 1)
    volume = LocalVolume.open(str(tmp_path / "v0"))
    ask = """
import fcntl, struct, sys
fd = open(sys.argv[1], "r+b")
lock = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0x40000002, 510, 0))
print(struct.unpack("hhqqi4x", lock)[0] == fcntl.F_RDLCK)
"""

    def locked() -> str:
        return subprocess.run([sys.executable, "-c", ask, names.catalog(volume.path)], capture_output=True, text=True).stdout

    assert locked() == "True\n"
    volume.probe()
    assert locked() == "True\n"
    volume.close()
