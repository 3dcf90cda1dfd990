"""Key locks: exclusive, shared, fair, and free again whatever happens to who waits."""

from __future__ import annotations

import asyncio

import pytest

from abixio.errors import Overloaded
from abixio.store import locks
from abixio.store.locks import KeyLocks


async def test_a_key_has_one_exclusive_holder_at_a_time() -> None:
    keys, inside, most = KeyLocks(), 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with keys.exclusive(b"s", b"k"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(50)))
    assert most == 1
    assert keys._entries == {}


async def test_other_keys_are_not_held_up() -> None:
    keys = KeyLocks()
    async with keys.exclusive(b"s", b"k"), asyncio.timeout(1), keys.exclusive(b"s", b"other"), keys.exclusive(b"t", b"k"):
        pass
    assert keys._entries == {}


async def test_shared_holders_keep_an_exclusive_one_out_and_later_sharers_queue_behind_it() -> None:
    keys, order = KeyLocks(), list[str]()

    async def exclusive() -> None:
        async with keys.exclusive(b"s", b"k"):
            order.append("exclusive")

    async def sharer(name: str) -> None:
        async with keys.shared(b"s", b"k"):
            order.append(name)
            await asyncio.sleep(0)

    async with keys.shared(b"s", b"k"):
        async with keys.shared(b"s", b"k"):
            waiting = asyncio.create_task(exclusive())
            await asyncio.sleep(0)
            late = asyncio.create_task(sharer("late"))
            await asyncio.sleep(0)
            assert order == []
    await asyncio.gather(waiting, late)
    assert order == ["exclusive", "late"]
    assert keys._entries == {}


async def test_a_waiter_that_gives_up_leaves_the_queue_to_the_others() -> None:
    keys = KeyLocks()

    async def take() -> str:
        async with keys.exclusive(b"s", b"k"):
            return "mine"

    async with keys.exclusive(b"s", b"k"):
        quitter, other = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.sleep(0)
    assert await other == "mine"
    assert keys._entries == {}


async def test_a_waiter_cancelled_in_the_moment_it_gets_the_lock_passes_it_on() -> None:
    keys = KeyLocks()

    async def take() -> str:
        async with keys.exclusive(b"s", b"k"):
            return "mine"

    async with keys.exclusive(b"s", b"k"):
        lucky, other = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
    lucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lucky
    assert await other == "mine"
    assert keys._entries == {}


async def test_waiting_ends_with_overloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WAIT", 0.01)
    keys = KeyLocks()
    async with keys.exclusive(b"s", b"k"):
        with pytest.raises(Overloaded):
            async with keys.shared(b"s", b"k"):
                pass
    assert keys._entries == {}
