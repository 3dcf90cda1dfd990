"""A worker's place among the others, as the application sees it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from abixio.store.assembly import PoolVolumes
from abixio.store.crew import Crew
from abixio.workers.channel import Channel, Dismissed, Message, Noticed, Prepared, Serving
from abixio.workers.channel import Pool as PoolFacts

SOON: Final = 0.2
"""Seconds until what was noticed is told: a client that deletes versions deletes many."""
AT_ONCE: Final = 64
"""Keys in one message: 90 KiB when they are as long as keys can be, and a packet takes twice that."""


def _nobody(_space: bytes, _key: bytes) -> None:
    """Nobody wants to know yet."""


@dataclass(frozen=True, slots=True)
class Post:
    """Where requests are passed on that only the runner can answer."""

    name: str
    token: bytes
    listener: socket.socket | None
    """The runner has it."""


class Seat:
    """Used from the event loop."""

    def __init__(self, crew: Crew, channel: Channel, first: bool, post: Post) -> None:
        """`first`: nobody else uses the volumes yet, and all others wait for `prepared`."""
        self.crew = crew
        self.first = first
        self.post = post
        self._channel = channel
        self._dismissed: asyncio.Future[bool] | None = None
        self._noticed: list[tuple[bytes, bytes]] = []
        self.on_notice: Callable[[bytes, bytes], None] = _nobody
        """In the runner: what another worker noticed."""

    def notice(self, space: bytes, key: bytes) -> None:
        """Tell the runner that somebody deleted a version of that key; together with others, soon."""
        if not self._noticed:
            asyncio.get_running_loop().call_later(SOON, self._announce)
        self._noticed.append((space, key))
        if len(self._noticed) == AT_ONCE:
            self._announce()

    def _announce(self) -> None:
        if self._noticed:
            self._tell(Noticed(self._noticed))
            self._noticed = []

    def listen(self, gone: Callable[[], None]) -> None:
        """Hear what the supervisor says; `gone` is called when it is dead."""
        loop = asyncio.get_running_loop()
        self._dismissed = loop.create_future()
        loop.add_reader(self._channel.fileno(), self._hear, gone)

    def prepared(self, facts: PoolFacts, volumes: PoolVolumes, banner: str) -> None:
        """The others may begin."""
        locks = [volumes.by_slot[slot].lock.fileno() for slot in facts.places]
        self._tell(Prepared(facts, banner), locks)

    def serving(self, addresses: list[tuple[str, int]]) -> None:
        self._tell(Serving(addresses))

    async def dismissed(self) -> bool:
        """For the runner, which ends last: wait for the others. Whether all of them have ended in good order."""
        assert self._dismissed is not None
        return self.crew.runner and await self._dismissed

    def _tell(self, message: Message, descriptors: list[int] | None = None) -> None:
        with suppress(OSError):  # the supervisor is dead, and `listen` hears of it
            self._channel.send(message, descriptors)

    def _hear(self, gone: Callable[[], None]) -> None:
        assert self._dismissed is not None
        heard = self._channel.receive()
        orderly = False
        if heard is None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            gone()
        elif isinstance(heard[0], Noticed):
            for space, key in heard[0].keys:
                self.on_notice(space, key)
            return
        elif isinstance(heard[0], Dismissed):
            orderly = heard[0].orderly
        if not self._dismissed.done():
            self._dismissed.set_result(orderly)
