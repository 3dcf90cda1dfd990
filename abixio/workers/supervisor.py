"""Starts the workers, starts again those that die, and ends them. It opens no volume and serves nothing, so that little can go
wrong in it; but it holds what must outlive each of them: the locks of the volumes, the port, the shared memory.

The first worker to start, number 0, prepares everything as a server of one process does. The others wait until it has.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import time
from dataclasses import replace
from functools import partial
from typing import Final

from abixio import endpoint, logs
from abixio.banner import announce
from abixio.config import MIB, Config
from abixio.errors import StartupError
from abixio.store import crew
from abixio.volume.files import Files
from abixio.workers.channel import Brief, Dismissed, Failed, Message, Noticed, Pool, Prepared, Serving
from abixio.workers.child import Child

_log = logging.getLogger(__name__)

SHARE_LEAST: Final = 64 * MIB
"""Of the memory budget, for each worker: as the flag demands of one process."""
AT_ONCE: Final = 5.0
"""Seconds from its start within which the end of a worker counts as a failed start."""
FIRST: Final = 0.1
LONGEST: Final = 10.0
"""Seconds until a worker is started again: at first, and at most after it failed to start again and again."""
END_SECONDS: Final = 9.8
"""From the signal until those that still run are killed: after the moment when they end by themselves, whatever hangs."""
OTHERS_SECONDS: Final = 8.5
"""Until the runner is told that it is the last one; those who are not gone by then did not end in good order."""
_STOP: Final = (signal.SIGTERM, signal.SIGINT)


def supervise(config: Config) -> int:
    """Serve with several processes until a signal; the status to end with. StartupError when that cannot begin."""
    logs.configure(config.log_level, config.log_json)
    share = config.memory_budget // config.workers
    if share < SHARE_LEAST:
        least = config.workers * SHARE_LEAST // MIB
        raise StartupError(f"--memory-budget is shared by {config.workers} workers, which need 64MiB each: {least}MiB at least")
    port, held = endpoint.reserve(config.host, config.port)
    try:
        return asyncio.run(Supervisor(replace(config, port=port, memory_budget=share)).run())
    finally:
        for one in held:
            one.close()


class Supervisor:
    """One server of several workers."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._count = config.workers
        self._born = time.time()
        self._memory = crew.create(self._count)
        self._relay = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._relay.bind(b"")  # Linux chooses an abstract name that nobody has
        self._relay.listen(128)
        self._token = secrets.token_bytes(16)
        self._pool: Pool | None = None
        """None until the first worker has prepared it."""
        self._locks: list[int] = []
        self._banner = ""
        self._children: dict[int, Child] = {}
        self._failures = [0] * self._count
        """Failed starts of each worker since its last good one."""
        self._said = ""
        """Why a worker could not start, in its own words."""
        self._orderly = True
        """Whether every worker that ended did so in good order, and not before it was told to."""
        self._status = 0
        self._ending = False
        self._running = asyncio.Event()
        self._ended: asyncio.Future[int] | None = None

    async def run(self) -> int:
        """Until all have ended."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for which in _STOP:
            loop.add_signal_handler(which, self._stop, which)
        if self._config.access_log is not None:
            loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        try:
            for number in range(self._count):
                self._spawn(number)
            self._brief(self._children[0])
            return await self._ended
        finally:
            for child in self._children.values():
                child.kill()
            self._let_go()

    # ---- starting ----------------------------------------------------------------------------------------------------
    def _spawn(self, number: int) -> None:
        self._children[number] = Child(number, partial(self._heard, number), self._died)

    def _brief(self, child: Child) -> None:
        """Tell it who it is, and let it begin."""
        relay = self._relay.getsockname()[1:].decode("ascii")
        child.began = time.monotonic()
        brief = Brief(self._config, child.number, self._count, self._born, relay, self._token, self._pool)
        child.tell(brief, [self._memory, self._relay.fileno(), *self._locks])

    def _heard(self, number: int, message: Message, descriptors: list[int]) -> None:
        child = self._children[number]
        match message:
            case Prepared(pool=pool, banner=banner):
                self._pool, self._banner, self._locks = pool, banner, descriptors
                for other in self._children.values():
                    if other is not child and not self._ending:
                        self._brief(other)
            case Serving(addresses=addresses):
                child.serving = True
                if not self._running.is_set() and all(other.serving for other in self._children.values()):
                    self._running.set()
                    announce(self._banner, addresses)
                elif self._running.is_set():
                    _log.info("worker %d serves again", number)
            case Noticed():
                if 0 in self._children:
                    self._children[0].tell(message, [])
            case Failed(why=why):
                self._said = why
            case _:
                raise TypeError(f"no worker says {message!r}")

    # ---- ends of workers ---------------------------------------------------------------------------------------------
    def _died(self, child: Child, status: int) -> None:
        """A worker is gone, and what it had pinned with it."""
        crew.bury(self._memory, child.number, self._count)
        del self._children[child.number]
        self._orderly &= status == 0 and self._ending
        if self._ending:
            self._one_less(child, status)
        elif not self._running.is_set():
            self._give_up(self._said or f"worker {child.number} {_ended_with(status)} while it started")
        else:
            _log.error("worker %d (process %d) %s; it is started again", child.number, child.pid, _ended_with(status))
            quick = not child.serving or time.monotonic() - child.began < AT_ONCE
            self._failures[child.number] = self._failures[child.number] + 1 if quick else 0
            pause = min(FIRST * 2 ** max(self._failures[child.number] - 1, 0), LONGEST)
            asyncio.get_running_loop().call_later(pause, self._again, child.number)

    def _again(self, number: int) -> None:
        if self._ending:
            return
        try:
            self._spawn(number)
            self._brief(self._children[number])
        except OSError as error:
            _log.error("worker %d cannot be started: %s", number, error)
            asyncio.get_running_loop().call_later(LONGEST, self._again, number)

    def _give_up(self, why: str) -> None:
        """The server cannot begin."""
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_exception(StartupError(why))

    # ---- the end -----------------------------------------------------------------------------------------------------
    def _stop(self, number: int) -> None:
        """The first signal starts the end. Another Ctrl-C means now."""
        loop = asyncio.get_running_loop()
        if self._ending:
            if number == signal.SIGINT:
                _log.warning("interrupted again: ending at once")
                self._kill()
            return
        self._ending = True
        self._pass_on(signal.SIGTERM)
        loop.call_later(OTHERS_SECONDS, self._dismiss, False)
        loop.call_later(END_SECONDS, self._kill)
        if not self._children or set(self._children) == {0}:
            self._dismiss(self._orderly)
        self._finish()

    def _one_less(self, child: Child, status: int) -> None:
        if status and (child.serving or status != -signal.SIGTERM):  # one that was still starting just ends
            self._status = 1
            _log.error("worker %d (process %d) %s", child.number, child.pid, _ended_with(status))
        if set(self._children) == {0}:
            self._dismiss(self._orderly)
        self._finish()

    def _dismiss(self, orderly: bool) -> None:
        if 0 in self._children:
            self._children[0].tell(Dismissed(orderly), [])

    def _finish(self) -> None:
        assert self._ended is not None
        if not self._children and not self._ended.done():
            self._ended.set_result(self._status)

    def _kill(self) -> None:
        for child in self._children.values():
            _log.error("worker %d does not end and is killed", child.number)
            child.kill()

    def _pass_on(self, number: int) -> None:
        for child in self._children.values():
            child.signal(number)

    def _let_go(self) -> None:
        files = Files()
        for descriptor in (self._memory, *self._locks):
            files.close(descriptor)
        self._relay.close()


def _ended_with(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
