"""One worker as the supervisor sees it: its process, and what it says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from abixio.workers.channel import Channel, Message

Heard = Callable[[Message, list[int]], None]


class Child:
    """A process from its start to its end. `died` is called once, with its status as `subprocess` has it."""

    def __init__(self, number: int, heard: Heard, died: Callable[[Child, int], None]) -> None:
        self.number = number
        self.serving = False
        self.began = 0.0
        """time.monotonic() when it was told to begin."""
        self._heard = heard
        self._died = died
        self._channel, other = Channel.pair()
        try:
            self._process = _run(other.fileno())
        finally:
            other.close()
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._hear)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, message: Message, descriptors: list[int]) -> None:
        """To a worker that is dead nothing is told."""
        with suppress(OSError):
            self._channel.send(message, descriptors)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()

    def _hear(self) -> None:
        heard = self._channel.receive()
        if heard is not None:
            self._heard(*heard)
            return
        # It has closed its end, as a process does only when it ends, which may take a moment more.
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.close()
        self._reap()

    def _reap(self) -> None:
        status = self._process.poll()
        if status is None:
            asyncio.get_running_loop().call_later(0.01, self._reap)
        else:
            self._died(self, status)


def _run(descriptor: int) -> subprocess.Popen[bytes]:
    """The same Python with the same path of modules, whatever lies in the working directory; in a process group of its own, or
    Ctrl-C would end it behind the supervisor's back."""
    command = [sys.executable, "-P", "-m", "abixio.workers.worker", str(descriptor)]
    path = os.pathsep.join(entry or os.path.abspath("") for entry in sys.path)
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), env={**os.environ, "PYTHONPATH": path}, process_group=0
    )
