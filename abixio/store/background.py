"""Work of the store that goes on beside all requests, in a task of its own."""

from __future__ import annotations

import asyncio


class Background:
    """What is done over and over again is for a subclass to say, in `_work`."""

    _task: asyncio.Task[None] | None = None
    """None while it does not run."""

    def start(self) -> None:
        """Work until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """End; what is under way is left as a crash would leave it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _work(self) -> None:
        raise NotImplementedError
