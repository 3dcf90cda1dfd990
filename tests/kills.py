"""Kill -9 under load, again and again: `python -m tests.kills --rounds 1000`.

Every round starts the server (and now and then kills it while it starts), holds every key against the ledger, lets eight
writers work until at least 20 more writes are acknowledged, and kills it at some moment after that. Rounds alternate
between the two durability modes. At the end everything is settled and scanned, read once more, and counted offline.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests import census
from tests.ledger import Ledger
from tests.load import BUCKET, Surprise, Writer, verify
from tests.rawclient import RawClient
from tests.server import ACCESS, Server

WRITERS = 8
KEYS = 6
QUOTA = 20
"""Acknowledged writes in each round, at least."""
START_KILLED = 0.1
"""How often the server is killed while it starts, too."""
PATIENCE = 60.0
"""Seconds until the quota of a round must be reached."""


@dataclass
class Report:
    """What a run did, and what it found."""

    seed: int
    rounds: int = 0
    kills: int = 0
    kills_while_starting: int = 0
    workers_killed: int = 0
    acknowledged: int = 0
    fewest_in_a_round: int = 0
    cut_writes: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    bytes_written: int = 0
    reads_verified: int = 0
    bytes_verified: int = 0
    lost: int = 0
    wrong: int = 0
    files: int = 0
    orphans_before_scan: int = 0
    orphans: int = 0
    missing_files: int = 0
    uneven_keys: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        width = max(map(len, asdict(self)))
        lines = (f"  {name.replace('_', ' '):<{width}}  {_shown(value)}" for name, value in asdict(self).items())
        return "\n".join(("kill -9 under load", *lines))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in sorted(value.items()))
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


class Kills:
    """A server, its ledger, and the rounds."""

    def __init__(self, server: Server, ledger: Path, seed: int) -> None:
        self.server = server
        self.ledger = Ledger(ledger)
        self.random = random.Random(seed)
        self.report = Report(seed)
        self._counts: Counter[str] = Counter()
        self._plain = list(server.command)
        self._ftts = "".join(str(ftt) for ftt in range(len(server.volumes)))
        self._keys = [[f"{writer}/{key}" for key in range(KEYS)] for writer in range(WRITERS)]

    def run(self, rounds: int, progress: bool = False) -> Report:
        """All rounds and the end. Lost and Surprise, whatever is wrong."""
        began = time.monotonic()
        for number in range(rounds):
            self.round(number)
            if progress and (number + 1) % 10 == 0:
                rate = (time.monotonic() - began) / (number + 1)
                print(f"{number + 1} rounds, {self.ledger.acknowledged} writes acknowledged, {rate:.2f} s a round", flush=True)
        self.end()
        self.report.seconds = time.monotonic() - began
        return self.report

    def round(self, number: int) -> None:
        self.server.command = self._plain + (["--durability", "page-cache"] if number % 2 else [])
        if self.random.random() < START_KILLED:
            self._kill_while_it_starts()
        self.server.start()
        self.check()
        before = self.ledger.acknowledged
        if self.server.workers and number // 2 % 2:
            self._kill_one()
        self._load(self.random.randrange(QUOTA, 3 * QUOTA), self.random.uniform(0, 0.02))
        report, done = self.report, self.ledger.acknowledged - before
        report.kills += 1
        report.rounds += 1
        report.acknowledged = self.ledger.acknowledged
        report.fewest_in_a_round = min(done, report.fewest_in_a_round or done)

    def check(self) -> None:
        """Every key against the ledger."""
        with RawClient(self.server.port) as client:
            if not self.report.rounds:
                client.call("PUT", BUCKET)
            keys = self.ledger.keys
            self.report.bytes_verified += verify(client, self.ledger, keys)
            self.report.reads_verified += len(keys)

    def _load(self, quota: int, longer: float) -> None:
        """Writers until so many writes are acknowledged and a moment more, then kill -9."""
        port = self.server.port
        until = self.ledger.acknowledged + quota
        writers = [Writer(self.ledger, keys, self.random.random(), lambda: port, ftts=self._ftts) for keys in self._keys]
        for writer in writers:
            writer.start()
        late = time.monotonic() + PATIENCE
        while self.ledger.acknowledged < until and time.monotonic() < late and all(w.error is None for w in writers):
            time.sleep(0.001)
        time.sleep(longer)
        died = self.server.process is not None and self.server.process.poll() is not None
        self.server.kill()
        for writer in writers:
            writer.join()
            if writer.error is not None:
                raise writer.error
            self._counts += writer.counts
            self.report.bytes_written += writer.sent
        if died:
            raise Surprise(f"the server ended by itself:\n{self.server.stderr()[-4000:]}")
        if self.ledger.acknowledged < until:
            raise Surprise(f"fewer than {quota} writes in {PATIENCE:.0f} seconds")
        self.report.cut_writes = self._counts["cut"]
        self.report.operations = {name: count for name, count in self._counts.items() if name != "cut"}

    def _kill_one(self) -> None:
        """Writers that go on when a worker is killed under them, runner or not; then every key once more."""
        port, until = self.server.port, self.ledger.acknowledged + 2 * QUOTA
        writers = [
            Writer(self.ledger, keys, self.random.random(), lambda: port, again=True, ftts=self._ftts) for keys in self._keys
        ]
        for writer in writers:
            writer.start()
        time.sleep(self.random.uniform(0, 0.3))
        os.kill(self.random.choice(self.server.workers), signal.SIGKILL)
        late = time.monotonic() + PATIENCE
        while self.ledger.acknowledged < until and time.monotonic() < late and all(w.error is None for w in writers):
            time.sleep(0.001)
        for writer in writers:
            writer.stop()
        for writer in writers:
            writer.join()
            if writer.error is not None:
                raise writer.error
        if self.ledger.acknowledged < until:
            raise Surprise(f"fewer than {2 * QUOTA} writes in {PATIENCE:.0f} seconds with a worker killed")
        self.report.workers_killed += 1
        self.check()

    def _kill_while_it_starts(self) -> None:
        """At any moment of a start: before anything is opened, during recovery, or when it serves already."""
        self.server.launch()
        time.sleep(self.random.uniform(0.1, 0.7))
        self.server.kill()
        self.report.kills_while_starting += 1

    # ---- the end -----------------------------------------------------------------------------------------------------
    def end(self) -> None:
        """Settle, scan, read everything once more, stop in good order and count."""
        self.server.command = list(self._plain)
        self.server.start()
        settle(self.server)
        self.report.orphans_before_scan = len(census.take(self.server.volumes).orphans)
        self.server.start()
        scan(self.server)
        self.check()
        settle(self.server)
        found = census.take(self.server.volumes)
        self.report.files, self.report.orphans = found.files, len(found.orphans)
        self.report.missing_files, self.report.uneven_keys = len(found.missing), len(found.uneven)
        self.ledger.close()


def settle(server: Server, passes: int = 10) -> None:
    """Let a running server work until nothing is left to settle; ends with it stopped. Surprise."""
    for number in range(passes):
        if number:
            server.start()
        time.sleep(1.5)
        if server.stop(within=PATIENCE) != 0:
            raise Surprise(f"the server did not stop in good order:\n{server.stderr()[-4000:]}")
        if census.take(server.volumes).at_rest:
            return
    raise Surprise(f"does not come to rest: {census.take(server.volumes)}")


def scan(server: Server, access: str = ACCESS, seconds: float = 600.0) -> None:
    """A full pass of the scanner, to its end. Surprise."""
    with RawClient(server.port, seconds, access) as client:
        answer = client.call("POST", "_admin/v1/scan")
        if answer.status not in (200, 202):
            raise Surprise(f"scan: {answer.status} {answer.body[:500]!r}")
        job, deadline = json.loads(answer.body)["job"], time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = json.loads(client.call("GET", f"_admin/v1/jobs/{job}").body)
            if state["state"] == "done":
                return
            if state["state"] not in ("running", "waiting"):
                raise Surprise(f"scan: {state}")
            time.sleep(0.1)
        raise Surprise(f"no end of the scan in {seconds} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="of several, one is killed first in every other pair of rounds")
    parser.add_argument("--directory", type=Path, help="where the volumes are made; default: a temporary directory")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="kills-", dir=given.directory))
    server = Server([home / f"v{number}" for number in range(given.volumes)], home / "log", ["--workers", str(given.workers)])
    kills = Kills(server, home / "ledger", given.seed)
    print(f"seed {given.seed}, in {home}", flush=True)
    try:
        kills.run(given.rounds, progress=True)
    except BaseException:
        if server.process is not None:
            server.kill()
        print(kills.report, file=sys.stderr)
        print(f"FAILED; everything is left in {home}", file=sys.stderr)
        raise
    print(kills.report)
    found = kills.report
    shutil.rmtree(home)
    return 1 if found.orphans or found.missing_files or found.uneven_keys else 0


if __name__ == "__main__":
    sys.exit(main())
