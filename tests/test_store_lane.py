"""A volume's I/O thread: what is asked of it in one turn of the event loop is one transaction, and nothing changes its order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from abixio.errors import NewerExists, VolumeFull
from abixio.store import lane as lane_module
from abixio.store.lane import Lane
from abixio.volume.interface import Change, Note
from tests.store_memvolume import MemVolume


class Recorder(MemVolume):
    """Remembers how many changes came together."""

    def __init__(self) -> None:
        super().__init__(0)
        self.batches: list[int] = []

    def apply(self, changes: Sequence[Change], durable: bool) -> list[NewerExists | VolumeFull | None]:
        self.batches.append(len(changes))
        return super().apply(changes, durable)


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane(Recorder(), asyncio.get_running_loop())
    yield made
    await made.close()


def batches(lane: Lane) -> list[int]:
    assert isinstance(lane.volume, Recorder)
    return lane.volume.batches


def change(number: int) -> Change:
    return (Note("n", number),)


async def test_changes_of_one_turn_are_one_transaction_however_long_it_takes(lane: Lane) -> None:
    changes = []
    for number in range(8):
        changes.append(lane.apply(change(number), True))
        time.sleep(0.005)  # noqa: ASYNC251  the thread could run now
    await asyncio.gather(*changes)
    assert batches(lane) == [8]
    assert lane.volume.notes()["n"] == 7


async def test_one_change_is_committed_without_company(lane: Lane) -> None:
    for number in range(3):
        await asyncio.wait_for(lane.apply(change(number), True), 5)
    assert batches(lane) == [1, 1, 1]


async def test_a_call_sees_the_changes_before_it_and_not_those_behind_it(lane: Lane) -> None:
    first = lane.apply(change(1), False)
    seen = lane.run(lane.volume.notes)
    second = lane.apply(change(2), False)
    await asyncio.gather(first, second)
    assert (await seen)["n"] == 1
    assert batches(lane) == [1, 1]


async def test_a_turn_of_too_many_changes_is_several_transactions_in_order(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "MAX_BATCH", 10)
    changes = [lane.apply(change(number), False) for number in range(25)]
    seen = lane.run(lane.volume.notes)
    await asyncio.gather(*changes)
    assert (await seen)["n"] == 24
    assert batches(lane) == [10, 10, 5]


async def test_closing_commits_what_was_asked_for(lane: Lane) -> None:
    pending = lane.apply(change(7), True)
    await lane.close()
    assert pending.done()
    assert batches(lane) == [1]
