"""Key locks: one writer or repairer per key at a time, held for the commit phase only.

Where several processes serve the pool, a byte lock at a hash of the key (`bytelocks`) is taken inside the lock of this process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from abixio.errors import Overloaded
from abixio.store.bytelocks import ByteLocks

WAIT: Final = 30.0
"""Seconds to wait for a key: as long as a volume may take before it is left behind, so a hung disk shows first there."""


TOO_LONG: Final = "the key is locked for too long"


def _too_long(mine: asyncio.Future[None]) -> None:
    if not mine.done():
        mine.set_exception(Overloaded(TOO_LONG))


class _Entry:
    """One lock: who holds it, who waits, in order of arrival."""

    __slots__ = ("exclusive", "shared", "waiters")

    def __init__(self) -> None:
        self.exclusive = False
        self.shared = 0
        self.waiters: deque[tuple[asyncio.Future[None], bool]] | tuple[()] = ()
        """Mostly nobody."""

    def free(self, exclusive: bool) -> bool:
        return not self.exclusive and not (exclusive and self.shared)

    def take(self, exclusive: bool) -> None:
        if exclusive:
            self.exclusive = True
        else:
            self.shared += 1

    def release(self, exclusive: bool) -> None:
        if exclusive:
            self.exclusive = False
        else:
            self.shared -= 1
        self.wake()

    def wake(self) -> None:
        """Hand the lock to those at the head of the queue who may have it now."""
        waiters = self.waiters
        while waiters:
            future, exclusive = waiters[0]
            if future.done():
                waiters.popleft()
                continue
            if not self.free(exclusive):
                return
            waiters.popleft()
            self.take(exclusive)
            future.set_result(None)

    @property
    def idle(self) -> bool:
        return not self.exclusive and not self.shared and not self.waiters


class KeyLocks:
    """Shared and exclusive locks by name; a name costs memory only while somebody uses it."""

    def __init__(self, elsewhere: ByteLocks | None = None) -> None:
        """`elsewhere`: what keeps other processes away."""
        self._entries: dict[tuple[bytes, bytes], _Entry] = {}
        self._elsewhere = elsewhere

    @asynccontextmanager
    async def exclusive(self, space: bytes, key: bytes) -> AsyncIterator[None]:
        """Alone on that key. Overloaded after WAIT seconds."""
        async with self._hold((space, key), True):
            yield

    @asynccontextmanager
    async def shared(self, space: bytes, key: bytes) -> AsyncIterator[None]:
        """Together with other shared holders: a write into a bucket keeps the bucket from being deleted."""
        async with self._hold((space, key), False):
            yield

    def attempt(self, space: bytes, key: bytes, exclusive: bool) -> bool:
        """Take it for a caller that does not wait, and calls `release`; False where somebody would have to be waited for."""
        name = space, key
        entry = self._entries.get(name)
        if entry is None:
            entry = _Entry()
        elif entry.waiters or not entry.free(exclusive):
            return False
        if self._elsewhere is not None and not self._elsewhere.attempt(name, exclusive):
            return False
        self._entries[name] = entry
        entry.take(exclusive)
        return True

    def queue(self, space: bytes, key: bytes) -> asyncio.Future[None] | None:
        """Stand in line for a key that is taken, to be alone on it: done when it is the caller's, to be released. Overloaded
        after WAIT seconds. None where other processes would have to be asked."""
        entry = self._entries.get((space, key))
        if self._elsewhere is not None or entry is None:
            return None
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        entry.waiters = entry.waiters or deque()
        entry.waiters.append((mine, True))
        timer = loop.call_later(WAIT, _too_long, mine)
        mine.add_done_callback(lambda done: self._waited((space, key), entry, timer, done))
        return mine

    def _waited(self, name: tuple[bytes, bytes], entry: _Entry, timer: asyncio.TimerHandle, mine: asyncio.Future[None]) -> None:
        timer.cancel()
        if mine.exception() is not None:
            entry.wake()
            self._forget(name, entry)

    def release(self, space: bytes, key: bytes, exclusive: bool) -> None:
        """What `attempt` took, or `queue` gave."""
        entry = self._entries[(space, key)]
        if self._elsewhere is not None:
            self._elsewhere.give_back((space, key))
        entry.release(exclusive)
        self._forget((space, key), entry)

    @asynccontextmanager
    async def _hold(self, name: tuple[bytes, bytes], exclusive: bool) -> AsyncIterator[None]:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry()
        if not entry.waiters and entry.free(exclusive):
            entry.take(exclusive)
        else:
            await self._wait(name, entry, exclusive)
        try:
            if self._elsewhere is None:
                yield
            else:
                async with self._elsewhere.hold(name, exclusive, WAIT):
                    yield
        finally:
            entry.release(exclusive)
            self._forget(name, entry)

    async def _wait(self, name: tuple[bytes, bytes], entry: _Entry, exclusive: bool) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry.waiters = entry.waiters or deque()
        entry.waiters.append((future, exclusive))
        try:
            async with asyncio.timeout(WAIT):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                entry.release(exclusive)
            else:
                future.cancel()
                entry.wake()
            self._forget(name, entry)
            if isinstance(error, TimeoutError):
                raise Overloaded(TOO_LONG) from error
            raise

    def _forget(self, name: tuple[bytes, bytes], entry: _Entry) -> None:
        if entry.idle and self._entries.get(name) is entry:
            del self._entries[name]
