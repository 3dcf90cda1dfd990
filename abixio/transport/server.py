"""Listens, and ends in steps: no new connections, no new requests, running ones to their end, the rest cut."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Callable
from typing import Final

from abixio.errors import StartupError
from abixio.http.limits import Limits
from abixio.message import Application
from abixio.transport.protocol import Connection
from abixio.transport.shared import Shared

CUT_SECONDS: Final = 2.0
"""What is cut ends within a turn or two of the event loop, unless a handler does not let itself be cancelled."""


class Server:
    """Serves one application on one event loop."""

    def __init__(self, app: Application, limits: Limits | None = None, ssl: tls.SSLContext | None = None) -> None:
        self._app = app
        self._limits = Limits() if limits is None else limits
        self._ssl = ssl
        self._shared: Shared | None = None
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return 0 if self._shared is None else len(self._shared.connections)

    async def start(self, host: str, port: int, shared: bool = False) -> list[tuple[str, int]]:
        """Listen on every address of `host`; returns them, with the ports chosen when `port` is 0. StartupError. `shared`: other
        processes listen there too, and the kernel deals the connections out."""
        limits = self._limits
        loop = asyncio.get_running_loop()
        common = self._shared = Shared(self._app, limits, loop)
        try:
            self._server = await loop.create_server(
                lambda: Connection(common), host, port, backlog=limits.backlog, ssl=self._ssl, reuse_port=shared or None,
                ssl_handshake_timeout=limits.handshake_seconds if self._ssl else None,
                ssl_shutdown_timeout=limits.goodbye_seconds if self._ssl else None,
            )  # fmt: skip
        except (OSError, UnicodeError) as error:
            raise StartupError(f"cannot listen on {host} port {port}: {error}") from error
        return [socket.getsockname()[:2] for socket in self._server.sockets]

    async def drain(self, seconds: float) -> None:
        """Stop listening and close idle connections at once; give running requests that long; cut what is left."""
        shared = self._shared
        if shared is None:
            return
        if self._server is not None:
            self._server.close()
            self._server = None
        shared.draining = True
        for connection in list(shared.connections):
            connection.drain()
        await _until(shared, lambda: not any(connection.serving for connection in shared.connections), seconds)
        for connection in list(shared.connections):
            connection.cut()
        await _until(shared, lambda: not shared.connections, CUT_SECONDS)

    async def close(self) -> None:
        """`drain` without patience. Twice is harmless."""
        await self.drain(0)


async def _until(shared: Shared, reached: Callable[[], bool], seconds: float) -> None:
    """Wait until `reached`, looking again whenever a request or a connection ends; at most `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not reached():
                shared.changed.clear()
                await shared.changed.wait()
    except TimeoutError:
        return
