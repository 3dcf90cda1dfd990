"""What several processes have in common: the clock, the locks, and what each of them is using. Some with real processes, the
others with two owners in one, which the kernel tells apart just as well."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from abixio import _shared
from abixio.errors import Overloaded
from abixio.store import crew
from abixio.store.bytelocks import ByteLocks
from abixio.store.clock import Clock
from abixio.store.crew import Crew, Topic
from abixio.store.locks import KeyLocks
from abixio.volume.company import Turn

ROOT = Path(__file__).parent.parent


@pytest.fixture
def memory() -> Iterator[int]:
    fd = crew.create(2)
    yield fd
    os.close(fd)


@pytest.fixture
def pair(memory: int) -> tuple[Crew, Crew]:
    return Crew(memory, 0, 2, time.time()), Crew(memory, 1, 2, time.time())


def process(memory: int, code: str) -> subprocess.Popen[str]:
    """Another process, with the shared memory as `fd`."""
    text = f"fd = {memory}\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", text], pass_fds=(memory,), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT
    )


# ---- the clock -------------------------------------------------------------------------------------------------------
def test_two_processes_never_get_the_same_moment_and_each_sees_time_go_forward(memory: int) -> None:
    code = """
from abixio.store.clock import Clock
from abixio.store.crew import Crew
clock = Clock(0, Crew(fd, 1, 2, 0.0))
print("ready", flush=True)
input()
print(*(clock.tick() for _ in range(20000)))
"""
    clock, other = Clock(0, Crew(memory, 0, 2, 0.0)), process(memory, code)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    mine = [clock.tick() for _ in range(20_000)]
    theirs = [int(moment) for moment in other.communicate()[0].split()]
    assert len(theirs) == 20_000
    assert len({*mine, *theirs}) == 40_000
    for moments in (mine, theirs):
        assert moments == sorted(moments)


def test_the_clock_of_all_starts_above_what_any_of_them_knows(pair: tuple[Crew, Crew]) -> None:
    ahead = time.time_ns() // 1000 + 10**12
    one = Clock(0, pair[0])
    Clock(ahead, pair[1])
    assert one.tick() > ahead
    above = one.tick(ahead + 10**9)
    assert above > ahead + 10**9
    assert Clock(5, pair[1]).tick() > above, "and nobody puts it back"


# ---- byte locks ------------------------------------------------------------------------------------------------------
def test_a_lock_excludes_other_owners_and_is_free_when_its_process_is_killed(memory: int) -> None:
    code = """
