"""What each layer adds, within one run: `python -m bench.layers [--rounds 5] [--home DIR]`.

GET and PUT of one size, one after the other over one connection, one volume, mode page-cache: the transport alone (L1), the store
without HTTP (L3), the server with presigned URLs (L6) and with everything signed (L6A), boto3 as people use it (L7), and boto3
with the server on a thread of its own process, which shows what a process of its own is worth. All layers take turns; the figures
are medians: time of an operation, and L1's time over it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.table import Table

from abixio.config import Config
from abixio.s3.service import S3Service
from abixio.transport.server import Server as Transport
from bench.bench_l1_http import running as l1_running
from bench.data import serving, url
from bench.lines import ratio
from bench.load import Payload, check_get, curl_get, curl_put, random_file
from bench.server import BUCKET, file_sha256, signed
from bench.stores import Bench
from tests.server import ACCESS, SECRET, Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KIB, MIB = 1 << 10, 1 << 20
SIZES: Final = {4 * KIB: 100, 10 * MIB: 5, 256 * MIB: 1}
"""Operations that are timed together."""

Work = Callable[[], float]
"""Seconds of one operation."""


def mean(seconds: list[float]) -> float:
    return sum(seconds) / len(seconds)


def repeated(work: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) / times


@contextmanager
def on_a_thread(home: Path) -> Iterator[str]:
    """The server, in this process; its URL."""
    home.mkdir()
    bench, ready, stop = Bench(home, 1, "page-cache"), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def serve() -> None:
        transport = Transport(S3Service(bench.store, {ACCESS: SECRET}, Config(durability="page-cache")))
        found.append(f"http://127.0.0.1:{(await transport.start('127.0.0.1', 0))[0][1]}")
        ready.set()
        await stop.wait()
        await transport.drain(1)

    thread = threading.Thread(target=lambda: bench.runner.run(serve()))
    thread.start()
    try:
        ready.wait()
        yield found[0]
    finally:
        bench.runner.get_loop().call_soon_threadsafe(stop.set)
        thread.join()
        bench.close()


class Layers:
    """One size through all of them."""

    def __init__(self, payload: Payload, size: int, times: int) -> None:
        self.file, self.size, self.times = payload.cut(size), size, times
        self.data = self.file.read_bytes()

    def l1(self, base: str) -> dict[str, Work]:
        many = [f"{base}/{self.size}"] * self.times
        return {
            "GET": lambda: mean(curl_get(many, self.size)),
            "PUT": lambda: mean(curl_put([f"{base}/put"] * self.times, self.file)),
        }

    def l3(self, bench: Bench) -> dict[str, Work]:
        view = memoryview(self.data)

        def get() -> None:
            assert sum(map(len, bench.runner.run(bench.get("key")))) == self.size

        def put() -> None:
            bench.runner.run(bench.put("key", view, self.size))

        put()
        return {"GET": lambda: repeated(get, self.times), "PUT": lambda: repeated(put, self.times)}

    def l6(self, server: Server) -> dict[str, Work]:
        put, get = url(server, "PUT", "key"), url(server, "GET", "key")
        curl_put([put], self.file)
        return {
            "GET": lambda: mean(curl_get([get] * self.times, self.size)),
            "PUT": lambda: mean(curl_put([put] * self.times, self.file)),
        }

    def l6a(self, server: Server) -> dict[str, Work]:
        def headers(found: dict[str, str]) -> list[str]:
            return [f"{name}: {value}" for name, value in found.items()]

        get, reading = signed(server, "GET", "key")
        put, writing = signed(server, "PUT", "key", file_sha256(self.file))
        return {
            "GET": lambda: mean(curl_get([get] * self.times, self.size, headers(reading))),
            "PUT": lambda: mean(curl_put([put] * self.times, self.file, headers(writing))),
        }

    def l7(self, client: S3Client) -> dict[str, Work]:
        def get() -> None:
            assert len(client.get_object(Bucket=BUCKET, Key="sdk")["Body"].read()) == self.size

        def put() -> None:
            client.put_object(Bucket=BUCKET, Key="sdk", Body=self.data)

        put()
        return {"GET": lambda: repeated(get, self.times), "PUT": lambda: repeated(put, self.times)}


def measure(home: Path, payload: Payload, size: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by method and layer."""
    layers, found = Layers(payload, size, SIZES[size]), dict[str, dict[str, list[float]]]()
    with ExitStack() as stack:
        (home / "l3").mkdir()
        l3 = Bench(home / "l3", 1, "page-cache")
        stack.callback(l3.close)
        server = stack.enter_context(serving(home, "l6", 1, "--durability", "page-cache"))
        inner = Server([], home / "none")
        inner.url = stack.enter_context(on_a_thread(home / "thread"))
        clients = [each.client() for each in (server, inner)]
        for client in clients:
            stack.callback(client.close)
        works = {
            "L1": layers.l1(stack.enter_context(l1_running("transport", str(payload.path)))), "L3": layers.l3(l3),
            "L6": layers.l6(server), "L6A": layers.l6a(server), "L7": layers.l7(clients[0]),
            "L7, one process": layers.l7(clients[1]),
        }
        for method in ("GET", "PUT"):
            for _ in range(rounds):
                for layer, work in works.items():
                    os.sync()
                    found.setdefault(method, {}).setdefault(layer, []).append(work[method]())
        check_get(url(server, "GET", "key"), payload.digest(size))
    return found


def cell(base: list[float], seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:,.2f} ms ({ratio(base, seconds):.2f})"


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="On the disk that is to be measured.")
def main(rounds: int, home: Path | None) -> None:
    table = Table("", "L1", "L3", "L6", "L6A", "L7", "L7, one process")
    for size in SIZES:
        with tempfile.TemporaryDirectory(dir=home) as directory:
            payload = random_file(Path(directory) / "random", size)
            for method, layers in measure(Path(directory), payload, size, rounds).items():
                name = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
                table.add_row(f"{method} {name}", *(cell(layers["L1"], seconds) for seconds in layers.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
