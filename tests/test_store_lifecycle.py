"""The lifecycle runner over real volumes: what goes, what stays, what it costs, and where it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from abixio.commands.status import _lines
from abixio.errors import NoSuchKey, NoSuchUpload, NoSuchVersion, Unavailable
from abixio.store import lifecycle
from abixio.store.lifecycle_rules import CONFIG, DAY, SETTING, Filter, Rule, Rules, encode
from abixio.store.record import Layout, Part, Record, pack
from abixio.store.store import Store
from abixio.store.types import Bucket, PutSpec
from abixio.volume.catalog_read import Reader
from abixio.volume.interface import Head, Insert, RowId, Settle, State
from tests.store_local import Disks, get, put, rest
from tests.store_rig import BytesSource

real = time.time_ns
ahead = 0
"""Nanoseconds by which all clocks are ahead."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    global ahead
    ahead = 0
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead)


@asynccontextmanager
async def running(disks: Disks, **more: Any) -> AsyncIterator[Store]:
    """A store whose lifecycle rules are carried out when a test says so."""
    async with disks.store(**more) as store:
        await store.scanner.stop()
        yield store


async def made(store: Store, *rules: Rule, versioning: str | None = None) -> Bucket:
    """A bucket with rules."""
    settings = {SETTING: "rules"} | ({"versioning": versioning} if versioning else {})
    bucket = await store.create_bucket("b", "me", settings)
    await rule(store, bucket, *rules)
    return bucket


async def rule(store: Store, bucket: Bucket, *rules: Rule) -> None:
    await store.set_config(bucket, CONFIG, encode(Rules(rules, "")))


async def after(store: Store, days: float) -> int:
    """A pass on a day that is so many days from now; how much it deleted."""
    global ahead
    ahead = int(days * DAY) * 1_000_000
    return await store.lifecycle.run_once()


async def keys(store: Store, bucket: Bucket) -> list[str]:
    return [each.key for each in (await store.list(bucket, "", "", "", 1000)).items]


async def history(store: Store, bucket: Bucket) -> list[tuple[str, str]]:
    """Keys with the kind of each version, newest first."""
    return [(info.key, info.record.kind) for info, _ in (await store.versions(bucket, "", "", ("", None), 1000)).versions]


# ---- what goes -------------------------------------------------------------------------------------------------------
async def test_objects_that_are_old_enough_are_deleted_and_others_are_not(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 3)) as store:
        bucket = await made(store, Rule("r", True, Filter("tmp/"), days=2))
        for key in ("keep", "tmp/a", "tmp/b"):
            await put(store, bucket, key, b"data")
        assert await after(store, 1.99) == 0
        assert await after(store, 3.1) == 2
        assert await keys(store, bucket) == ["keep"]
        with pytest.raises(NoSuchKey):
            await get(store, bucket, "tmp/a")
        assert await after(store, 3.2) == 0


async def test_a_bucket_without_rules_any_more_keeps_everything(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, days=1))
        await put(store, bucket, "k", b"data")
        await store.set_config(bucket, CONFIG, None)
        assert await after(store, 9) == 0
        assert await keys(store, bucket) == ["k"]


async def test_a_version_is_hidden_then_removed_then_its_marker_goes(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 3)) as store:
        rules = Rule("r", True, days=1, noncurrent_days=1), Rule("m", True, markers=True)
        bucket = await made(store, *rules, versioning="Enabled")
        await put(store, bucket, "k", b"one")
        await put(store, bucket, "k", b"two")
        assert await after(store, 2.5) == 2, "the old one is due already, and the new one hidden"
        assert await history(store, bucket) == [("k", "marker"), ("k", "object")]
        assert await after(store, 5) == 2, "with the last version its marker goes too"
        assert await history(store, bucket) == []
        await rest(store)
        assert all(lane is None or lane.volume.rows(bucket.space, b"k") == [] for lane in store.pool.lanes)


async def test_where_versioning_is_suspended_the_null_version_gives_way_to_a_null_marker(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, days=1), versioning="Enabled")
        await put(store, bucket, "k", b"one")
        await store.change_bucket("b", lambda settings: {**settings, "versioning": "Suspended"})
        bucket = await store.bucket("b")
        await put(store, bucket, "k", b"two")
        assert await after(store, 2.5) == 1
        (marker, _), (old, _) = (await store.versions(bucket, "", "", ("", None), 9)).versions
        assert (marker.record.kind, marker.version, old.record.kind) == ("marker", "null", "object")
        assert await get_version(store, bucket, old.version) == b"one"


