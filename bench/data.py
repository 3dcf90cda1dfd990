"""The data path, as ratios and as processor time of the server: `python -m bench.data [--rounds 5] [--only WORD]`.

What is compared takes turns within a round, so that a busy or throttled machine is so for all; a figure is the median over the
rounds of the ratio within a round. Beside each rate stands the processor time that the server took, all threads together: on a
machine with few cores the load client wants them too, and that figure says more than the rate.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from abixio.volume.local import LocalVolume
from bench.bench_l1_http import running as l1_running
from bench.lines import Line, ratio, show
from bench.load import Payload, check_get, curl_get, curl_put, random_file, wrk
from bench.server import BUCKET, presigned, raw_request, wrk_in_turn
from bench.stores import make_volume
from tests.server import Server, remove

KIB, MIB = 1 << 10, 1 << 20
LARGE: Final = 256 * MIB
STRIPE: Final = 4 * MIB
QUIET: Final = ["--log-level", "error"]


@dataclass
class Side:
    """One of those that are compared."""

    name: str
    pid: int
    work: Callable[[], float]
    """Does it once and says how many seconds that took."""
    seconds: list[float]
    spent: list[float]
    """Processor time of the server."""
    user: list[float]
    """As much of it as was spent outside of the kernel."""

    @classmethod
    def of(cls, name: str, pid: int, work: Callable[[], float]) -> Side:
        return cls(name, pid, work, [], [], [])

    def run(self) -> None:
        before, user = processor_time(self.pid), user_time(self.pid)
        self.seconds.append(self.work())
        self.spent.append(processor_time(self.pid) - before)
        self.user.append(user_time(self.pid) - user)

    def say(self, size: int) -> str:
        rate, gib = size / statistics.median(self.seconds) / 1e6, size / (1 << 30)
        spent, user = statistics.median(self.spent) / gib, statistics.median(self.user) / gib
        return f"{self.name} {rate:,.0f} MB/s, {spent:.2f} s/GiB ({user:.2f} user)"


def processor_time(pid: int) -> float:
    """Of all threads that live, in seconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def user_time(pid: int) -> float:
    """The same, outside of the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def in_turn(sides: list[Side], rounds: int) -> None:
    for _ in range(rounds):
        for side in sides:
            os.sync()
            side.run()


@contextmanager
def serving(home: Path, name: str, volumes: int, *flags: str) -> Iterator[Server]:
    """A server with a bucket, which has to end well."""
    base = home / name
    base.mkdir()
    server = Server([base / f"v{number}" for number in range(volumes)], base / "stderr", [*QUIET, *flags]).start()
    try:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield server
        if server.stop() != 0:
            raise AssertionError(server.stderr()[-4000:])
    finally:
        if server.process is not None:
            server.kill()


def url(server: Server, method: str, key: str) -> str:
    return presigned(server, method, key)[0]


def lose_data(server: Server, start: bytes) -> None:
    """Take the volume away that has the first data shard of the only object, which begins with `start`, and start again."""
    assert server.stop() == 0, server.stderr()
    for path in server.volumes:
        for shard in (path / "shards").glob("*/*"):
            with shard.open("rb") as file:
                if file.read(len(start)) == start:
                    remove(path)
                    server.start()
                    return
    raise AssertionError("no volume has the first shard")


# ---- big objects -----------------------------------------------------------------------------------------------------
def get_large(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """Through the transport alone, from one volume, from four, and from four less one."""
    file, digest = payload.cut(LARGE), payload.digest(LARGE)
    with ExitStack() as stack:
        l1 = stack.enter_context(l1_running("transport", str(payload.path)))
        servers = {
            name: stack.enter_context(serving(home, f"get{name}", volumes, "--durability", "page-cache"))
            for name, volumes in (("1", 1), ("3+1", 4), ("lost", 4))
        }
        for server in servers.values():
            curl_put([url(server, "PUT", "large")], file)
        lose_data(servers["lost"], file.open("rb").read(4 * KIB))
        check_get(f"{l1}/{LARGE}", digest)
        sides = [Side.of("L1", listener(l1), lambda: curl_get([f"{l1}/{LARGE}"], LARGE)[0])]
        for name, server in servers.items():
            target = url(server, "GET", "large")
            check_get(target, digest)
            sides.append(Side.of(name, server.pid, lambda target=target: curl_get([target], LARGE)[0]))  # type: ignore[misc]
        in_turn(sides, rounds)
    detail = "; ".join(side.say(LARGE) for side in sides)
    l1_side, one, four, lost = sides
    yield Line("GET 256 MiB, 1 volume / the transport alone", ratio(l1_side.seconds, one.seconds), 0.85, detail)
    yield Line("GET 256 MiB, 4 volumes 3+1 / 1 volume", ratio(one.seconds, four.seconds), 0.8, "")
    yield Line("GET 256 MiB, 3+1 with one volume lost / 1 volume", ratio(one.seconds, lost.seconds), 0.5, "")


def listener(base: str) -> int:
    """The process that listens at a URL on this machine."""
    port = f"{int(base.rsplit(':', 1)[1]):04X}"
    inodes = [row.split()[9] for row in Path("/proc/net/tcp").read_text().splitlines()[1:]
              if row.split()[1].endswith(f":{port}") and row.split()[3] == "0A"]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) == f"socket:[{inodes[0]}]" for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"nobody listens at {base}")


def written_in(l5: LocalVolume, number: int, data: memoryview) -> float:
    """Seconds for one shard file."""
    write_id = number.to_bytes(16, "big")
    begin = time.perf_counter()
    writer = l5.create_shard(write_id)
    for start in range(0, len(data), STRIPE):
        writer.write((data[start : start + STRIPE],))
    writer.finish(bytes(8 * (len(data) // (64 * KIB))), b"", bytes(32), False)
    seconds = time.perf_counter() - begin
    shard = l5.open_shard(write_id)
    if shard.view != data:
        raise AssertionError("the volume does not give back what was written")
    shard.close()
    l5.unlink((write_id,))
    return seconds


def put_large(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """Into the page cache, payload not signed."""
    file = payload.cut(LARGE)
    data = memoryview(file.read_bytes())
    with ExitStack() as stack:
        l1 = stack.enter_context(l1_running("transport", str(payload.path)))
        (home / "put").mkdir()
        l5 = stack.enter_context(closing(make_volume(home / "put" / "l5", 0, 1)))
        servers = {
            name: stack.enter_context(serving(home, f"put{name}", volumes, "--durability", "page-cache"))
            for name, volumes in (("1", 1), ("3+1", 4))
        }
        numbers = iter(range(1, 1000))
        sides = [
            Side.of("L1", listener(l1), lambda: curl_put([f"{l1}/put"], file)[0]),
            Side.of("L5", os.getpid(), lambda: written_in(l5, next(numbers), data)),
        ]
        for name, server in servers.items():
            target = url(server, "PUT", "large")
            sides.append(Side.of(name, server.pid, lambda target=target: curl_put([target], file)[0]))  # type: ignore[misc]
        in_turn(sides, rounds)
        for server in servers.values():
            check_get(url(server, "GET", "large"), payload.digest(LARGE))
    detail = "; ".join(side.say(LARGE) for side in sides)
    transport, disk, one, four = sides
    slower = [max(pair) for pair in zip(transport.seconds, disk.seconds, strict=True)]
    yield Line("PUT 256 MiB, 1 volume / the slower of transport and disk", ratio(slower, one.seconds), 0.7, detail)
    yield Line("PUT 256 MiB, 4 volumes 3+1 / the same", ratio(slower, four.seconds), 0.5, "")


# ---- small ones ------------------------------------------------------------------------------------------------------
def get_64k(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """What four volumes cost more than one where shards are files, with all in the page cache."""
    size = 64 * KIB
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(home, f"small{name}", volumes, "--durability", "page-cache"))
            for name, volumes in (("1", 1), ("3+1", 4), ("lost", 4))
        }
        for server in servers.values():
            curl_put([url(server, "PUT", "small")], payload.cut(size))
        lose_data(servers["lost"], payload.cut(size).read_bytes()[:4 * KIB])
        spent: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                target, before = url(server, "GET", "small"), processor_time(server.pid)
                check_get(target, payload.digest(size))
                requests = wrk(target).requests
                spent[name].append((processor_time(server.pid) - before) / requests)
    detail = "; ".join(f"{name} {statistics.median(found) * 1e6:,.0f} us of processor each" for name, found in spent.items())
    yield Line("GET 64 KiB, 16 connections: processor time of 1 volume / of 3+1", ratio(spent["1"], spent["3+1"]), None, detail)


def put_synced(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """Small objects in mode fsync from 64 clients at once, against one loop that appends and syncs."""
    size, seconds = 4 * KIB, 2
    body = payload.cut(size).read_bytes()
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serving(home, f"synced{name}", volumes)) for name, volumes in (("1", 1), ("3+1", 4))}
        requests = {
            name: [raw_request("PUT", target, {}, body) for target in presigned(server, "PUT", *(f"o{n}" for n in range(1024)))]
            for name, server in servers.items()
        }
        rates: dict[str, list[float]] = {"loop": [], **{name: [] for name in servers}}
        for _ in range(rounds):
            os.sync()
            rates["loop"].append(appended(home / "appended", body, seconds))
            for name, server in servers.items():
                rate = wrk_in_turn(server.url, requests[name], seconds, 64)
                rates[name].append(rate.requests / rate.seconds)
        for server in servers.values():
            check_get(url(server, "GET", "o1"), payload.digest(size))
    detail = "; ".join(f"{name} {statistics.median(found):,.0f}/s" for name, found in rates.items())
    yield Line("PUT 4 KiB, fsync, 64 connections, 1 volume / appends with fdatasync", ratio(rates["1"], rates["loop"]), 2, detail)
    yield Line("the same, 4 volumes 3+1", ratio(rates["3+1"], rates["loop"]), None, "")


def appended(path: Path, body: bytes, seconds: float) -> float:
    """Appends per second, each synced."""
    count, end = 0, time.monotonic() + seconds
    with path.open("wb", buffering=0) as file:
        while time.monotonic() < end:
            file.write(body)
            os.fdatasync(file.fileno())
            count += 1
    path.unlink()
    return count / seconds


def put_md5(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """Sixteen uploads at once with real MD5, which their lanes hash together, against one after the other."""
    file, clients = payload.cut(32 * MIB), 16
    with serving(home, "md5", 1, "--durability", "page-cache", "--etag", "md5") as server:
        targets = [url(server, "PUT", f"o{number}") for number in range(clients)]

        def together() -> float:
            begin = time.perf_counter()
            with ThreadPoolExecutor(clients) as executor:
                list(executor.map(lambda target: curl_put([target], file), targets))
            return time.perf_counter() - begin

        sides = [
            Side.of("one by one", server.pid, lambda: sum(curl_put(targets, file))),
            Side.of("16 at once", server.pid, together),
        ]
        in_turn(sides, rounds)
        check_get(url(server, "GET", "o3"), payload.digest(32 * MIB))
    alone, at_once = sides
    detail = "; ".join(side.say(clients * 32 * MIB) for side in sides)
    yield Line("PUT 32 MiB with MD5: user time one by one / 16 at once", ratio(alone.user, at_once.user), None, detail)


LINES: Final = {"get": get_large, "put": put_large, "get64k": get_64k, "fsync": put_synced, "md5": put_md5}


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--only", type=click.Choice(sorted(LINES)), multiple=True, help="Measure these alone.")
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where the volumes are made, 4 GiB.")
def main(rounds: int, only: tuple[str, ...], directory: str | None) -> None:
    """Measure, print, and end with status 1 when a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="abixio-data-", dir=directory) as home:
        payload = random_file(Path(home) / "random", LARGE)
        lines = [line for name in only or LINES for line in LINES[name](Path(home), payload, rounds)]
    show(lines)
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
