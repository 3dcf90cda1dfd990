"""MD5 of stripes of several uploads side by side, in the lanes of one SIMD pass: sixteen cost about as much as three.

MD5 is one long chain, so a single body cannot be hashed faster; bodies that come at the same time can. A pass takes what waits
when it begins, and nobody waits for company: alone, a stripe is hashed at once.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import Executor
from typing import NamedTuple

from abixio.codec import LANES, MD5, update_many
from abixio.message import Buffer


class _Job(NamedTuple):
    running: MD5
    data: Buffer
    done: asyncio.Future[None]


class Gang:
    """Collects what is to be hashed. Used from the event loop only; the arithmetic is done on the executor's threads."""

    def __init__(self, executor: Executor, loop: asyncio.AbstractEventLoop, passes: int = os.cpu_count() or 1) -> None:
        self._executor = executor
        self._loop = loop
        self._free = passes
        """How many more may run: with one on each core, further jobs do better to share the next."""
        self._waiting: deque[_Job] = deque()

    def update(self, running: MD5, data: Buffer) -> asyncio.Future[None]:
        """`running.update(data)`, soon. Leave both alone until the future is done; it cannot be taken back."""
        job = _Job(running, data, self._loop.create_future())
        self._waiting.append(job)
        self._next()
        return job.done

    def _next(self) -> None:
        """Begin a pass if there is a place for it."""
        if not self._waiting or not self._free:
            return
        self._free -= 1
        jobs = [self._waiting.popleft() for _ in range(min(LANES, len(self._waiting)))]
        hashes, buffers = [job.running for job in jobs], [job.data for job in jobs]

        def ended(done: asyncio.Future[None]) -> None:
            self._free += 1
            error = done.exception()
            for job in jobs:
                if error is None:
                    job.done.set_result(None)
                else:
                    job.done.set_exception(error)
            self._next()

        self._loop.run_in_executor(self._executor, update_many, hashes, buffers).add_done_callback(ended)