async def get_version(store: Store, bucket: Bucket, version: str) -> bytes:
    reader = await store.open(bucket, "k", version)
    try:
        return b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
    finally:
        await reader.aclose()


async def test_the_newest_noncurrent_versions_stay_and_go_when_newer_ones_come(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, noncurrent_days=1, newer=2), versioning="Enabled")
        for number in range(4):
            await put(store, bucket, "k", b"%d" % number)
        assert await after(store, 2.5) == 1
        assert await after(store, 2.6) == 0
        await put(store, bucket, "k", b"new")
        assert await after(store, 2.7) == 1, "one too many now, and old enough before"
        assert len(await history(store, bucket)) == 3


async def test_uploads_that_are_old_enough_are_aborted(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 3)) as store:
        bucket = await made(store, Rule("r", True, Filter("a"), abort_days=1))
        old, other = [await store.create_upload(bucket, key, PutSpec("me")) for key in ("a", "b")]
        await store.put_part(bucket, "a", old.id, 1, BytesSource(bytes(70_000)), real_md5=True)
        assert await after(store, 0.9) == 0
        assert await after(store, 2.1) == 1
        with pytest.raises(NoSuchUpload):
            await store.upload(bucket, "a", old.id)
        assert (await store.upload(bucket, "b", other.id)).id == other.id


async def test_more_versions_than_go_at_a_time_all_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.store.lifecycle_key.AT_A_TIME", 2)
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, noncurrent_days=1), versioning="Enabled")
        for number in range(6):
            await put(store, bucket, "k", b"%d" % number)
        assert await after(store, 2.5) == 5
        assert await get(store, bucket, "k") == b"5"


# ---- what changes meanwhile ------------------------------------------------------------------------------------------
def before_the_lock(store: Store, monkeypatch: pytest.MonkeyPatch, change: Callable[[], Awaitable[object]]) -> None:
    """Something happens between the look at a key and the look under its lock, once."""
    execute = store.lifecycle._execute
    expire, done = execute._expire, False

    async def changed(*arguments: Any) -> Any:
        nonlocal done
        if not done:
            done = True
            await change()
        return await expire(*arguments)

    monkeypatch.setattr(execute, "_expire", changed)


async def test_what_is_overwritten_or_tagged_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, Filter(tags=(("old", "yes"),)), days=1))
        await store.put(bucket, "k", PutSpec("me", tags={"old": "yes"}), BytesSource(b"one"))
        before_the_lock(store, monkeypatch, lambda: store.amend(bucket, "k", None, lambda record: replace(record, tags={})))
        assert await after(store, 5) == 0
        assert await get(store, bucket, "k") == b"one"
        await store.put(bucket, "k", PutSpec("me", tags={"old": "yes"}), BytesSource(b"two"))
        before_the_lock(store, monkeypatch, lambda: put(store, bucket, "k", b"three"))
        assert await after(store, 8) == 0
        assert await get(store, bucket, "k") == b"three"


