"""How a body gets onto a socket, every way once: `python -m bench.transports [--rounds 7] [--mib 256]`.

One process for each variant serves the same mapped file, one variant differs from the base in one thing: a stream transport of
uvloop without a line of ours above it, 4 MiB slices of the map, TCP_NODELAY, a write buffer limit of 1 MiB, the kernel's own
send buffer. curl takes the body from each in turn; the figures are medians of the base's time over the variant's in the same
round, as curl saw it and as processor time of the server: more than 1 is better than the base.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click
import uvloop
from rich.console import Console
from rich.table import Table

from bench.data import processor_time
from bench.lines import ratio
from bench.load import curl_get

KIB, MIB = 1 << 10, 1 << 20
HEAD: Final = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n"


@dataclass(frozen=True)
class Variant:
    """How one server writes."""

    loop: str = "uvloop"
    """"uvloop", "asyncio", or "socket": blocking calls on a thread."""
    slice: int = 4 * MIB
    joined: bool = False
    """Head and first slice in one `writelines`."""
    copied: bool = False
    """Each slice is copied to bytes first, as a read from a file would."""
    whole: bool = False
    """The whole body in one write."""
    nodelay: bool = True
    high: int = MIB
    """Bytes unsent at which the writer waits."""
    send_buffer: int = 0
    """SO_SNDBUF; 0: what the kernel chooses as it goes."""


BASE: Final = Variant()
VARIANTS: Final = {
    "base": BASE,
    "blocking socket, sendall": replace(BASE, loop="socket"),
    "blocking socket, sendfile": replace(BASE, loop="sendfile"),
    "asyncio instead of uvloop": replace(BASE, loop="asyncio"),
    "slices of 64 KiB": replace(BASE, slice=64 * KIB),
    "slices of 256 KiB": replace(BASE, slice=256 * KIB),
    "slices of 1 MiB": replace(BASE, slice=MIB),
    "slices of 16 MiB": replace(BASE, slice=16 * MIB),
    "the whole body in one write": replace(BASE, whole=True),
    "each slice copied": replace(BASE, copied=True),
    "head and first slice by writelines": replace(BASE, joined=True),
    "write buffer limit of 64 KiB": replace(BASE, high=64 * KIB),
    "write buffer limit of 8 MiB": replace(BASE, high=8 * MIB),
    "without TCP_NODELAY": replace(BASE, nodelay=False),
    "SO_SNDBUF of 64 KiB": replace(BASE, send_buffer=64 * KIB),
    "SO_SNDBUF of 1 MiB": replace(BASE, send_buffer=MIB),
    "SO_SNDBUF of 4 MiB": replace(BASE, send_buffer=4 * MIB),
}


# ---- the servers -------------------------------------------------------------------------------------------------------
class Body(asyncio.Protocol):
    """Answers every request with the file."""

    def __init__(self, view: memoryview, variant: Variant) -> None:
        self._view = view
        self._variant = variant
        self._slices: Iterator[memoryview] = iter(())
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(self._variant.high, self._variant.high // 4)
        prepare(self._transport.get_extra_info("socket"), self._variant)

    def data_received(self, data: bytes) -> None:
        head = HEAD.format(len(self._view)).encode()
        self._slices = pieces(self._view, self._variant)
        if self._variant.joined:
            self._transport.writelines([head, next(self._slices)])
        else:
            self._transport.write(head)
        self._pump()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        while not self._paused:
            piece = next(self._slices, None)
            if piece is None:
                return
            self._transport.write(piece)


def pieces(view: memoryview, variant: Variant) -> Iterator[memoryview]:
    step = len(view) if variant.whole else variant.slice
    for start in range(0, len(view), step):
        piece = view[start : start + step]
        yield memoryview(bytes(piece)) if variant.copied else piece


def prepare(connection: socket.socket, variant: Variant) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, variant.nodelay)
    if variant.send_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, variant.send_buffer)


def serve_blocking(view: memoryview, path: str, variant: Variant) -> None:
    """A thread, one connection after the other."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        prepare(connection, variant)
        with connection, open(path, "rb") as file:
            while connection.recv(65536):
                connection.sendall(HEAD.format(len(view)).encode())
                if variant.loop == "sendfile":
                    connection.sendfile(file)
                    file.seek(0)
                    continue
                for piece in pieces(view, variant):
                    connection.sendall(piece)


async def serve(view: memoryview, variant: Variant) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Body(view, variant), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def child(path: str, name: str) -> None:
    """What a process of one variant does."""
    variant = VARIANTS[name]
    with open(path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    if variant.loop in ("socket", "sendfile"):
        serve_blocking(view, path, variant)
    run: Callable[..., object] = uvloop.run if variant.loop == "uvloop" else asyncio.run
    run(serve(view, variant))


# ---- the client --------------------------------------------------------------------------------------------------------
@dataclass
class Side:
    """The process of one variant."""

    url: str
    pid: int
    seconds: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    """Processor time."""

    def take(self, size: int) -> None:
        before = processor_time(self.pid)
        self.seconds += curl_get([self.url], size)
        self.spent.append(processor_time(self.pid) - before)


@contextmanager
def running(path: Path) -> Iterator[dict[str, Side]]:
    """A process for each variant."""
    started = {}
    try:
        for name in VARIANTS:
            command = [sys.executable, "-m", "bench.transports", "--serve", name, str(path)]
            started[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = {name: process.stdout.readline().strip() for name, process in started.items() if process.stdout is not None}
        yield {name: Side(f"http://127.0.0.1:{port}/", started[name].pid) for name, port in ports.items()}
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def measure(sides: dict[str, Side], size: int, rounds: int) -> None:
    for side in sides.values():
        curl_get([side.url], size)  # maps the file
    for _ in range(rounds):
        for side in sides.values():
            side.take(size)


@click.command(help=__doc__)
@click.argument("path", required=False)
@click.option("--serve", "name", hidden=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--mib", default=256, show_default=True)
def main(path: str | None, name: str | None, rounds: int, mib: int) -> None:
    if name is not None and path is not None:
        child(path, name)
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "body"
        file.write_bytes(os.urandom(MIB) * mib)
        with running(file) as sides:
            measure(sides, mib * MIB, rounds)
    table, base, gib = Table("variant", "by rate", "by processor", "MB/s", "s/GiB"), sides["base"], mib / 1024
    for each, side in sides.items():
        ratios = [f"{ratio(base.seconds, side.seconds):.2f}", f"{ratio(base.spent, side.spent):.2f}"]
        medians = statistics.median(side.seconds), statistics.median(side.spent)
        table.add_row(each, *ratios, f"{mib * MIB / medians[0] / 1e6:,.0f}", f"{medians[1] / gib:.2f}")
    Console(width=90).print(table)


if __name__ == "__main__":
    main()
