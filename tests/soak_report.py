"""What a soak reports, and the readers that watch it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.ledger import Ledger
from tests.load import BUCKET, MIB, Surprise, connect, listed, read, read_range
from tests.rawclient import RawClient, Refused, Unknown
from tests.server import Server


@dataclass
class Report:
    """One page."""

    seed: int
    volumes: int
    disks: str
    seconds: float = 0.0
    operations: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    acknowledged: int = 0
    written: int = 0
    verified: int = 0
    keys_verified: int = 0
    restarts_needed: list[str] = field(default_factory=list)
    """Faults after which the store came to rest only when the server was restarted."""
    slowest_rest: tuple[float, str] = (0.0, "")
    unsound: int = 0
    orphans: int = 0
    missing: int = 0
    uneven: int = 0
    failure: str = ""

    def __str__(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items())) or "none"

        lost = "0" if not self.failure else f"SEE BELOW\n\n{self.failure}"
        return "\n".join((
            "abixio soak",
            f"  seed              {self.seed}, {self.seconds:.0f} s, {self.volumes} volumes on {self.disks}",
            f"  operations        {counts(self.operations)}",
            f"  acknowledged      {self.acknowledged:,} writes, {self.written / MIB:,.0f} MiB",
            f"  refused           {counts(self.refusals)}",
            f"  reads             {counts(self.reads)}",
            f"  faults            {counts(self.faults)}",
            f"  left out          {'; '.join(self.left_out) or 'nothing'}",
            f"  restart needed    {', '.join(self.restarts_needed) or 'never'}",
            f"  slowest to rest   {self.slowest_rest[0]:.1f} s, after {self.slowest_rest[1]}",
            f"  verified          {self.keys_verified:,} keys, {self.verified / MIB:,.0f} MiB",
            f"  unsound shards    {self.unsound} after a scan",
            f"  orphans           {self.orphans} after a scan",
            f"  files missing     {self.missing}",
            f"  rows that differ  {self.uneven}",
            f"  lost, wrong       {lost}",
        ))

    @property
    def good(self) -> bool:
        return not (self.failure or self.missing or self.uneven or self.orphans or self.unsound)


class Reader(threading.Thread):
    """Reads whatever there is, whole, in ranges and as listings, and holds it against the ledger."""

    def __init__(self, ledger: Ledger, seed: float, server: Server) -> None:
        super().__init__(name="reader")
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.error: BaseException | None = None
        self._ledger, self._random, self._server = ledger, random.Random(seed), server
        self._access = server.env["ABIXIO_ACCESS_KEY"]
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            while (client := connect(lambda: self._server.port, self._stopping, 60.0, self._access)) is not None:
                try:
                    while not self._stopping.is_set():
                        self._one(client)
                except (Unknown, Refused):
                    self.counts["cut"] += 1
                finally:
                    client.close()
        except BaseException as error:
            self.error = error

    def _one(self, client: RawClient) -> None:
        keys = self._ledger.keys
        time.sleep(0.005 if keys else 0.1)
        if not keys:
            return
        dice, key = self._random.random(), self._random.choice(keys)
        if dice < 0.1:
            self._list(client, keys)
            return
        if dice < 0.4:
            answer = read_range(client, self._ledger, key, self._random)
        else:
            answer, _ = read(client, self._ledger, key)
        if answer.status not in (200, 206, 404, 412, 503):
            raise Surprise(f"GET {key}: {answer.status} {answer.code}")
        self.counts["refused 503" if answer.status == 503 else "objects" if dice >= 0.4 else "ranges"] += 1
        self.bytes += len(answer.body)

    def _list(self, client: RawClient, keys: Sequence[str]) -> None:
        before = {key: self._ledger.before(key) for key in keys}
        probe = client.call("GET", BUCKET, query={"list-type": "2", "max-keys": "1"})
        if probe.status == 503:
            self.counts["lists refused"] += 1
            return
        try:
            self._ledger.check_listing(listed(client, self._random.choice((3, 10, 1000))), before)
        except Surprise as error:
            if "503" not in str(error):
                raise
            self.counts["lists refused"] += 1
            return
        self.counts["lists"] += 1