async def test_a_version_that_becomes_current_meanwhile_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking a delete marker away brings an object back: it must not go as the noncurrent version that it was just before."""
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, noncurrent_days=1), versioning="Enabled")
        await put(store, bucket, "k", b"precious")
        marker = await store.delete(bucket, "k")
        assert marker is not None
        before_the_lock(store, monkeypatch, lambda: store.delete(bucket, "k", version=marker.version))
        assert await after(store, 5) == 0
        assert await get(store, bucket, "k") == b"precious"


async def test_nothing_goes_by_rules_that_were_taken_away_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "AT_ONCE", 1)
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, days=1, abort_days=1))
        for key in ("a", "b", "c"):
            await put(store, bucket, key, b"data")
        before_the_lock(store, monkeypatch, lambda: store.set_config(bucket, CONFIG, None))
        assert await after(store, 5) == 0
        assert await keys(store, bucket) == ["a", "b", "c"]


async def test_a_tag_that_makes_an_old_object_due_is_seen(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 3)) as store:
        bucket = await made(store, Rule("r", True, Filter(tags=(("old", "yes"),)), days=1))
        await put(store, bucket, "k", b"data")
        assert await after(store, 5) == 0
        assert await after(store, 6) == 0
        await store.amend(bucket, "k", None, lambda record: replace(record, tags={"old": "yes"}))
        assert await after(store, 6.1) == 1
        assert await keys(store, bucket) == []


@pytest.mark.parametrize("lock", [{"mode": "COMPLIANCE"}, {"mode": "GOVERNANCE"}, {"hold": "ON"}])
async def test_what_is_locked_is_not_removed_before_its_time(
    tmp_path: Path, lock: dict[str, str]
) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, noncurrent_days=1), versioning="Enabled")
        now = time.time_ns() // 1_000_000
        kept = lock if "hold" in lock else {**lock, "until": str(now + 10 * DAY)}
        await store.put(bucket, "k", PutSpec("me", lock=kept), BytesSource(b"locked"))
        await put(store, bucket, "k", b"new")
        assert await after(store, 5) == 0
        assert len(await history(store, bucket)) == 2
        assert store.lifecycle.status().waiting == ("mode" in lock)
        assert await after(store, 9.9) == 0
        assert await after(store, 11.5) == ("mode" in lock), "after the midnight behind its end"


async def test_retention_is_checked_once_more_by_the_delete_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that takes no notice of retentions still deletes nothing."""
    monkeypatch.setattr("abixio.store.lifecycle_rules._locked_until", lambda record, now: 0)
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, noncurrent_days=1), versioning="Enabled")
        until = str(time.time_ns() // 1_000_000 + 9 * DAY)
        await store.put(bucket, "k", PutSpec("me", lock={"mode": "GOVERNANCE", "until": until}), BytesSource(b"locked"))
        await put(store, bucket, "k", b"new")
        assert await after(store, 5) == 0
        assert len(await history(store, bucket)) == 2


async def test_what_clients_leave_of_a_key_is_judged_at_once(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("m", True, markers=True), versioning="Enabled")
        info = await put(store, bucket, "k", b"data")
        await store.delete(bucket, "k")
        assert await after(store, 1) == 0
        await store.delete(bucket, "k", version=info.version)
        await rest(store)  # the row that says so is gone again
        assert await after(store, 2) == 1
        assert await history(store, bucket) == []


# ---- what it costs, and where it goes on -----------------------------------------------------------------------------
class Reads:
    """Counts what the catalogs are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = self.entries = self.walked = 0
        rows, aged = Reader.rows, Reader.aged

        def counted(reader: Reader, *arguments: Any, **more: Any) -> Any:
            found = rows(reader, *arguments, **more)
            self.rows += len(found)
            return found

        def entries(reader: Reader, *arguments: Any) -> Any:
            found = aged(reader, *arguments)
            self.entries += len(found)
            return found

        def walked(reader: Reader, *_: Any) -> Any:
            self.walked += 1
            raise AssertionError("a bucket is walked")

        monkeypatch.setattr(Reader, "rows", counted)
        monkeypatch.setattr(Reader, "aged", entries)
        for name in ("history", "walk"):
            monkeypatch.setattr(Reader, name, walked)


def fill(store: Store, bucket: Bucket, count: int, old: Callable[[int], str | None]) -> None:
    """So many objects without data, straight into the catalog: those that `old` gives a key of ten days ago, others of today."""
    lane = store.pool.lanes[0]
    assert lane is not None
    now = time.time_ns() // 1000
    changes: list[list[Any]] = []
    layout = Layout(1, 0, (0,), 1 << 20)
    for number in range(count):
        name = old(number)
        seq = now - 10 * DAY * 1000 + number if name is not None else now + number
        key = (name or f"{number:06}").encode()
        record = Record(
            "object", bucket.space, key, seq, 1, modified=seq // 1000, layout=layout,
            parts=(Part(number.to_bytes(16, "big"), 1, 0, 0),),
        )
        id = RowId(bucket.space, key, seq, 0)
        changes.append([Insert(id, State.COMMITTED, 1, pack(record)), Head(bucket.space, key, (seq, 0)), Settle(id)])
        if len(changes) == 10_000:
            lane.volume.apply(changes, False)
            changes.clear()
    lane.volume.apply(changes, False)


@pytest.mark.parametrize("prefix", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_of_a_hundred_thousand_objects_those_are_read_that_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: bool
) -> None:
    """Ten are due: by their age, or, when all are old, by their prefix. Figures: 10 entries of the index and some 100 rows (each
    is looked at, judged under its lock together with bucket and rules, and committed); by prefix all entries of the index,
    once, and no more rows."""
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, Filter("due/" if prefix else ""), days=3))
        if prefix:
            fill(store, bucket, 100_000, lambda number: f"due/{number}" if number % 10_000 == 7 else f"{number:06}")
        else:
            fill(store, bucket, 100_000, lambda number: f"due/{number}" if number % 10_000 == 7 else None)
        reads = Reads(monkeypatch)
        assert await after(store, 0) == 10
        assert store.lifecycle.status().judged == 10
        assert reads.rows <= 150, reads.rows
        assert reads.entries == (100_000 if prefix else 10)
        reads.rows = reads.entries = 0
        assert await after(store, 0) == 0
        assert await after(store, 1) == 0
        assert reads.rows <= 20, "the settings of the bucket only"
        assert reads.entries <= 20


async def test_rows_that_stay_are_read_once_for_a_rule_and_again_with_the_next_whole_sweep(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 3)) as store:
        bucket = await made(store, Rule("r", True, Filter(tags=(("a", "b"),)), days=1))
        for number in range(5):
            await put(store, bucket, f"{number}", b"data")
        judged = []
        for day in (2.5, 3.5, 4.5, 9.6, 10.6):
            await after(store, day)
            judged.append(store.lifecycle.status().judged)
        assert judged == [5, 5, 5, 10, 10]
        await rule(store, bucket, Rule("r", True, Filter(tags=(("a", "c"),)), days=1))
        await after(store, 10.7)
        assert store.lifecycle.status().judged == 15, "other rules judge anew"


async def test_a_restart_goes_on_where_the_last_pass_ended(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with running(disks) as store:
        await store.lifecycle.stop()  # so that nothing is remembered at the end but what the pass itself saved
        bucket = await made(store, Rule("r", True, Filter(tags=(("a", "b"),)), days=1))
        for number in range(5):
            await put(store, bucket, f"{number}", b"data")
        await after(store, 2.5)
        assert store.lifecycle.status().judged == 5
    async with running(disks) as store:
        store.lifecycle._state = await lifecycle.load(store.pool)
        await after(store, 3.5)
        assert store.lifecycle.status().judged == 0


async def test_pages_of_any_size_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "PAGE", 3)
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, days=1))
        for number in range(10):
            await put(store, bucket, f"{number}", b"data")
        assert await after(store, 2.5) == 10


async def test_a_key_that_cannot_be_judged_now_stops_no_other_and_is_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, days=1))
        for key in ("a", "b", "c"):
            await put(store, bucket, key, b"data")
        execute = store.lifecycle._execute
        judge, failing = execute.key, True

        async def fails(bucket: Bucket, document: str, key: bytes) -> Any:
            if key == b"b" and failing:
                raise Unavailable("not now")
            return await judge(bucket, document, key)

        monkeypatch.setattr(execute, "key", fails)
        assert await after(store, 2.5) == 2
        assert store.lifecycle.status().waiting == 1
        failing = False
        assert await after(store, 2.5) == 0, "not at once"
        assert await after(store, 2.6) == 1
        assert await keys(store, bucket) == []


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_with_a_dead_volume_the_rules_are_carried_out_all_the_same(tmp_path: Path, lost: int) -> None:
    disks = Disks(tmp_path, 3)
    async with running(disks) as store:
        bucket = await made(store, Rule("r", True, Filter("a"), days=1))
        for key in ("a1", "a2", "b"):
            await put(store, bucket, key, b"data")
    async with running(disks, missing=[lost]) as store:
        assert await after(store, 2.5) == 2
    async with running(disks) as store:
        await rest(store)
        assert await keys(store, await store.bucket("b")) == ["b"]


async def test_a_filling_volume_is_not_asked_what_is_old(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with running(disks) as store:
        bucket = await made(store, Rule("r", True, days=1))
        await put(store, bucket, "k", b"data")
    disks.empty(1)
    async with running(disks) as store:
        await store.refill.stop()
        store.pool.filling.add(1)
        for turn in range(3):
            store.lifecycle._turn = turn
            (rows,) = [
                await store.lifecycle._rows(bucket.space, lifecycle.sweeps(lifecycle.decode(document), 0)[0], 0, 1 << 62)
                for document in [await store.config(await store.bucket("b"), CONFIG)] if document
            ]
            assert [row.key for row in rows] == [b"k"]


async def test_a_version_that_went_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, noncurrent_days=1), versioning="Enabled")
        info = await put(store, bucket, "k", b"old")
        await put(store, bucket, "k", b"new")
        before_the_lock(store, monkeypatch, lambda: store.delete(bucket, "k", version=info.version))
        assert await after(store, 2.5) == 0
        with pytest.raises(NoSuchVersion):
            await store.head(bucket, "k", info.version)


async def test_the_task_runs_by_itself_where_days_are_short(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 1)
    async with disks.store(debug_day=1) as store:
        bucket = await made(store, Rule("r", True, days=1))
        await put(store, bucket, "k", b"data")
        for _ in range(100):
            if not await keys(store, bucket):
                break
            await asyncio.sleep(0.1)
        assert store.lifecycle.status().deleted == 1


async def test_the_status_tells_an_operator_what_the_rules_did(tmp_path: Path) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        before = to_builtins(await store.repair_status())
        assert not [line for line in _lines("", page(before)) if line.startswith("lifecycle")], "no bucket has rules"
        bucket = await made(store, Rule("r", True, days=1))
        for key in ("a", "b"):
            await put(store, bucket, key, b"data")
        await after(store, 2.5)
        (line,) = [line for line in _lines("", page(to_builtins(await store.repair_status()))) if line.startswith("lifecycle")]
        assert line.startswith("lifecycle: waiting for the next day; rules of 1 bucket, 2 deleted, 2 looked at; last pass: 2")


def page(repair: dict[str, Any]) -> dict[str, Any]:
    """As the server sends it."""
    return {"version": "1", "up_seconds": 1.0, "repair": repair, "directories": {}, "jobs": []}


async def test_a_marker_stays_while_too_few_volumes_tell_what_is_below_it(tmp_path: Path) -> None:
    """Of three volumes one, which was away while the object was put, would take the marker for a lone one."""
    disks = Disks(tmp_path, 3)
    async with running(disks) as store:
        bucket = await made(store, Rule("m", True, markers=True), versioning="Enabled")
    async with running(disks, missing=[2]) as store:
        await put(store, bucket, "k", b"precious")
    async with running(disks) as store:
        await store.journal.stop()
        await store.delete(bucket, "k")
        for slot in (0, 1):
            store.pool.lanes[slot] = None
        view = await store.committer.view(bucket.space, b"k", lambda view: False)
        assert [version.record.kind for version in view.versions] == ["marker"]
        with pytest.raises(Unavailable):
            store.lifecycle._execute._visible(view)


async def test_a_bucket_that_cannot_be_read_now_stops_no_other_and_is_tried_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, days=1))
        other = await store.create_bucket("a", "me", {SETTING: "rules"})
        await rule(store, other, Rule("r", True, days=1))
        for each in (bucket, other):
            await put(store, each, "k", b"data")
        real_get = store.lifecycle._configs.get

        async def fails(asked: Bucket, name: str) -> str | None:
            if asked.name == "a":
                raise Unavailable("not now")
            return await real_get(asked, name)

        monkeypatch.setattr(store.lifecycle._configs, "get", fails)
        assert await after(store, 2.1) == 1
        assert store.lifecycle._until_next() <= lifecycle.RETRY
        monkeypatch.undo()
        assert await keys(store, other) == ["k"]


async def test_the_event_loop_goes_on_between_keys_that_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "AT_ONCE", 1)
    async with running(Disks(tmp_path, 1)) as store:
        bucket = await made(store, Rule("r", True, Filter(tags=(("a", "b"),)), days=1))
        for number in range(20):
            await put(store, bucket, f"{number}", b"data")
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        await store.lifecycle.stop()
        sweep = lifecycle.Sweep("x", 1, every=(b"",))
        document = await store.config(bucket, CONFIG)
        assert document is not None
        rows = await store.lifecycle._rows(bucket.space, sweep, 0, 1 << 62)
        counting = asyncio.create_task(count())
        await store.lifecycle._judge(bucket, document, sweep, lifecycle.Mark(), rows)
        counting.cancel()
        assert turns >= 20
