"""Long work on behalf of the operator: one job at a time, a few more in line, all in memory.

A restart forgets them. Nothing is lost by that: what was healed or re-encoded stays so, and the same call goes on with the
rest. One at a time, because two would only take the disks from each other.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from abixio.admin.answers import NotHere, reason
from abixio.errors import AbixioError, Overloaded
from abixio.store.health import ScanStatus

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 16
"""Jobs in line. Each is one call of a person or a script; whoever has more to do names a prefix instead."""
MAX_ENDED: Final = 100
"""Ended jobs that can still be asked about, of some 10 KiB each with all their failures."""
ENDED_SECONDS: Final = 24 * 3600.0
"""For as long: over night."""
MAX_FAILURES: Final = 100
"""Failed objects that a job names; the others it counts. Enough to see the pattern."""

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One object that could not be worked on."""

    bucket: str
    key: str
    error: str


@dataclass(slots=True)
class Counts:
    """How far a job is."""

    objects: int = 0
    """Looked at, failed ones included."""
    changed: int = 0
    """Of them, those that something was rebuilt or re-encoded of."""
    examined_shards: int = 0
    rebuilt_shards: int = 0
    bytes: int = 0
    """Of what was rebuilt or re-encoded."""
    failed: int = 0


Work = Callable[["Job"], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Job:
    """One piece of work. Its coroutine looks at `stopping` between two objects."""

    kind: str
    target: dict[str, Any]
    work: Work = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: JobState = "waiting"
    created: int = field(default_factory=lambda: _now())
    """This and the next two: ms since 1970."""
    started: int | None = None
    ended: int | None = None
    counts: Counts = field(default_factory=Counts)
    failures: list[Failure] = field(default_factory=list)
    scan: ScanStatus | None = None
    """What the scanner says, of a job that is a scan."""
    error: str = ""
    """Why the job as a whole ended early."""
    stopping: bool = False
    task: asyncio.Task[None] | None = None

    def fail(self, bucket: str, key: str, why: str) -> None:
        """One object is not as it should be."""
        self.counts.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(Failure(bucket, key, why))

    def view(self) -> dict[str, Any]:
        """As it is told to the client."""
        return {
            "id": self.id, "kind": self.kind, "target": self.target, "state": self.state, "stopping": self.stopping,
            "created": self.created, "started": self.started, "ended": self.ended,
            "counts": self.counts, "failures": self.failures, "scan": self.scan, "error": self.error,
        }  # fmt: skip


class Jobs:
    """The jobs of one server. Used from the event loop only."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        """All that are remembered, oldest first."""
        self._line: list[Job] = []
        self._running: Job | None = None
        self._closed = False

    def add(self, kind: str, target: dict[str, Any], work: Work) -> Job:
        """Put it in line; Overloaded when that is full."""
        if self._closed:
            raise Overloaded("the server is stopping")
        if len(self._line) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} jobs wait already")
        self._forget()
        job = Job(kind, target, work)
        self._jobs[job.id] = job
        self._line.append(job)
        self._next()
        return job

    def all(self) -> list[Job]:
        """The newest first."""
        self._forget()
        return list(reversed(self._jobs.values()))

    def get(self, number: str) -> Job:
        """NotHere for one that never was, or is forgotten."""
        self._forget()
        job = self._jobs.get(number)
        if job is None:
            raise NotHere("NoSuchJob", "There is no such job; ended ones are forgotten in the end, and all in a restart.")
        return job

    def cancel(self, job: Job) -> None:
        """One that waits ends here; a running one behind the object that it is at. Harmless for one that has ended."""
        if job.state == "waiting":
            self._line.remove(job)
            self._end(job, "cancelled")
        elif job.state == "running":
            job.stopping = True

    async def aclose(self, seconds: float) -> None:
        """Take no further ones, drop those in line, give the running one that long to end where it can go on."""
        self._closed = True
        for job in list(self._line):
            self.cancel(job)
        if self._running is None or self._running.task is None:
            return
        task = self._running.task
        self.cancel(self._running)
        _, late = await asyncio.wait([task], timeout=seconds)
        for one in late:
            one.cancel()
        await asyncio.wait([task])

    # ---- the rest ----------------------------------------------------------------------------------------------------
    def _next(self) -> None:
        if self._running is None and self._line and not self._closed:
            job = self._running = self._line.pop(0)
            job.state, job.started = "running", _now()
            job.task = asyncio.get_running_loop().create_task(self._perform(job))

    async def _perform(self, job: Job) -> None:
        state: JobState = "failed"
        try:
            await job.work(job)
            state = "cancelled" if job.stopping else "done"
        except AbixioError as error:
            job.error = reason(error)
        except asyncio.CancelledError:
            state = "cancelled"
        except Exception as error:
            _log.exception("job %s (%s) failed", job.id, job.kind)
            job.error = reason(error)
        finally:
            self._running = job.task = None
            self._end(job, state)
            self._next()

    def _end(self, job: Job, state: JobState) -> None:
        job.state, job.ended = state, _now()
        counts = job.counts
        _log.info(
            "job %s: %s %r %s: %d objects, %d changed, %d failed, %r",
            job.id, job.kind, job.target, state, counts.objects, counts.changed, counts.failed, job.error,
        )  # fmt: skip

    def _forget(self) -> None:
        """Ended jobs that are old, or too many."""
        ended = [job for job in self._jobs.values() if job.ended is not None]
        oldest = _now() - ENDED_SECONDS * 1000
        for job in ended[: max(0, len(ended) - MAX_ENDED)] + [job for job in ended if (job.ended or 0) < oldest]:
            self._jobs.pop(job.id, None)


def _now() -> int:
    return time.time_ns() // 1_000_000
