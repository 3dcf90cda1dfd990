"""Keys of many versions: what asks for the newest, or puts another on top, costs the same however many are below."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from abixio.store import asking
from abixio.store.asking import FEW
from abixio.store.record import pack, unpack
from abixio.store.resolve import View
from abixio.store.store import Store
from abixio.store.types import Bucket, PutSpec
from abixio.volume.interface import Drop, Head, Insert, Row, Settle, State
from abixio.volume.local import LocalVolume
from tests.store_local import Disks, quiet
from tests.store_rig import BytesSource


class Counted:
    """Rows that volumes were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        for name in ("rows", "top"):
            monkeypatch.setattr(LocalVolume, name, self._counting(getattr(LocalVolume, name)))

    def _counting(self, method: Callable[..., list[Row]]) -> Callable[..., list[Row]]:
        def call(*args: object) -> list[Row]:
            found = method(*args)
            self.rows += len(found)
            return found

        return call


@asynccontextmanager
async def history(
    root: Path, length: int, n: int = 3, first: str = "1", said: bool = True
) -> AsyncIterator[tuple[Store, Bucket]]:
    """`k`, of that many versions; the first is of that fault tolerance, the others of 1. `said`: these say so."""
    async with quiet(Disks(root, n)) as store:
        await store.lifecycle.stop()
        await store.create_bucket("bucket", "me", {})
        bucket = await store.change_bucket("bucket", lambda settings: {**settings, "versioning": "Enabled"})
        await store.put(bucket, "k", PutSpec("me", ftt=first), BytesSource(b"first"))
        await store.put(bucket, "k", PutSpec("me", ftt="1"), BytesSource(b"old"))
        await settled(store)
        for lane in store.pool.up():
            lane.volume.apply(further(lane.volume.rows(bucket.space, b"k")[0], length - 2, said), False)
        yield store, bucket


def further(row: Row, count: int, said: bool) -> list[tuple[Insert | Settle | Head, ...]]:
    """So many further versions with the same shards, above this one."""
    record = unpack(row.record)
    record = record if said else replace(record, top=-1)
    records = [replace(record, seq=record.seq + number) for number in range(1, count + 1)]
    return [
        (
            Insert(id := row.id._replace(seq=each.seq), State.COMMITTED, row.to, pack(each), each.write_ids), Settle(id),
            Head(*id[:2], id[2:]),
        )
        for each in records
    ]


async def settled(store: Store) -> None:
    for _ in range(3):
        await store.settler.cycle()


async def put(store: Store, bucket: Bucket) -> None:
    await store.put(bucket, "k", PutSpec("me", ftt="1"), BytesSource(b"new"))
    await settled(store)


async def get(store: Store, bucket: Bucket) -> None:
    reader = await store.open(bucket, "k")
    assert b"".join([bytes(piece) async for piece in reader.stream(0, 3)]) == b"old"
    await reader.aclose()


async def head(store: Store, bucket: Bucket) -> None:
    assert (await store.head(bucket, "k")).size == 3


async def mark(store: Store, bucket: Bucket) -> None:
    await store.delete(bucket, "k")
    await settled(store)


async def cost(root: Path, length: int, work: Callable[[Store, Bucket], object], monkeypatch: pytest.MonkeyPatch) -> int:
    async with history(root / str(length), length) as (store, bucket):
        with monkeypatch.context() as patch:
            counted = Counted(patch)
            await work(store, bucket)  # type: ignore[misc]
        await settled(store)
        return counted.rows


@pytest.mark.parametrize("work", [put, get, head, mark])
async def test_it_costs_the_same_with_thousands_of_versions_as_with_some(
    tmp_path: Path, work: Callable[[Store, Bucket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / str(2 * FEW)).mkdir()
    some = await cost(tmp_path, 2 * FEW, work, monkeypatch)
    many = 0
    for attempt in range(3):  # a volume that is slow for a moment may be asked or not
        (tmp_path / str(attempt) / "10000").mkdir(parents=True)
        many = await cost(tmp_path / str(attempt), 10_000, work, monkeypatch)
        if many <= 2 * some:
            break
    assert 0 < many <= 2 * some


async def test_without_brief_views_it_costs_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FEW", 10_000)
    (tmp_path / "1000").mkdir()
    assert await cost(tmp_path, 1000, put, monkeypatch) > 3000


async def test_a_write_on_top_knows_the_tolerance_of_versions_it_does_not_look_at(tmp_path: Path) -> None:
    async with history(tmp_path, 3 * FEW, n=4, first="3") as (store, bucket):
        await put(store, bucket)
        newest = store.pool.up()[0].volume.rows(bucket.space, b"k")[0]
        assert (unpack(newest.record).w, unpack(newest.record).top) == (4, 3)


async def test_without_what_the_rows_say_it_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = View.highest_m.fget
    assert real is not None
    monkeypatch.setattr(View, "highest_m", property(lambda self: real(self) if not self.brief else 1))
    async with history(tmp_path, 3 * FEW, n=4, first="3") as (store, bucket):
        await put(store, bucket)
        assert unpack(store.pool.up()[0].volume.rows(bucket.space, b"k")[0].record).w == 3


async def test_where_rows_do_not_say_it_all_of_them_are_looked_at(tmp_path: Path) -> None:
    async with history(tmp_path, 3 * FEW, n=4, first="3", said=False) as (store, bucket):
        await put(store, bucket)
        assert unpack(store.pool.up()[0].volume.rows(bucket.space, b"k")[0].record).w == 4


async def test_a_volume_that_lacks_the_newest_rows_does_not_deny_them(tmp_path: Path) -> None:
    """One volume lacks the newest rows, so it shows others than its peers."""
    async with history(tmp_path, 3 * FEW) as (store, bucket):
        lane = store.pool.up()[0]
        for row in lane.volume.rows(bucket.space, b"k")[:3]:
            lane.volume.apply([(Drop(row.id, unpack(row.record).write_ids),)], False)
        newest = store.pool.up()[1].volume.rows(bucket.space, b"k")[0]
        assert (await store.head(bucket, "k")).record.seq == newest.id.seq
        await put(store, bucket)
        assert (await store.head(bucket, "k")).record.seq > newest.id.seq
