"""Memory under many uploads at once: `python -m bench.memory [--uploads 64] [--mib 256] [--budget 128]`.

First, the server's anonymous memory (RssAnon) at its peak while that many bodies are uploaded at the same time, as fast as the
server takes them: bar, the memory budget plus 100 MiB. Then as many uploads that have begun and send next to nothing: while they
hold what memory they got, small and middling PUTs of others must be answered at once.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from bench.bars import peak, random_file
from bench.data import KIB, MIB, serving, url
from bench.load import Payload, check_get, curl_put, tool
from tests.server import Server

SLACK: Final = 100
"""MiB beyond the budget."""
BEGUN: Final = 64 * KIB
"""Bytes that a stalled upload has sent."""
AT_ONCE: Final = 5.0
"""Seconds: without a share of their own, those PUTs would wait for 30 and get SlowDown."""
OTHERS: Final = {"1 KiB": KIB, "1 MiB": MIB}


def upload_all(urls: list[str], file: Path) -> None:
    """All of them at the same time."""
    command = [tool("curl"), "--silent", "--show-error", "--fail", "--output", "/dev/null", "--upload-file", str(file)]
    running = [subprocess.Popen([*command, url], stderr=subprocess.PIPE) for url in urls]
    failed = [process.communicate()[1] for process in running if process.wait()]
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(urls)} uploads failed: {failed[0].decode()}")


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


def at_once(server: Server, payload: Payload, uploads: int, size: int, budget: int) -> bool:
    urls = [url(server, "PUT", f"large-{number}") for number in range(uploads)]
    file, idle = payload.cut(size), server.anonymous_memory()
    most = peak(server, lambda: upload_all(urls, file))
    check_get(url(server, "GET", "large-0"), payload.digest(size))
    good = most <= budget + SLACK * MIB
    click.echo(
        f"{uploads} uploads of {size // MIB} MiB at once, budget {budget // MIB} MiB: RssAnon {most / MIB:.0f} MiB at its peak, "
        f"idle {idle / MIB:.0f}; bar {budget // MIB + SLACK}: {'reached' if good else 'MISSED'}"
    )
    return good


def beside_stalled(server: Server, payload: Payload, uploads: int, size: int) -> bool:
    good = True
    with stalled([url(server, "PUT", f"stalled-{number}") for number in range(uploads)], size):
        for name, few in OTHERS.items():
            seconds = curl_put([url(server, "PUT", f"small-{number}") for number in range(20)], payload.cut(few))
            good &= max(seconds) < AT_ONCE
            click.echo(f"PUT of {name} beside {uploads} stalled uploads: {statistics.median(seconds) * 1e3:.1f} ms, slowest "
                       f"{max(seconds) * 1e3:.1f}; bar {AT_ONCE:.0f} s: {'reached' if max(seconds) < AT_ONCE else 'MISSED'}")
    return good


@click.command()
@click.option("--uploads", type=click.IntRange(1), default=64, show_default=True)
@click.option("--mib", type=click.IntRange(1), default=256, show_default=True, help="Size of each upload.")
@click.option("--budget", type=click.IntRange(16), default=512, show_default=True, help="--memory-budget of the server, MiB.")
@click.option("--volumes", type=click.IntRange(1, 16), default=4, show_default=True)
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where the volumes are made.")
def main(uploads: int, mib: int, budget: int, volumes: int, directory: str | None) -> None:
    """Measure, print, and end with status 1 when a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="abixio-memory-", dir=directory) as home:
        payload = random_file(Path(home) / "random", max(mib, 16) * MIB)
        flags = ("--durability", "page-cache", "--memory-budget", f"{budget}MiB")
        with serving(Path(home), "memory", volumes, *flags) as server:
            good = at_once(server, payload, uploads, mib * MIB, budget * MIB)
            good &= beside_stalled(server, payload, uploads, mib * MIB)
    sys.exit(not good)


if __name__ == "__main__":
    main()
