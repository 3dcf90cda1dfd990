"""The circuit breaker: what takes a volume out of the hot path, and how it comes back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable

import pytest

from abixio.errors import (
    CatalogCorrupt,
    DataLost,
    NewerExists,
    ShardCorrupt,
    ShardMissing,
    VolumeError,
    VolumeFull,
    VolumeReadOnly,
    VolumeUnusable,
    WouldBlock,
)
from abixio.store import breaker as breakers
from abixio.store import examine as examining
from abixio.store import openpart
from abixio.store.asking import Asker
from abixio.store.breaker import State
from abixio.store.lane import Lane
from abixio.store.sources import Copies
from abixio.volume.interface import Row
from tests.store_memvolume import MemVolume
from tests.store_rig import FILE, SPACE, Rig, begin_on_threads, noise, rig


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakers, "SHORTEST", 0.02)
    monkeypatch.setattr(breakers, "LONGEST", 0.2)


def lane_of(r: Rig, slot: int) -> Lane:
    lane = r.pool.lanes[slot]
    assert lane is not None
    return lane


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not after 10 s")


async def until_state(lane: Lane, state: State, seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if lane.breaker.state is state:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{lane.breaker.state} after {seconds} s")


def failing(volume: MemVolume, error: VolumeError | None, *operations: str) -> None:
    def before(operation: str) -> None:
        if error is not None and operation in operations:
            raise error

    volume.before = before


async def ask(r: Rig, times: int = 1) -> dict[int, list[Row]]:
    rows: dict[int, list[Row]] = {}
    for _ in range(times):
        rows = Asker(r.pool).at_hand(SPACE, b"key")[0]
    return rows


# ---- going down ------------------------------------------------------------------------------------------------------
async def test_a_volume_that_errs_on_read_after_read_is_not_asked_any_more_and_comes_back_by_itself() -> None:
    async with rig(3) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        failing(volume, VolumeError("input/output error"), "rows", "probe")
        await ask(r, breakers.ERRORS)
        assert lane.breaker.state is State.DOWN
        assert not lane.up
        assert (r.pool.condition(1).state, r.pool.condition(1).why) == ("down", "input/output error")
        volume.calls.clear()
        assert sorted(await ask(r, 20)) == [0, 2]
        assert "rows" not in volume.calls
        failing(volume, None)
        await until_state(lane, State.UP)
        assert sorted(await ask(r)) == [0, 1, 2]
        assert r.pool.condition(1).state == "up"


async def test_good_reads_in_between_keep_a_volume_in_service() -> None:
    async with rig(2) as r:
        for _ in range(5):
            failing(r.volumes[1], CatalogCorrupt("a rotten page"), "rows")
            await ask(r, breakers.ERRORS - 1)
            failing(r.volumes[1], None)
            await ask(r)
        assert lane_of(r, 1).well


@pytest.mark.parametrize("error", [NewerExists, VolumeFull, VolumeReadOnly, ShardMissing, ShardCorrupt, WouldBlock])
async def test_errors_that_a_well_volume_may_have_do_not_count(error: type[VolumeError]) -> None:
    async with rig(2) as r:
        for _ in range(10):
            r.pool.lost(lane_of(r, 1), error("nothing wrong with the disk"))
        assert lane_of(r, 1).well


async def test_a_volume_that_failed_for_good_stays_out_and_is_not_probed() -> None:
    async with rig(2) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        failing(volume, VolumeUnusable("a sync failed"), "barrier")
        with pytest.raises(VolumeUnusable):
            await lane.run(volume.barrier)
        failing(volume, None)
        volume.calls.clear()
        await asyncio.sleep(0.3)
        assert "probe" not in volume.calls
        assert (lane.breaker.state, lane.up) == (State.FAILED, False)
        assert (r.pool.condition(1).state, r.pool.condition(1).why) == ("failed", "a sync failed")
        with pytest.raises(VolumeUnusable):
            await lane.run(volume.barrier)


async def test_a_probe_that_finds_a_volume_unusable_ends_it() -> None:
    async with rig(2) as r:
        lane = lane_of(r, 1)
        failing(r.volumes[1], VolumeUnusable("gone"), "probe")
        lane.breaker.down("odd")
        await until_state(lane, State.FAILED)
        assert lane.failed is not None


# ---- coming back -----------------------------------------------------------------------------------------------------
async def test_probes_are_made_more_and_more_rarely() -> None:
    async with rig(2) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        at: list[float] = []

        def before(operation: str) -> None:
            if operation == "probe":
                at.append(time.monotonic())
                raise VolumeError("still broken")

        volume.before = before
        lane.breaker.down("broken")
        await asyncio.sleep(1.0)
        pauses = [after - earlier for earlier, after in itertools.pairwise(at)]
        assert 3 <= len(at) <= 9  # without pauses that grow there would be twenty
        assert pauses[-1] > 1.5 * pauses[0]


async def test_a_volume_that_comes_and_goes_is_trusted_later_each_time() -> None:
    async with rig(2) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        failing(volume, VolumeError("broken"), "probe")
        lane.breaker.down("broken")
        await asyncio.sleep(0.5)
        failing(volume, None)
        await until_state(lane, State.UP)
        began = time.monotonic()
        lane.breaker.down("broken again")
        await until_state(lane, State.UP)
        assert time.monotonic() - began >= 2 * breakers.LONGEST * 0.9


async def test_a_probe_that_hangs_is_the_last_until_it_returns() -> None:
    async with rig(2) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        go = threading.Event()
        volume.before = lambda operation: go.wait(10) and None if operation == "probe" else None
        lane.breaker.down("hangs")
        await asyncio.sleep(0.3)
        assert volume.calls.count("probe") == 1
        assert lane.breaker.state is State.DOWN
        go.set()
        await until_state(lane, State.UP)


async def test_a_volume_that_answers_its_probes_late_is_slow_and_not_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(2) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        volume.before = lambda operation: time.sleep(2 * breakers.QUICK) if operation == "probe" else None
        lane.breaker.down("hung")
        await until_state(lane, State.SLOW)
        assert lane.up
        assert not lane.well
        volume.before = lambda operation: None
        await until_state(lane, State.UP)


async def test_a_suspicion_is_checked_by_a_probe() -> None:
    async with rig(2) as r:
        lane, volume = lane_of(r, 1), r.volumes[1]
        lane.stalled(0.1)
        await asyncio.sleep(0.1)
        assert lane.well
        volume.before = lambda operation: time.sleep(2 * breakers.SUSPECT) if operation == "probe" else None
        lane.stalled(0.1)
        await until_state(lane, State.SLOW)
        volume.before = lambda operation: None
        await until_state(lane, State.UP)


async def test_a_call_that_hangs_takes_the_volume_out_until_it_returned_and_probes_are_good() -> None:
    async with rig(2) as r:
        lane = lane_of(r, 1)
        go = threading.Event()
        late = lane.run(lambda: go.wait(10))
        lane.overdue(late)
        await until_state(lane, State.UP)
        assert not lane.up, "its thread still hangs"
        assert r.pool.condition(1).state == "down"
        go.set()
        await late
        await asyncio.sleep(0)
        assert lane.up


@pytest.mark.parametrize("operation", ["open_shard", "populate"])
async def test_a_shard_that_nobody_can_do_without_is_waited_for_and_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(openpart, "SLOW", 0.05)
    monkeypatch.setattr(openpart, "HUNG", 0.5)
    begin_on_threads(monkeypatch)
    async with rig(3) as r:
        stored, go = await r.put(noise(FILE), 0), threading.Event()
        lane, volume = lane_of(r, 1), r.volumes[1]
        volume.before = lambda name: go.wait(10) and None if name == operation else None
        began = time.monotonic()
        with pytest.raises(DataLost):
            await r.get(stored)
        assert 0.4 < time.monotonic() - began < 5
        assert lane.breaker.state is State.DOWN
        go.set()
        await until_state(lane, State.UP)
        for _ in range(100):
            if lane.up:
                break
            await asyncio.sleep(0.02)
        assert await r.get(stored) == noise(FILE)


@pytest.mark.parametrize("operation", ["open_shard", "populate"])
async def test_a_check_that_hangs_takes_the_volume_out_until_it_returned(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    monkeypatch.setattr(examining, "PATIENCE", 0.1)
    async with rig(3) as r:
        stored, go = await r.put(noise(FILE), 1), threading.Event()
        lane, volume = lane_of(r, 1), r.volumes[1]
        volume.before = lambda name: go.wait(10) and None if name == operation else None
        layout, (part,) = stored.record.layout, stored.record.parts
        assert layout is not None
        copies, index = Copies(stored.record, layout, stored.rows), layout.slots.index(1)
        assert (await examining.examine(r.pool, copies, part, index)).state == "volume down"
        assert not lane.up
        assert lane.failed is None
        go.set()
        await until_state(lane, State.UP)
        await until(lambda: lane.up)
        assert (await examining.examine(r.pool, copies, part, index)).state == "ok"


# ---- log -------------------------------------------------------------------------------------------------------------
async def test_each_change_of_state_is_said_once_and_errors_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(2) as r:
        lane = lane_of(r, 1)
        with caplog.at_level(logging.INFO):
            for _ in range(100):
                r.pool.lost(lane, VolumeError("broken"))
            failing(r.volumes[1], VolumeError("broken"), "probe")
            await asyncio.sleep(0.3)
            failing(r.volumes[1], None)
            await until_state(lane, State.UP)
        said = [record.getMessage() for record in caplog.records]
        assert sum("not asked" in line for line in said) == 1
        assert sum("is well again after" in line for line in said) == 1
        assert len(said) == 3, said


# ---- asking ----------------------------------------------------------------------------------------------------------
async def test_a_volume_whose_answer_is_not_in_memory_is_asked_by_a_thread() -> None:
    async with rig(3) as r:
        stored = await r.put(noise(3000), 0)
        asker = Asker(r.pool)
        r.volumes[2].cold = True
        rows, rest = asker.at_hand(SPACE, stored.record.key)
        assert sorted(rows) == [0, 1]
        assert [lane.slot for lane in rest] == [2]
        view = await asker.rest(SPACE, stored.record.key, rows, rest, lambda view: True)
        assert sorted(view.rows) == [0, 1, 2]


async def test_a_slow_volume_is_asked_only_where_the_others_are_not_enough() -> None:
    async with rig(3) as r:
        asker = Asker(r.pool)
        failing(r.volumes[1], VolumeError("x"), "probe")
        lane_of(r, 1).breaker.slow("a test says so")
        rows, rest = asker.at_hand(SPACE, b"key")
        assert [lane.slot for lane in rest] == [1]
        r.volumes[1].calls.clear()
        assert sorted((await asker.rest(SPACE, b"key", dict(rows), rest, lambda view: True)).rows) == [0, 2]
        assert "rows" not in r.volumes[1].calls
        assert sorted((await asker.rest(SPACE, b"key", dict(rows), rest, lambda view: False)).rows) == [0, 1, 2]


async def test_only_the_first_waits_for_a_volume_that_turns_out_to_hang() -> None:
    async with rig(3) as r:
        asker, go = Asker(r.pool), threading.Event()
        r.volumes[1].cold = True
        r.volumes[1].before = lambda operation: go.wait(10) and None if operation == "rows" else None
        took = []
        for _ in range(3):
            began = time.monotonic()
            rows, rest = asker.at_hand(SPACE, b"key")
            assert sorted((await asker.rest(SPACE, b"key", rows, rest, lambda view: True)).rows) == [0, 2]
            took.append(time.monotonic() - began)
        assert took[0] > 0.04
        assert max(took[1:]) < 0.03
        await until_state(lane_of(r, 1), State.SLOW)
        go.set()
        await until_state(lane_of(r, 1), State.UP)
