"""How fast an emptied volume is refilled: `python -m bench.refill [--mib 256] [--home DIR] [--json FILE]`.

Four volumes, objects of 1 MiB on 3 + 1, mode fsync. Idle: the rate of shard bytes put back, against the rate at which the same
shard files are copied one after another with one fsync each. Under load: the 99th percentile of GETs of 64 KiB over 16
connections, while the refill runs and with the whole pool at rest; it may double at most. The rate beside it is what is left for
the refill. Everything is in the page cache for all who are compared, as far as memory allows; what they write is on the disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from bench.load import LoadFailed, tool
from bench.server import BUCKET, presigned, raw_request
from tests.server import Server

KIB, MIB = 1 << 10, 1 << 20
VOLUMES: Final = 4
VICTIM: Final = 2
SMALL: Final = 64 * KIB
HOT: Final = 200
"""Small objects that are read in turn."""
CONNECTIONS: Final = 16
SLICE: Final = 2
"""Seconds of load between two looks whether the refill still runs."""
LIMIT: Final = 3600.0


class Pool:
    """A server over four directories, and the disk that is lost again and again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = Server([home / f"v{slot}" for slot in range(VOLUMES)], home / "stderr", ["--durability", "fsync"])
        self.volume = self.server.volumes[VICTIM]
        self.aside = home / "aside"

    def load(self, mib: int) -> None:
        """Store the objects."""
        self.server.start()
        client = self.server.client(max_pool_connections=8)
        client.create_bucket(Bucket=BUCKET)
        with ThreadPoolExecutor(4) as threads:
            big = [threads.submit(client.put_object, Bucket=BUCKET, Key=f"big/{n}", Body=os.urandom(MIB)) for n in range(mib)]
            hot = [threads.submit(client.put_object, Bucket=BUCKET, Key=f"hot/{n}", Body=os.urandom(SMALL)) for n in range(HOT)]
            for done in big + hot:
                done.result()
        client.close()
        time.sleep(2)  # until all of it is settled
        self.stop()

    def stop(self) -> None:
        if self.server.stop() != 0:
            raise LoadFailed(f"the server did not end well: {self.server.stderr()[-4000:]}")

    def lose(self) -> None:
        """Empty the volume."""
        shutil.rmtree(self.volume)
        self.volume.mkdir()
        os.sync()

    @property
    def refills(self) -> list[tuple[float, float]]:
        """(MiB, seconds) of each refill so far, as the log has them."""
        found = re.findall(r"volume \d is whole again:.*\(([\d.]+) MiB\) in ([\d.]+) s", self.server.stderr())
        return [(float(size), float(seconds)) for size, seconds in found]

    @contextmanager
    def refilling(self) -> Iterator[int]:
        """The server with an empty volume, from its first moment; gives how many refills there were before."""
        self.lose()
        before = len(self.refills)
        self.server.start()
        try:
            yield before
        finally:
            self.stop()


