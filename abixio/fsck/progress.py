"""How far the work is: a bar on a terminal, a line every few seconds elsewhere. Called from several threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from abixio.config import MIB

LINE_SECONDS: Final = 10.0
"""Between two lines where there is no terminal: a log of a night's run stays readable."""


class Meter(Protocol):
    """What the phases of the work tell."""

    def phase(self, name: str, total: int | None) -> None:
        """A new phase begins; `total` steps, None: not known."""
        ...

    def step(self, steps: int = 0, read: int = 0) -> None:
        """So many steps and bytes more."""
        ...


class Silent:
    """For tests and --json without a terminal."""

    def phase(self, name: str, total: int | None) -> None: ...

    def step(self, steps: int = 0, read: int = 0) -> None: ...

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Bar:
    """On a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[read]}"), TimeRemainingColumn(), console=console, transient=True,
        )
        self._task: TaskID | None = None
        self._read = 0

    def __enter__(self) -> Meter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int | None) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._read = 0
        self._task = self._progress.add_task(name, total=total, read="")

    def step(self, steps: int = 0, read: int = 0) -> None:
        self._read += read
        if self._task is not None:
            self._progress.update(self._task, advance=steps, read=f"{self._read // MIB:,} MiB" if self._read else "")


class Lines:
    """Where output goes to a file or a pipe."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._name = ""
        self._total: int | None = None
        self._done = self._read = 0
        self._next = 0.0

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def phase(self, name: str, total: int | None) -> None:
        self._name, self._total, self._done, self._read = name, total, 0, 0
        self._next = time.monotonic() + LINE_SECONDS
        self._write(name)

    def step(self, steps: int = 0, read: int = 0) -> None:
        self._done += steps
        self._read += read
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            of = "" if self._total is None else f" of {self._total}"
            self._write(f"{self._name}: {self._done}{of}, {self._read // MIB} MiB read")
