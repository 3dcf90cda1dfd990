"""Starts a coroutine at once and makes it a task only if it has to wait.

Most requests (small objects, errors, listings from memory) are answered without a single wait. A task for each costs its
creation, two entries in asyncio's weak set and a turn of the event loop: a fifth of a small request. Python 3.12 has this
as `eager_start`; here the first step runs by hand. What a handler can notice of that is kept as in a task: the step has a
context of its own, and `asyncio.current_task()` is a stand-in that forwards to the task once there is one, so that
`asyncio.timeout` and task groups entered in the first step go on to work.
"""

from __future__ import annotations

import asyncio
import types
from asyncio.tasks import _enter_task, _leave_task  # documented for task implementations ("Extending asyncio")
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

Work = Coroutine[Any, None, None]


def start(work: Work) -> asyncio.Task[None] | None:
    """Run `work` up to its first wait. None if it never waits; what it raises then is raised here. Called by a task, which
    cannot be left for another, it makes one at once."""
    loop = asyncio.get_running_loop()
    if asyncio.current_task(loop) is not None:
        return loop.create_task(work)
    context = copy_context()
    first = _FirstStep()
    _enter_task(loop, first)  # type: ignore[arg-type]
    try:
        waiting = context.run(work.send, None)
    except StopIteration:
        return None
    finally:
        _leave_task(loop, first)  # type: ignore[arg-type]
    task = loop.create_task(_go_on(work, waiting), context=context)
    first.become(task)
    return task


async def _go_on(work: Work, waiting: Any) -> None:
    await _rest(work, waiting)


@types.coroutine
def _rest(work: Work, waiting: Any) -> Generator[Any, None, None]:
    """What is left of `work`, beginning with the wait that its first step ended in."""
    while True:
        try:
            yield waiting
        except BaseException as error:
            step, argument = work.throw, error
        else:
            step, argument = work.send, None  # type: ignore[assignment]
        waiting = None
        try:
            waiting = step(argument)
        except StopIteration:
            return
        finally:
            # Or the error and this frame keep each other alive, and with them every slice of a shard that it was raised under,
            # until the collector comes by: on an idle server that is never.
            del argument


class _FirstStep:
    """The current task while there is none yet."""

    __slots__ = ("_cancels", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._cancels = 0

    def become(self, task: asyncio.Task[None]) -> None:
        self._task = task
        for _ in range(self._cancels):
            task.cancel()

    def cancel(self, msg: Any | None = None) -> bool:
        if self._task is not None:
            return self._task.cancel(msg)
        self._cancels += 1
        return True

    def cancelling(self) -> int:
        return self._cancels if self._task is None else self._task.cancelling()

    def uncancel(self) -> int:
        if self._task is not None:
            return self._task.uncancel()
        self._cancels -= 1
        return self._cancels

    def __getattr__(self, name: str) -> Any:
        """Anything else that a task has, once there is one."""
        return getattr(self._task, name)
