"""Memory of one body and of many at once: `python -m bench.memory [--uploads 64] [--mib 256] [--budget 512]`.

How far a PUT and a GET of 1 GiB move the server's anonymous memory (RssAnon) from where it was idle. Its peak while many bodies
are uploaded at the same time, as fast as the server takes them: bar, the memory budget plus 100 MiB. Then as many uploads that
have begun and send next to nothing: while they hold what memory they got, small and middling PUTs of others must be answered at
once.

64 bodies of 256 MiB are 16 GiB, and a third more with parity; where the disk has less room, they are cut, and the line says so.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from bench.data import KIB, MIB, serving, url
from bench.lines import Line, show
from bench.load import Payload, check_get, curl_get, curl_put, curl_put_at_once, random_file
from tests.server import Server

GIB: Final = 1024 * MIB
UPLOADS: Final = 64
GROWTH: Final = 64.0
"""MiB that one body may take."""
SAMPLE: Final = 0.01
"""Seconds between two looks at the server's memory."""
SPARE: Final = 1.2
"""Room on the disk over what is going to be written."""
SLACK: Final = 100
"""MiB beyond the budget."""
BEGUN: Final = 64 * KIB
"""Bytes that a stalled upload has sent."""
AT_ONCE: Final = 5.0
"""Seconds: without a share of their own, those PUTs would wait for 30 and get SlowDown."""
OTHERS: Final = {"1 KiB": KIB, "1 MiB": MIB}


@contextmanager
def stalled(urls: list[str], size: int) -> Iterator[None]:
    """Uploads that have begun, each on a connection of its own."""
    with ExitStack() as stack:
        for target in urls:
            parts = urlsplit(target)
            line = stack.enter_context(socket.create_connection((str(parts.hostname), int(parts.port or 0))))
            head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {size}\r\n\r\n"
            line.sendall(head.encode() + bytes(BEGUN))
        time.sleep(1)
        yield


def peak(server: Server, work: Callable[[], object]) -> int:
    """The most anonymous memory that is seen while `work` runs."""
    done, most = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(SAMPLE):
            most[0] = max(most[0], server.anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return most[0]


def one_body(home: Path, payload: Payload) -> Line:
    """On a server that has done nothing yet."""
    file = payload.cut(GIB)
    with serving(home, "gib", 1, "--durability", "page-cache") as server:
        put, get = url(server, "PUT", "gib"), url(server, "GET", "gib")
        idle = server.anonymous_memory()
        put_peak = peak(server, lambda: curl_put([put], file))
        get_peak = peak(server, lambda: curl_get([get], GIB))
        check_get(get, payload.digest(GIB))
    shutil.rmtree(home / "gib")
    detail = f"idle {idle / MIB:.1f}, in PUT {put_peak / MIB:.1f}, in GET {get_peak / MIB:.1f} MiB"
    growth = (max(put_peak, get_peak) - idle) / MIB
    return Line("MiB more of RssAnon in a PUT and a GET of 1 GiB", growth, GROWTH, detail, at_most=True)


def fitting(home: Path, uploads: int, size: int, volumes: int) -> int:
    """Bytes of each body, so that all of them have room."""
    room, stored = shutil.disk_usage(home).free, SPARE * uploads * (volumes / max(1, volumes - 1))
    while size > MIB and size * stored > room:
        size //= 2
    return size


def at_once(server: Server, payload: Payload, uploads: int, size: int, budget: int) -> Line:
    requests = [(url(server, "PUT", f"large-{number}"), ()) for number in range(uploads)]
    file, idle = payload.cut(size), server.anonymous_memory()
    most = peak(server, lambda: curl_put_at_once(requests, file))
    check_get(url(server, "GET", "large-0"), payload.digest(size))
    line = f"MiB of RssAnon, {uploads} uploads of {size // MIB} MiB at once, budget {budget // MIB} MiB"
    return Line(line, most / MIB, budget // MIB + SLACK, f"idle {idle / MIB:.0f} MiB", at_most=True)


def beside_stalled(server: Server, payload: Payload, uploads: int, size: int) -> Iterator[Line]:
    with stalled([url(server, "PUT", f"stalled-{number}") for number in range(uploads)], size):
        for name, few in OTHERS.items():
            seconds = curl_put([url(server, "PUT", f"small-{number}") for number in range(20)], payload.cut(few))
            line = f"seconds of the slowest of 20 PUTs of {name} beside {uploads} stalled uploads"
            detail = f"median {statistics.median(seconds) * 1e3:.1f} ms"
            yield Line(line, max(seconds), AT_ONCE, detail, at_most=True)


def many(home: Path, payload: Payload, uploads: int, size: int, budget: int, volumes: int) -> Iterator[Line]:
    """Bodies at once, then others beside stalled ones."""
    flags = ("--durability", "page-cache", "--memory-budget", f"{budget // MIB}MiB")
    with serving(home, "many", volumes, *flags) as server:
        yield at_once(server, payload, uploads, fitting(home, uploads, size, volumes), budget)
        yield from beside_stalled(server, payload, uploads, size)
    shutil.rmtree(home / "many")


@click.command(help=__doc__)
@click.option("--uploads", type=click.IntRange(1), default=UPLOADS, show_default=True)
@click.option("--mib", type=click.IntRange(1), default=256, show_default=True, help="Size of each upload.")
@click.option("--budget", type=click.IntRange(16), default=512, show_default=True, help="--memory-budget of the server, MiB.")
@click.option("--volumes", type=click.IntRange(1, 16), default=4, show_default=True)
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where the volumes are made.")
def main(uploads: int, mib: int, budget: int, volumes: int, directory: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="abixio-memory-", dir=directory) as place:
        home = Path(place)
        payload = random_file(home / "random", GIB)
        lines = [one_body(home, payload), *many(home, payload, uploads, mib * MIB, budget * MIB, volumes)]
    show(lines)
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
