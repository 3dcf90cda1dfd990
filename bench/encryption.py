"""What encryption costs: `python -m bench.encryption [--rounds 5] [--mib 256] [--volumes 1]`.

An object that is stored as it is and one that is encrypted take turns, so that a machine that is busy, or throttled, is so for
both; the figure is the median over the rounds of the ratio within a round. The bar: a GET of 256 MiB at 0.4 of the plain one.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from bench.load import Payload, check_get, curl_get, curl_put
from bench.server import BUCKET, running
from tests.server import Server

MIB: Final = 1 << 20
BAR: Final = 0.4
_KEY: Final = bytes(range(32))
_CUSTOMER: Final = "x-amz-server-side-encryption-customer-"
KINDS: Final[Mapping[str, tuple[dict[str, Any], list[str]]]] = {
    "SSE-S3": ({"ServerSideEncryption": "AES256"}, ["x-amz-server-side-encryption: AES256"]),
    "SSE-C": (
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": _KEY},
        [f"{_CUSTOMER}algorithm: AES256", f"{_CUSTOMER}key: {b64encode(_KEY).decode()}",
         f"{_CUSTOMER}key-MD5: {b64encode(hashlib.md5(_KEY, usedforsecurity=False).digest()).decode()}"],
    ),
}
"""How boto3 and curl ask for each of them."""


class Pair:
    """A plain object and an encrypted one of the same bytes, read or written in turn."""

    def __init__(self, server: Server, kind: str) -> None:
        self.wish, self.headers = KINDS[kind]
        self._client = server.client()

    def url(self, method: str, key: str, wish: Mapping[str, Any]) -> str:
        url: str = self._client.generate_presigned_url(method, Params={"Bucket": BUCKET, "Key": key, **wish})
        return url

    @property
    def reading(self) -> tuple[dict[str, Any], list[str]]:
        """What a GET of the encrypted one needs."""
        return (self.wish, self.headers) if "SSECustomerKey" in self.wish else ({}, [])

    def put(self, file: Path, encrypted: bool) -> float:
        wish, headers = (self.wish, self.headers) if encrypted else ({}, [])
        return curl_put([self.url("put_object", f"k{encrypted}", wish)], file, headers)[0]

    def get(self, size: int, encrypted: bool) -> float:
        wish, headers = self.reading if encrypted else ({}, [])
        return curl_get([self.url("get_object", f"k{encrypted}", wish)], size, headers)[0]

    def check(self, digest: str) -> None:
        check_get(self.url("get_object", "kTrue", self.reading[0]), digest, self.reading[1])

    def close(self) -> None:
        self._client.close()


def measure(server: Server, payload: Payload, size: int, rounds: int, table: Table) -> list[float]:
    """A row for each kind and direction; the ratios of the GETs."""
    file, ratios = payload.cut(size), []
    for kind in KINDS:
        pair = Pair(server, kind)
        pair.put(file, False)
        pair.put(file, True)
        pair.check(payload.digest(size))
        reads = [(pair.get(size, False), pair.get(size, True)) for _ in range(rounds)]
        writes = []
        for _ in range(rounds):
            os.sync()
            plain = pair.put(file, False)
            os.sync()
            writes.append((plain, pair.put(file, True)))
        pair.close()
        for name, seconds in (("GET", reads), ("PUT", writes)):
            ratio = statistics.median(plain / encrypted for plain, encrypted in seconds)
            speeds = [size / statistics.median(column) / 1e6 for column in zip(*seconds, strict=True)]
            table.add_row(f"{name} {kind}", f"{speeds[0]:,.0f}", f"{speeds[1]:,.0f}", f"{ratio:.2f}")
        ratios.append(statistics.median(plain / encrypted for plain, encrypted in reads))
    return ratios


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--mib", default=256, show_default=True)
@click.option("--volumes", default=1, show_default=True)
def main(rounds: int, mib: int, volumes: int) -> None:
    """Measure, print a table, and end with 1 when the bar is missed."""
    size = mib * MIB
    table = Table("", "plain MB/s", "encrypted MB/s", "ratio", title=f"{mib} MiB, {volumes} volumes, {rounds} rounds")
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "payload"
        path.write_bytes(os.urandom(size))
        with running(Path(home), volumes) as server:
            ratios = measure(server, Payload(path), size, rounds, table)
    Console().print(table)
    raise SystemExit(0 if min(ratios) >= BAR else 1)


if __name__ == "__main__":
    main()