def copied(files: list[Path], target: Path) -> float:
    """Seconds to copy them one after another, each with an fsync."""
    target.mkdir()
    os.sync()
    start = time.perf_counter()
    for path in files:
        data = path.read_bytes()
        with open(target / path.name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def idle(pool: Pool) -> dict[str, float]:
    """Refill and copy, in turn."""
    files = sorted(path for path in (pool.volume / "shards").rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    shutil.copytree(pool.volume / "shards", pool.aside)
    kept = sorted(path for path in pool.aside.rglob("*") if path.is_file())
    rates: dict[str, list[float]] = {"copy": [], "refill": []}
    for _ in range(2):
        rates["copy"].append(size / copied(kept, pool.home / "copy") / MIB)
        with pool.refilling() as before:
            start = time.monotonic()
            while len(pool.refills) == before:
                if time.monotonic() - start > LIMIT:
                    raise LoadFailed(f"no end of the refill: {pool.server.stderr()[-4000:]}")
                time.sleep(0.02)
            mib, seconds = pool.refills[-1]
            rates["refill"].append(mib / seconds)
    shutil.rmtree(pool.aside)
    copy, refill = max(rates["copy"]), max(rates["refill"])
    return {"files": len(files), "MiB": size / MIB, "copy MiB/s": copy, "refill MiB/s": refill, "ratio": refill / copy}


def latency(pool: Pool) -> tuple[float, float]:
    """Milliseconds of the slowest hundredth of GETs, and GETs per second."""
    requests = pool.home / "requests"
    script = Path(__file__).with_name("requests.lua")
    urls = presigned(pool.server, "GET", *(f"hot/{n}" for n in range(HOT)))
    requests.write_bytes(b"".join(b"%d\n" % len(raw) + raw for raw in (raw_request("GET", url, {}, b"") for url in urls)))
    flags = ["-t1", f"-c{CONNECTIONS}", f"-d{SLICE}s", "--latency", "--timeout", "30s", "-s", str(script)]
    command = [tool("wrk"), *flags, pool.server.url, "--", str(requests)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s)", result.stdout)
    total = re.search(r"total (\d+) us, (\d+) requests, (\d+) failed", result.stdout)
    if slow is None or total is None or int(total[3]):
        raise LoadFailed(result.stdout + result.stderr)
    return float(slow[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[slow[2]], int(total[2]) / int(total[1]) * 1e6


def loaded(pool: Pool, seconds: float) -> dict[str, float]:
    """GETs with the pool at rest, then while it is refilled; for so long each."""
    pool.server.start()
    rest = [latency(pool) for _ in range(max(3, int(seconds / SLICE)))]
    pool.stop()
    during: list[tuple[float, float]] = []
    with pool.refilling() as before:
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            found = latency(pool)
            if len(pool.refills) > before:
                break
            during.append(found)
        over = len(pool.refills) > before
        mib, took = pool.refills[-1] if over else (written(pool), time.monotonic() - start)
    if not during:
        raise LoadFailed("the refill was over before a single look at the load; use more data")
    p99 = [statistics.median(slow for slow, _ in some) for some in (rest, during)]
    rate = [statistics.median(rate for _, rate in some) for some in (rest, during)]
    return {
        "p99 at rest ms": p99[0], "p99 during refill ms": p99[1], "p99 ratio": p99[1] / p99[0], "GET/s at rest": rate[0],
        "GET/s during refill": rate[1], "refill MiB/s under load": mib / took,
    }


def written(pool: Pool) -> float:
    """MiB of shard files on the volume."""
    return sum(path.stat().st_size for path in (pool.volume / "shards").rglob("*") if path.is_file()) / MIB


@click.command()
@click.option("--mib", default=256, show_default=True, help="Objects of 1 MiB.")
@click.option("--seconds", default=10.0, show_default=True, help="Of load, at rest and during the refill.")
@click.option("--home", type=click.Path(path_type=Path), default=None, help="Where to make the volumes.")
@click.option("--json", "file", type=click.Path(path_type=Path), default=None, help="Write the figures there too.")
def main(mib: int, seconds: float, home: Path | None, file: Path | None) -> None:
    """Measure, print, and end with status 1 when a ratio is not reached."""
    with tempfile.TemporaryDirectory(dir=home) as root:
        pool = Pool(Path(root))
        try:
            pool.load(mib)
            figures: dict[str, Any] = {"objects": mib}
            measures: tuple[Callable[[], dict[str, float]], ...] = (lambda: idle(pool), lambda: loaded(pool, seconds))
            for measure in measures:
                for name, value in measure().items():
                    figures[name] = value
                    click.echo(f"{name:28} {value:12.2f}")
        finally:
            if pool.server.process is not None:
                pool.server.kill()
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
    if figures["ratio"] < 0.4 or figures["p99 ratio"] > 2:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
