"""A load client for answers without a body, to HEAD, PUT and DELETE: wrk waits for the body that a HEAD announces, and goes on
with the first request when it has sent the last, when there is nothing left to delete.

    python -m bench.bodiless HOST PORT FILE    each request of FILE once, over 16 connections; prints how many, and the seconds

FILE is as for requests.lua. Against a server that does nothing, this client has 30,000 PUTs of 4 KiB a second answered and wrk
34,000, for 22 us of processor each, mostly the kernel's; bare sockets and epoll are no faster. Below that it is not the bound.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.load import CONNECTIONS, TIMEOUT, LoadFailed, Rate

END = b"\r\n\r\n"


class Asker(asyncio.Protocol):
    """One connection: takes the next request whenever an answer is there."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._got.endswith(END):
            if not self._got.startswith(b"HTTP/1.1 20") and not self._done.done():
                self._done.set_exception(LoadFailed(self._got.decode("latin-1")))
            self._got = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)


async def ask(host: str, port: int, requests: Sequence[bytes]) -> float:
    """Seconds."""
    loop, rest = asyncio.get_running_loop(), iter(requests)
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    begin = time.perf_counter()
    for end in ends:
        await loop.create_connection(lambda end=end: Asker(rest, end), host, port)  # type: ignore[misc]
    await asyncio.gather(*ends)
    return time.perf_counter() - begin


def once(url: str, requests: Sequence[bytes]) -> Rate:
    """Each of those requests, in a process of its own."""
    address = urlsplit(url)
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        for request in requests:
            file.write(b"%d\n" % len(request) + request)
        file.flush()
        command = [sys.executable, "-m", "bench.bodiless", str(address.hostname), str(address.port), file.name]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=Path(__file__).parent.parent
        )
    if result.returncode:
        raise LoadFailed(result.stderr)
    count, seconds = result.stdout.split()
    return Rate(int(count), float(seconds))


def main(host: str, port: str, path: str) -> None:
    requests = []
    with open(path, "rb") as file:
        for length in file:
            requests.append(file.read(int(length)))
    print(len(requests), uvloop.run(ask(host, int(port), requests)))


if __name__ == "__main__":
    main(*sys.argv[1:])
