"""Threads that read one volume on behalf of the event loop, where an answer is not in memory: a few, made when needed. Its own
for each volume, so that a disk that hangs takes nobody else's.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from abixio.errors import Overloaded

T = TypeVar("T")

THREADS: Final = 4
"""Reads that one disk works on at a time: enough for an SSD's queue to matter, and for a spinning disk to sort."""
MAX_WAITING: Final = 1024
"""Reads that wait for a thread: what 4 threads do in a second if each takes 4 ms."""


class Readers:
    """Used on the event loop."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._loop = loop
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._closed = False

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """`call()` on a thread. Overloaded when too many wait."""
        if self._closed or self._busy >= THREADS + MAX_WAITING:
            raise Overloaded(f"{self._busy} reads wait for {self._name}")
        future: asyncio.Future[T] = self._loop.create_future()
        self._busy += 1
        self._queue.put(lambda: self._answer(future, call))
        if self._busy > self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """End the threads; those that hang are not waited for."""
        self._closed = True
        for _ in range(self._threads):
            self._queue.put(None)

    def _done(self, future: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
        self._busy -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)
            future.exception()  # whoever went on without this answer does not look

    # ---- the threads -------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()

    def _answer(self, future: asyncio.Future[T], call: Callable[[], T]) -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed, for a hung disk outlasts everything
            self._loop.call_soon_threadsafe(self._done, future, result, error)
