"""Coroutines that start without a task: nothing that a handler does may notice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from abixio.transport.eager import Work, start

CONTEXT: ContextVar[str] = ContextVar("CONTEXT", default="outside")


async def outside(work: Work) -> asyncio.Task[None] | None:
    """`start` as a callback of the event loop calls it: not from within a task."""
    answer: asyncio.Future[asyncio.Task[None] | None] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            answer.set_result(start(work))
        except Exception as error:
            answer.set_exception(error)

    asyncio.get_running_loop().call_soon(call)
    return await answer


async def finish(work: Work) -> None:
    task = await outside(work)
    if task is not None:
        await task


async def test_what_never_waits_is_done_at_once_without_a_task() -> None:
    seen = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        CONTEXT.set("inside")

    before = asyncio.all_tasks()
    assert await outside(work()) is None
    assert seen[0] is not None
    assert asyncio.all_tasks() == before
    assert CONTEXT.get() == "outside"


async def test_what_waits_goes_on_as_a_task_in_the_same_context() -> None:
    loop = asyncio.get_running_loop()
    seen = []

    async def work() -> None:
        token = CONTEXT.set("inside")
        for wait in (asyncio.sleep(0), asyncio.sleep(0.001), loop.run_in_executor(None, lambda: None)):
            await wait
            seen.append(CONTEXT.get())
        CONTEXT.reset(token)
        seen.append(CONTEXT.get())

    await finish(work())
    assert seen == ["inside"] * 3 + ["outside"]


async def test_a_wait_that_is_over_before_the_task_runs_is_no_trouble() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen = []

    async def work() -> None:
        seen.append(await future)

    task = await outside(work())
    future.set_result(7)
    assert task is not None
    await task
    assert seen == [7]


async def fail_at_once() -> None:
    raise KeyError("boom")


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise KeyError("boom")


@pytest.mark.parametrize("work", [fail_at_once, fail_later])
async def test_an_exception_comes_out(work: Callable[[], Work]) -> None:
    with pytest.raises(KeyError):
        await finish(work())


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_cancelling_reaches_whatever_it_waits_for_also_when_it_goes_on(turns: int) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    task = await outside(work())
    assert task is not None
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled", "cleaned up"]


async def test_a_timeout_entered_in_the_first_step_works() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        except TimeoutError:
            seen.append("late")
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.sleep(3600), 0.01)
        except TimeoutError:
            seen.append("late again")

    await finish(work())
    assert seen == ["late", "late again"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_group_entered_in_the_first_step_works(fails: bool) -> None:
    seen: list[str] = []

    async def child(number: int) -> None:
        await asyncio.sleep(0.001 * number)
        if fails:
            raise ValueError(number)
        seen.append(f"child {number}")

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in (1, 2):
                    group.create_task(child(number))
        except* ValueError:
            seen.append("failed")

    await finish(work())
    assert seen == (["failed"] if fails else ["child 1", "child 2"])


async def test_who_cancels_itself_in_the_first_step_is_cancelled_at_the_first_wait() -> None:
    seen: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        assert task.cancelling() == 1
        seen.append("goes on")
        await asyncio.sleep(3600)

    with pytest.raises(asyncio.CancelledError):
        await finish(work())
    assert seen == ["goes on"]


async def test_locks_queues_and_gathers_work_across_the_first_wait() -> None:
    lock = asyncio.Lock()
    order: list[str] = []

    async def work() -> None:
        async with lock:
            order.append("locked")
            parts: list[Awaitable[str]] = [asyncio.sleep(0.001, "a"), asyncio.sleep(0, "b")]
            order.extend(await asyncio.gather(*parts))

    async with lock:
        task = await outside(work())
        await asyncio.sleep(0.001)
        assert order == []
    assert task is not None
    await task
    assert order == ["locked", "a", "b"]


async def test_called_from_within_a_task_it_makes_one() -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("ran")

    task = start(work())
    assert task is not None
    assert seen == []
    await task
    assert seen == ["ran"]