from abixio import _shared
locks = _shared.Locks(fd)
print(locks.hold(7, True), locks.hold(8, False), flush=True)
input()
"""
    locks, other = _shared.Locks(memory), process(memory, code)
    assert other.stdout is not None
    assert other.stdout.readline() == "True True\n"
    assert not locks.hold(7, True)
    assert not locks.hold(7, False)
    assert locks.hold(8, False)
    assert not locks.hold(8, True)
    assert locks.hold(9, True)
    other.kill()
    other.communicate()
    assert locks.hold(7, True)
    assert locks.hold(8, True)


def test_a_lock_that_cannot_be_made_exclusive_stays_shared(memory: int) -> None:
    one, other = _shared.Locks(memory), _shared.Locks(memory)
    assert one.hold(1, False)
    assert other.hold(1, False)
    assert not one.hold(1, True)
    other.free(1)
    assert not other.hold(1, True)
    assert one.hold(1, True)


def test_the_turns_of_a_volume_exclude_each_other_and_go_round(memory: int) -> None:
    turns, counts, inside = [Turn(_shared.Locks(memory), 3) for _ in range(2)], [0, 0], list[int]()
    ends = time.monotonic() + 0.5

    def work(number: int) -> None:
        while time.monotonic() < ends:
            with turns[number], turns[number]:
                inside.append(number)
                time.sleep(0.0005)
                assert inside == [number]
                inside.pop()
                counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []
    assert min(counts) > 20
    assert min(counts) > 0.3 * max(counts), f"who had it last had it again and again: {counts}"


def test_turns_of_other_volumes_are_not_held_up(memory: int) -> None:
    with Turn(_shared.Locks(memory), 3), Turn(_shared.Locks(memory), 4):
        pass


# ---- key locks -------------------------------------------------------------------------------------------------------
def keys(pair: tuple[Crew, Crew]) -> tuple[KeyLocks, KeyLocks]:
    one, other = (KeyLocks(ByteLocks(each, b"key")) for each in pair)
    return one, other


async def test_a_key_has_one_exclusive_holder_in_all_processes_and_each_gets_its_share(pair: tuple[Crew, Crew]) -> None:
    both, inside, most, counts = keys(pair), 0, 0, [0, 0]
    ends = time.monotonic() + 1

    async def work(number: int) -> None:
        nonlocal inside, most
        while time.monotonic() < ends:
            async with both[number % 2].exclusive(b"s" * 16, b"k"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.0005)
                inside -= 1
                counts[number % 2] += 1

    await asyncio.gather(*(work(number) for number in (0, 0, 0, 0, 0, 0, 0, 1)))
    assert most == 1
    assert min(counts) > 0.2 * max(counts), f"seven who wait in one process keep out the one in the other: {counts}"
    assert both[0]._entries == both[1]._entries == {}


async def test_sharers_of_all_processes_are_together_and_let_one_who_wants_to_be_alone_go_first(
    pair: tuple[Crew, Crew],
) -> None:
    (one, other), order = keys(pair), list[str]()

    async def share(hold: float) -> None:
        async with other.shared(b"s", b"k"):
            await asyncio.sleep(hold)
            order.append("shared")

    async def alone() -> None:
        async with one.exclusive(b"s", b"k"):
            order.append("alone")

    first = [asyncio.create_task(share(0.05)) for _ in range(2)]
    async with one.shared(b"s", b"k"):
        await asyncio.sleep(0.01)
    tasks = [*first, asyncio.create_task(alone())]
    for _ in range(20):  # without manners there would always be one of them inside
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(share(0.05)))
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert order.index("alone") < 12, order


async def test_two_keys_with_one_byte_do_not_free_each_others_lock(
    pair: tuple[Crew, Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xxhash, "xxh3_128_digest", lambda name: b"\x01" * 16)
    monkeypatch.setattr("abixio.store.locks.WAIT", 0.05)
    one, other = keys(pair)
    async with one.exclusive(b"s", b"k"):
        async with one.exclusive(b"s", b"another"), one.shared(b"s", b"third"):
            pass
        with pytest.raises(Overloaded):
            async with other.shared(b"s", b"fourth"):
                raise AssertionError("two at a time")
    async with one.shared(b"s", b"k"):
        async with one.exclusive(b"s", b"another"):
            pass
        with pytest.raises(Overloaded):
            async with other.shared(b"s", b"fourth"):
                raise AssertionError("what was made exclusive stays so until all have gone")
    async with other.exclusive(b"s", b"fourth"):
        pass


async def test_a_key_that_another_process_keeps_too_long_is_overloaded_and_nothing_stays_wanted(
    pair: tuple[Crew, Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abixio.store.locks.WAIT", 0.05)
    (one, other), name = keys(pair), xxhash.xxh3_128_digest(b"keysk")
    async with one.exclusive(b"s", b"k"):
        with pytest.raises(Overloaded):
            async with other.exclusive(b"s", b"k"):
                raise AssertionError("two at a time")
        waiting = asyncio.create_task(other.exclusive(b"s", b"k").__aenter__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pair[0].wanted_elsewhere(name)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert other._entries == {}
    assert not pair[0].wanted_elsewhere(name)
    async with asyncio.timeout(1), other.exclusive(b"s", b"k"):
        pass


async def test_locks_of_one_kind_do_not_hold_up_those_of_another(pair: tuple[Crew, Crew]) -> None:
    async with KeyLocks(ByteLocks(pair[0], b"key")).exclusive(b"s", b"k"), asyncio.timeout(1):
        async with KeyLocks(ByteLocks(pair[1], b"mend")).exclusive(b"s", b"k"):
            pass


# ---- what is in use --------------------------------------------------------------------------------------------------
def test_what_one_process_reads_and_writes_the_others_see_until_it_is_buried(memory: int, pair: tuple[Crew, Crew]) -> None:
    one, other = pair
    ids = [os.urandom(16) for _ in range(3)]
    one.pin(ids)
    one.pin(ids[:1])
    one.write(ids[2:])
    assert [other.read_elsewhere(id) for id in ids] == [True] * 3
    assert not one.read_elsewhere(ids[0]), "not elsewhere"
    assert other.written_elsewhere(ids[2])
    one.unpin(ids)
    assert [other.read_elsewhere(id) for id in ids] == [True, False, False]
    one.publish(17)
    assert (one.asked(), other.asked()) == (0, 17)
    crew.bury(memory, 0, 2)
    assert not any(other.read_elsewhere(id) or other.written_elsewhere(id) for id in ids)
    assert other.asked() == 0


def test_news_are_heard_by_all(pair: tuple[Crew, Crew]) -> None:
    before = pair[1].heard(Topic.RULES)
    pair[0].tell(Topic.RULES)
    assert pair[1].heard(Topic.RULES) == before + 1
    assert pair[1].heard(Topic.WHOLE) == 0


def test_the_memory_refuses_what_is_not_in_it(memory: int) -> None:
    found = _shared.Memory(memory, 6)
    with pytest.raises(IndexError):
        found.load(_shared.CELLS)
    with pytest.raises(IndexError):
        found.counted(6, b"x" * 16)
    with pytest.raises(ValueError, match="8 bytes"):
        found.counted(0, b"short")
    assert (found.add(3, 5), found.add(3, -2), found.load(3)) == (5, 3, 3)
