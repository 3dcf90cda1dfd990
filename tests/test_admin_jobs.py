"""Jobs: one at a time, a few in line, ended ones remembered for a while, and everything bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from abixio.admin import jobs as module
from abixio.admin.answers import NotHere
from abixio.admin.jobs import MAX_ENDED, MAX_FAILURES, MAX_WAITING, Job, Jobs
from abixio.errors import NoSuchBucket, Overloaded, Unavailable


class Steps:
    """Work that takes one step for each call of `step`, and looks whether it shall stop between them."""

    def __init__(self) -> None:
        self.taken = 0
        self.running = 0
        self._steps: asyncio.Queue[bool] = asyncio.Queue()

    async def __call__(self, job: Job) -> None:
        self.running += 1
        try:
            while not job.stopping and await self._steps.get():
                self.taken += 1
                job.counts.objects += 1
        finally:
            self.running -= 1

    async def step(self, last: bool = False) -> None:
        self._steps.put_nowait(not last)
        for _ in range(5):
            await asyncio.sleep(0)


async def quick(job: Job) -> None:
    job.counts.objects = 1


async def until_ended(job: Job) -> Job:
    for _ in range(5000):
        if job.ended is not None:
            return job
        await asyncio.sleep(0.001)
    raise AssertionError(job)


async def test_a_job_runs_and_tells_when_and_what() -> None:
    jobs = Jobs()
    job = await until_ended(jobs.add("heal", {"all": True}, quick))
    view = job.view()
    assert (view["state"], view["counts"].objects, view["error"]) == ("done", 1, "")
    assert view["created"] <= view["started"] <= view["ended"]
    assert jobs.get(job.id) is job


async def test_one_runs_and_the_others_wait_in_order() -> None:
    jobs, works = Jobs(), [Steps(), Steps(), Steps()]
    added = [jobs.add("heal", {}, work) for work in works]
    for number, (job, work) in enumerate(zip(added, works, strict=True)):
        await asyncio.sleep(0)
        assert [one.state for one in added[number:]] == ["running"] + ["waiting"] * (2 - number)
        assert sum(one.running for one in works) == 1
        await work.step(last=True)
        assert job.state == "done"


async def test_no_more_wait_than_there_is_room_for() -> None:
    jobs, work = Jobs(), Steps()
    first = jobs.add("heal", {}, work)
    for _ in range(MAX_WAITING):
        jobs.add("heal", {}, quick)
    with pytest.raises(Overloaded):
        jobs.add("heal", {}, quick)
    await asyncio.sleep(0)
    await work.step(last=True)
    await until_ended(first)
    jobs.add("heal", {}, quick)
    await jobs.aclose(5)


async def test_a_waiting_job_is_cancelled_at_once_and_never_runs() -> None:
    jobs, first, second = Jobs(), Steps(), Steps()
    jobs.add("heal", {}, first)
    waiting = jobs.add("heal", {}, second)
    await asyncio.sleep(0)
    jobs.cancel(waiting)
    assert (waiting.state, waiting.started) == ("cancelled", None)
    await first.step(last=True)
    assert not second.running
    jobs.cancel(waiting)  # harmless
    assert waiting.state == "cancelled"


async def test_a_running_job_ends_behind_the_step_it_is_at() -> None:
    jobs, work = Jobs(), Steps()
    job = jobs.add("heal", {}, work)
    await asyncio.sleep(0)
    await work.step()
    jobs.cancel(job)
    assert (job.state, job.stopping, work.running) == ("running", True, 1)
    await work.step()
    assert (job.state, work.taken, work.running) == ("cancelled", 2, 0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("only 1 of 4 answers"), "ServiceUnavailable: only 1 of 4 answers"),
        (NoSuchBucket(), "NoSuchBucket: The specified bucket does not exist"),
        (RuntimeError("inner workings"), "InternalError: We encountered an internal error. Please try again."),
    ],
)
async def test_a_job_that_fails_says_why_and_the_next_one_runs(error: Exception, said: str) -> None:
    async def failing(job: Job) -> None:
        raise error

    jobs = Jobs()
    job = jobs.add("heal", {}, failing)
    follower = jobs.add("heal", {}, quick)
    await until_ended(follower)
    assert (job.state, job.error, follower.state) == ("failed", said, "done")


async def test_failures_are_counted_all_and_named_up_to_a_number() -> None:
    async def failing(job: Job) -> None:
        for number in range(MAX_FAILURES + 50):
            job.fail("bucket", f"key{number}", "down")

    job = await until_ended(Jobs().add("heal", {}, failing))
    assert (job.counts.failed, len(job.failures), job.failures[0].key) == (MAX_FAILURES + 50, MAX_FAILURES, "key0")


async def test_ended_jobs_are_forgotten_when_they_are_many_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()
    ended = [await until_ended(jobs.add("heal", {}, quick)) for _ in range(MAX_ENDED + 10)]
    assert jobs.all() == ended[: -MAX_ENDED - 1 : -1]
    with pytest.raises(NotHere):
        jobs.get(ended[0].id)
    now = module._now()
    monkeypatch.setattr(module, "_now", lambda: now + int(module.ENDED_SECONDS * 1000) + 60_000)
    assert jobs.all() == []


async def test_closing_drops_the_line_and_lets_the_running_one_end_its_step() -> None:
    jobs, work = Jobs(), Steps()
    running, waiting = jobs.add("heal", {}, work), jobs.add("heal", {}, quick)
    await asyncio.sleep(0)
    closing = asyncio.create_task(jobs.aclose(5))
    await work.step()
    await closing
    assert (running.state, work.taken, waiting.state) == ("cancelled", 1, "cancelled")
    with pytest.raises(Overloaded):
        jobs.add("heal", {}, quick)


async def test_closing_does_not_wait_for_ever() -> None:
    jobs, work = Jobs(), Steps()
    job = jobs.add("heal", {}, work)
    await asyncio.sleep(0)
    await jobs.aclose(0.01)
    assert (job.state, work.running) == ("cancelled", 0)
    await jobs.aclose(0.01)  # harmless


async def test_a_job_that_was_cut_while_it_closed_leaves_no_task(recwarn: Any) -> None:
    jobs = Jobs()
    jobs.add("heal", {}, Steps())
    await jobs.aclose(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
