"""Locks on names across processes: a byte lock at a hash of the name, which the kernel frees when its process dies.

The kernel could wake who waits only in a thread that cannot be called back, so here it is asked again and again, with short
pauses. That alone is not fair: a process in which many wait for one name would hand it on within itself. So who waits to be
alone says so in the shared memory, and who comes later lets it go first.

Two names may have one byte: within a process they share its lock and count its users, between processes one waits for the other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import xxhash

from abixio.errors import Overloaded
from abixio.store.crew import KEYS, Crew

FIRST: Final = 0.0002
"""Seconds until the first further try: a commit to the page cache takes about that long."""
LATER: Final = 0.002
"""Seconds between tries after some of them: a synced commit takes longer, and a try costs 20 us."""
LONG: Final = 0.02
"""Between tries from `PATIENT` on: what takes so long is no commit."""
PATIENT: Final = 0.5
COURTESY: Final = 0.0025
"""Seconds that who had a lock leaves to others who wait for it: longer than `LATER`, so that they try meanwhile."""
MANNERS: Final = 2.0
"""Seconds for which those who would share a lock let somebody go first who wants to be alone."""


class _Held:
    __slots__ = ("exclusive", "users")

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.users = 1


class ByteLocks:
    """One process's part of them. `kind` keeps the names of one use apart from those of others."""

    def __init__(self, crew: Crew, kind: bytes) -> None:
        self._crew = crew
        self._kind = kind
        self._held: dict[int, _Held] = {}

    @asynccontextmanager
    async def hold(self, name: tuple[bytes, bytes], exclusive: bool, seconds: float) -> AsyncIterator[None]:
        """Overloaded after that many seconds. The caller sees to it that nobody else in this process holds that name so."""
        digest, byte = self._place(name)
        if self._crew.wanted_elsewhere(digest) or not self._try(byte, exclusive):
            await self._wait(digest, byte, exclusive, seconds)
        try:
            yield
        finally:
            self._give_back(byte)

    def attempt(self, name: tuple[bytes, bytes], exclusive: bool) -> bool:
        """`hold` for who does not wait, and gives it back by itself: whether it is held now."""
        digest, byte = self._place(name)
        return not self._crew.wanted_elsewhere(digest) and self._try(byte, exclusive)

    def give_back(self, name: tuple[bytes, bytes]) -> None:
        """What `attempt` took."""
        self._give_back(self._place(name)[1])

    def _place(self, name: tuple[bytes, bytes]) -> tuple[bytes, int]:
        """What stands for a name in the shared memory, and its byte."""
        digest = xxhash.xxh3_128_digest(b"%b%b%b" % (self._kind, name[0], name[1]))
        return digest, KEYS + (int.from_bytes(digest[:8], "big") >> 2)

    def _try(self, byte: int, exclusive: bool) -> bool:
        held = self._held.get(byte)
        if held is None:
            if not self._crew.locks.hold(byte, exclusive):
                return False
            self._held[byte] = _Held(exclusive)
            return True
        if exclusive and not held.exclusive:
            if not self._crew.locks.hold(byte, True):
                return False
            held.exclusive = True
        held.users += 1
        return True

    def _give_back(self, byte: int) -> None:
        held = self._held[byte]
        held.users -= 1
        if not held.users:
            del self._held[byte]
            self._crew.locks.free(byte)

    async def _wait(self, digest: bytes, byte: int, exclusive: bool, seconds: float) -> None:
        began = asyncio.get_running_loop().time()
        if exclusive:
            self._crew.want(digest, 1)
        try:
            await self._let_others_go_first(digest, exclusive)
            pause = FIRST
            while not self._try(byte, exclusive):
                waited = asyncio.get_running_loop().time() - began
                if waited > seconds:
                    raise Overloaded("the key is locked for too long")
                pause = min(pause * 1.5, LATER if waited < PATIENT else LONG)
                await asyncio.sleep(pause * random.uniform(0.5, 1))
        finally:
            if exclusive:
                self._crew.want(digest, -1)

    async def _let_others_go_first(self, digest: bytes, exclusive: bool) -> None:
        """Who wants to be alone waits for those before it, and would wait for ever if more of them came."""
        pauses = 1 if exclusive else int(MANNERS / COURTESY)
        while pauses and self._crew.wanted_elsewhere(digest):
            await asyncio.sleep(COURTESY)
            pauses -= 1
