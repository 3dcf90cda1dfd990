"""The memory budget: first come, first served, nothing lost whatever happens to those who wait."""

from __future__ import annotations

import asyncio

import pytest

from abixio.config import MIB
from abixio.errors import Overloaded
from abixio.store import buffers
from abixio.store.buffers import KEPT, RESERVE_SHARE, SCRAPS_SHARE, SMALL, BufferPool, Rooms, StripeBuffer
from abixio.store.layout import STRIPE_BUFFER


def room(large: int) -> int:
    """The budget in which so many large buffers fit."""
    common = 1 - 2 / RESERVE_SHARE - 1 / SCRAPS_SHARE
    return STRIPE_BUFFER if large == 1 else int(large * STRIPE_BUFFER / common) + 4


async def exhaust(pool: BufferPool) -> list[StripeBuffer]:
    """Take all that is for small buffers alone."""
    return [await pool.acquire(min(SMALL, pool.small.most - at)) for at in range(0, pool.small.most, SMALL)]


async def back(pool: BufferPool) -> None:
    for _ in range(100):
        if not pool.out:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pool.out} bytes are still out")


async def test_a_buffer_is_as_large_as_asked_and_comes_back() -> None:
    pool = BufferPool(64 * MIB)
    for size in (1, 4096, SMALL, SMALL + 1, STRIPE_BUFFER):
        buffer = await pool.acquire(size)
        assert len(buffer.view) >= size
        buffer.view[:] = bytes(len(buffer.view))
        assert pool.out == len(buffer.view) < max(size + 1, 2 * size + MIB // 16)
        buffer.drop()
        assert pool.out == 0


async def test_the_last_user_gives_a_buffer_back() -> None:
    pool = BufferPool(64 * MIB)
    buffer = await pool.acquire(MIB)
    buffer.hold()
    buffer.drop()
    assert pool.out == len(buffer.view)
    buffer.drop()
    assert pool.out == 0


async def test_a_buffer_that_came_back_is_used_again() -> None:
    pool = BufferPool(64 * MIB)
    first = await pool.acquire(STRIPE_BUFFER)
    first.view[0] = 77
    first.drop()
    second = await pool.acquire(STRIPE_BUFFER)
    assert second.view[0] == 77
    second.drop()


async def test_two_borrowers_never_share_memory() -> None:
    pool = BufferPool(room(4))
    borrowed = [await pool.acquire(STRIPE_BUFFER) for _ in range(4)]
    for number, buffer in enumerate(borrowed):
        buffer.view[:] = bytes([number]) * STRIPE_BUFFER
    assert [buffer.view[12345] for buffer in borrowed] == [0, 1, 2, 3]
    for buffer in borrowed:
        buffer.drop()


async def test_only_some_buffers_are_kept_when_all_are_back() -> None:
    pool = BufferPool(room(10))
    for buffer in [await pool.acquire(size) for size in (STRIPE_BUFFER, MIB) for _ in range(8)]:
        buffer.drop()
    assert KEPT - STRIPE_BUFFER <= pool._idle() <= KEPT


async def test_free_buffers_of_other_sizes_count_in_the_budget() -> None:
    pool = BufferPool(room(4))
    held = await pool.acquire(1)
    for buffer in [await pool.acquire(4 * MIB) for _ in range(7)]:
        buffer.drop()
    assert pool._idle() >= 28 * MIB
    large = [await pool.acquire(STRIPE_BUFFER) for _ in range(4)]
    assert pool.out + pool._idle() <= pool.budget
    for buffer in [held, *large]:
        buffer.drop()


async def test_bodies_of_one_stripe_have_a_share_that_longer_ones_cannot_take() -> None:
    pool = BufferPool(512 * MIB)
    slow = [await pool.acquire(4 * MIB + 1) for _ in range(pool.common.most // (4 * MIB + MIB // 16))]
    waiter = asyncio.create_task(pool.acquire(4 * MIB + 1))
    await asyncio.sleep(0)
    assert len(slow) > 80
    assert not waiter.done()
    short = [await asyncio.wait_for(pool.acquire(MIB, short=True), 1) for _ in range(60)]
    assert pool.out <= pool.budget
    assert not waiter.done()
    for buffer in slow + short:
        buffer.drop()
    (await waiter).drop()
    assert (pool.out, pool.waiting) == (0, 0)


async def test_scraps_count_until_their_last_view_is_gone_and_are_refused_beyond_their_share() -> None:
    pool = BufferPool(64 * MIB)
    scraps = [pool.scrap(MIB) for _ in range(4)]
    assert pool.scrap(1) is None
    part = scraps[0][5:7]  # type: ignore[index]
    scraps.clear()
    assert pool.scraps.out == MIB
    del part
    assert pool.scraps.out == 0
    assert pool.scrap(1) is not None


async def test_who_comes_over_budget_waits_for_memory_to_come_back() -> None:
    pool = BufferPool(room(2))
    held = [await pool.acquire(STRIPE_BUFFER) for _ in range(2)]
    waiter = asyncio.create_task(pool.acquire(STRIPE_BUFFER))
    await asyncio.sleep(0)
    assert not waiter.done()
    assert pool.waiting == 1
    held[0].drop()
    (await waiter).drop()
    held[1].drop()
    assert (pool.out, pool.waiting) == (0, 0)


async def test_waiters_are_served_in_order_and_small_ones_do_not_overtake() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    held = await pool.acquire(STRIPE_BUFFER)
    order: list[int] = []

    async def ask(number: int, size: int) -> None:
        buffer = await pool.acquire(size)
        order.append(number)
        await asyncio.sleep(0)
        buffer.drop()

    tasks = [asyncio.create_task(ask(number, size)) for number, size in enumerate((STRIPE_BUFFER, 1, STRIPE_BUFFER, 1))]
    await asyncio.sleep(0)
    held.drop()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]
    assert pool.out == 0


async def test_large_ones_leave_room_for_small_ones_within_the_budget() -> None:
    pool = BufferPool(512 * MIB)
    large: list[StripeBuffer] = []
    while pool.common.most - pool.common.out >= STRIPE_BUFFER:
        large.append(await pool.acquire(STRIPE_BUFFER))
    waiter = asyncio.create_task(pool.acquire(STRIPE_BUFFER))
    await asyncio.sleep(0)
    small = [await asyncio.wait_for(pool.acquire(SMALL), 1) for _ in range(pool.small.most // SMALL)]
    assert len(small) == 256
    assert pool.out <= pool.budget
    assert not waiter.done()
    late = asyncio.create_task(pool.acquire(1))
    await asyncio.sleep(0)
    assert pool.waiting == 2
    large.pop().drop()
    (await waiter).drop()
    (await late).drop()
    for buffer in large + small:
        buffer.drop()
    assert (pool.out, pool.waiting) == (0, 0)


async def test_small_ones_that_came_back_make_room_for_small_ones_only() -> None:
    pool = BufferPool(room(2))
    held = [await pool.acquire(STRIPE_BUFFER) for _ in range(2)]
    small = await exhaust(pool)
    waiter = asyncio.create_task(pool.acquire(STRIPE_BUFFER))
    await asyncio.sleep(0)
    for buffer in small:
        buffer.drop()
    (await asyncio.wait_for(pool.acquire(SMALL), 1)).drop()
    assert not waiter.done()
    held.pop().drop()
    (await waiter).drop()
    held.pop().drop()
    assert pool.out == 0


async def test_a_full_queue_is_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MAX_WAITING", 1)
    pool = BufferPool(STRIPE_BUFFER)
    held = await pool.acquire(STRIPE_BUFFER)
    waiter = asyncio.create_task(pool.acquire(1))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await pool.acquire(1)
    held.drop()
    (await waiter).drop()
    assert pool.out == 0


async def test_waiting_too_long_is_overload_and_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "WAIT", 0.01)
    pool = BufferPool(STRIPE_BUFFER)
    held = await pool.acquire(STRIPE_BUFFER)
    with pytest.raises(Overloaded):
        await pool.acquire(1)
    assert pool.waiting == 0
    held.drop()
    assert pool.out == 0


async def test_a_cancelled_waiter_at_the_head_lets_the_next_one_through() -> None:
    pool = BufferPool(STRIPE_BUFFER + MIB)
    held = [await pool.acquire(STRIPE_BUFFER), *await exhaust(pool)]
    first = asyncio.create_task(pool.acquire(STRIPE_BUFFER))
    second = asyncio.create_task(pool.acquire(SMALL))
    await asyncio.sleep(0)
    assert pool.waiting == 2
    first.cancel()
    held[0].drop()
    (await second).drop()
    for buffer in held[1:]:
        buffer.drop()
    assert (pool.out, pool.waiting) == (0, 0)


async def test_a_waiter_cancelled_in_the_moment_it_is_served_gives_the_memory_back() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    held = await pool.acquire(STRIPE_BUFFER)
    waiter = asyncio.create_task(pool.acquire(STRIPE_BUFFER))
    await asyncio.sleep(0)
    held.drop()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (pool.out, pool.waiting) == (0, 0)


async def test_memory_granted_to_one_already_cancelled_is_not_lost() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    held = await pool.acquire(STRIPE_BUFFER)
    waiter = asyncio.create_task(pool.acquire(STRIPE_BUFFER))
    await asyncio.sleep(0)
    waiter.cancel()
    held.drop()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (pool.out, pool.waiting) == (0, 0)


async def test_a_loan_counts_twice_its_first_size_until_its_last_view_is_gone() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    loan = pool.loan()
    assert pool.out == 0
    first, second = await loan.take(MIB), await loan.take(MIB)
    assert len(first) == len(second) == MIB
    assert pool.out == 2 * MIB
    piece = first[100:200]
    del first, second, loan
    await asyncio.sleep(0.01)
    assert pool.out == 2 * MIB
    piece[:] = bytes(100)
    del piece
    await back(pool)


async def test_a_loan_that_turns_out_too_small_grows_without_waiting() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    loans = [pool.loan() for _ in range(2)]
    views = [await loan.take(2 * MIB) for loan in loans]
    assert pool.out == STRIPE_BUFFER
    views += [await loan.take(3 * MIB) for loan in loans]
    assert pool.out == 12 * MIB
    del views, loans
    await back(pool)


async def test_a_loan_waits_its_turn() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    held = await pool.acquire(STRIPE_BUFFER)
    waiter = asyncio.create_task(pool.loan().take(1))
    await asyncio.sleep(0)
    assert not waiter.done()
    held.drop()
    await waiter
    del waiter
    await back(pool)


async def test_a_loan_may_end_on_another_thread() -> None:
    pool = BufferPool(STRIPE_BUFFER)
    holder = [await pool.loan().take(MIB)]
    await asyncio.to_thread(holder.clear)
    await back(pool)


async def test_a_budget_below_one_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="less than one stripe buffer"):
        BufferPool(STRIPE_BUFFER - 1)


async def test_rooms_are_used_again_once_nobody_looks_at_them() -> None:
    pool = BufferPool(64 * MIB)
    rooms, loan = Rooms(), pool.loan()
    first = await rooms.take(loan, MIB)
    first[:4] = b"mine"
    second = await rooms.take(loan, MIB)
    second[:4] = b"next"
    assert bytes(first[:4]) == b"mine"
    part, where = first[2:4], first.obj
    del first
    third = await rooms.take(loan, MIB)
    assert third.obj is not where
    del part
    assert (await rooms.take(loan, 1000)).obj is where
    assert pool.out == 2 * MIB
    rooms.clear()
    del second, third, where, loan
    await asyncio.sleep(0)
    assert pool.out == 0
