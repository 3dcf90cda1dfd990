"""Any volumes of a pool, hurt in any way, before the start or while a real server runs: up to the FTT of an object everything
reads right, writes go as the quorum says, and after repair all is whole again; beyond it there is an error, never a wrong byte.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from abixio.admin.client import Client
from abixio.credentials import Credentials
from tests.disks import Disk, LoopDisk, make_disks, why_no_loops
from tests.e2e import MIB, got, outcome, read, shards
from tests.server import ACCESS, ROOT, SECRET, Server, bring_back, empty, environment, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SIZES = {"empty": 0, "small": 1000, "medium": 100_000, "large": 5 * MIB + 123}
RANGES = ((0, 0), (500, 999), (2 * MIB - 10, 2 * MIB + 10), (3 * MIB - 1, 3 * MIB), (5 * MIB, 5 * MIB + 122))
KINDS = ("removed", "emptied", "data", "footer", "catalog", "read-only", "full")
DISKS = frozenset({"read-only", "full"})
"""What takes a disk of its own."""
PATIENCE = 90.0
QUICK = frozenset({
    (4, (0, 1), "data", True), (4, (1, 3), "catalog", False), (3, (1,), "full", False),
})
"""The sample for every run; all others with `-m slow`."""


def cases() -> list[Any]:
    found = []
    for n in (2, 3, 4):
        for count in range(1, n):
            for hurt in itertools.combinations(range(n), count):
                for kind, running in itertools.product(KINDS, (False, True)):
                    case = (n, hurt, kind, running)
                    name = f"{n}-{''.join(map(str, hurt))}-{kind}-{'running' if running else 'stopped'}"
                    found.append(pytest.param(*case, id=name, marks=[] if case in QUICK else pytest.mark.slow))
    return found


@dataclass
class Site:
    """A server over disks that can be hurt, and what must be on it."""

    n: int
    disks: list[Disk]
    server: Server
    bodies: dict[str, bytes] = field(default_factory=dict)
    unknown: dict[str, set[bytes | None]] = field(default_factory=dict)
    """What may be there of keys whose last write was answered 500: all of it or nothing, as is decided later."""

    @property
    def volumes(self) -> list[Path]:
        return self.server.volumes

    def fill(self) -> None:
        s3 = self.server.client()
        s3.create_bucket(Bucket="bucket")
        for ftt, (name, size) in itertools.product(range(self.n), SIZES.items()):
            for action in ("", "overwrite-", "delete-"):
                if action and name == "empty":
                    continue
                key = f"{ftt}/{action}{name}"
                self.bodies[key] = random.Random(key).randbytes(size)
                s3.put_object(Bucket="bucket", Key=key, Body=self.bodies[key], Metadata={"ec-ftt": str(ftt)})
        s3.close()

    # ---- reading -----------------------------------------------------------------------------------------------------
    def check(self, hurt: int, exact: bool) -> None:
        """Objects whose FTT covers the harm are right, in ranges too. The others are an error, or where the harm need not
        have hit them (not `exact`) perhaps right; never wrong."""
        s3 = self.server.client()
        for key, body in self.bodies.items():
            if int(key[0]) >= hurt:
                assert s3.head_object(Bucket="bucket", Key=key)["ContentLength"] == len(body), key
                assert read(s3, key) == body, key
                for first, last in RANGES:
                    if last < len(body):
                        assert read(s3, key, Range=f"bytes={first}-{last}") == body[first : last + 1], (key, first)
                continue
            got = self._read_or_error(s3, key)
            assert got is None or (got == body and (not exact or not body)), key
        if hurt <= self.n // 2:
            found = [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]]
            assert [key for key in found if key not in self.unknown] == sorted(self.bodies)
        s3.close()

    @staticmethod
    def _read_or_error(s3: S3Client, key: str) -> bytes | None:
        try:
            return read(s3, key)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status < 500:
                raise
        except (BotoCoreError, HTTPError):
            pass  # cut in the middle: the head was out already
        return None

    # ---- writing -----------------------------------------------------------------------------------------------------
    def write(self, able: int) -> None:
        """Overwrites, new objects and deletes, with `able` volumes that can take them: done as the quorum says, or not at all."""
        s3 = self.server.client()
        h = self.n // 2 + 1
        for ftt, name in itertools.product(range(self.n), ("small", "medium")):
            w = max(self.n - ftt, h, 1 + ftt)
            key, body = f"{ftt}/overwrite-{name}", random.Random(f"new{ftt}{name}").randbytes(SIZES[name] + 1)
            status = outcome(lambda k=key, b=body, f=ftt: s3.put_object(  # type: ignore[misc]
                Bucket="bucket", Key=k, Body=b, Metadata={"ec-ftt": str(f)}
            ))
            self._judge(key, status, able >= w, body)
            key = f"{ftt}/delete-{name}"
            status = outcome(lambda k=key: s3.delete_object(Bucket="bucket", Key=k))  # type: ignore[misc]
            self._judge(key, status, able >= max(h, 1 + ftt), None)
        s3.close()

    def _judge(self, key: str, status: int, must: bool, body: bytes | None) -> None:
        assert status == 200 if must else status in (200, 500, 503, 507), (key, status, must)
        if status == 500:
            self.unknown[key] = {self.bodies.pop(key), body}
        elif status == 200 and body is not None:
            self.bodies[key] = body
        elif status == 200:
            del self.bodies[key]

    def decided(self) -> None:
        """What was unknown is all there or not at all."""
        s3 = self.server.client()
        for key, choices in self.unknown.items():
            deadline = time.monotonic() + PATIENCE
            while (status := got(s3, key)) == 503 and time.monotonic() < deadline:
                time.sleep(0.2)
            assert (read(s3, key) if status == 200 else None) in choices, (key, status)
        s3.close()

    # ---- repair ------------------------------------------------------------------------------------------------------
    def whole(self, least: int) -> None:
        """Wait until every object of that FTT and above is whole on all volumes."""
        admin = Client(self.server.url, Credentials(ACCESS, SECRET))
        deadline = time.monotonic() + PATIENCE
        rest = [key for key in self.bodies if int(key[0]) >= least]
        while rest := [key for key in rest if not admin.get("inspect", bucket="bucket", key=key)["versions"][0]["whole"]]:
            assert time.monotonic() < deadline, (rest, self.server.stderr()[-3000:])
            time.sleep(0.2)

    def heal(self) -> None:
        """Read everything and make again what is bad."""
        Client(self.server.url, Credentials(ACCESS, SECRET)).post("heal", {"bucket": "bucket", "prefix": ""})

    def rebuild_catalogs(self) -> None:
        command = [
            sys.executable, "-m", "abixio", "fsck", "--volumes", ",".join(map(str, self.volumes)), "--repair",
            "--rebuild-catalog", "auto",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=120)
        assert done.returncode in (0, 1), done.stderr + done.stdout


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[int, str], Site]]:
    made: list[Site] = []

    def make(n: int, kind: str) -> Site:
        disks: list[Disk] = [Disk(tmp_path, number) for number in range(n)]
        if kind in DISKS:
            disks, reason = make_disks(tmp_path, n)
            if reason:
                pytest.skip(reason)
        site = Site(n, disks, Server([disk.volume for disk in disks], tmp_path / "log"))
        made.append(site)
        site.server.start()
        site.fill()
        return site

    yield make
    for site in made:
        if site.server.process is not None:
            site.server.kill()
        for disk in site.disks:
            disk.close()
        for volume in site.volumes:
            shutil.rmtree(volume, ignore_errors=True)


# ---- harm ------------------------------------------------------------------------------------------------------------
def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def scribble(volume: Path) -> None:
    """Nonsense all over the catalog."""
    for suffix in ("", "-wal"):
        path = volume / f".abixio/catalog.db{suffix}"
        if path.exists():
            with path.open("r+b") as file:
                file.write(os.urandom(path.stat().st_size))


def hurt_one(disk: Disk, kind: str, running: bool) -> None:
    if kind == "removed":
        remove(disk.volume)
    elif kind == "emptied":
        empty(disk.volume)
    elif kind in ("data", "footer"):
        for path in shards(disk.volume):
            flip(path, 10 if kind == "data" else -150)
    elif kind == "catalog":
        scribble(disk.volume)
    elif kind == "full":
        assert isinstance(disk, LoopDisk)
        disk.fill()
    else:
        assert isinstance(disk, LoopDisk)
        disk.go_read_only() if running else disk.mount_again(read_only=True)


def undo(disk: Disk, kind: str) -> None:
    """The operator's part of the repair; no server runs."""
    if kind == "removed":
        bring_back(disk.volume)
    elif kind == "full":
        assert isinstance(disk, LoopDisk)
        disk.empty_again()
    elif kind == "read-only":
        assert isinstance(disk, LoopDisk)
        disk.mount_again()


def able(site: Site, kind: str, hurt: int, running: bool) -> int:
    """How many volumes take writes."""
    if kind in ("data", "footer"):
        return site.n
    left = site.n - hurt
    if kind == "emptied" and not running and left >= site.n - (site.n // 2 + 1) + 1:
        return site.n  # they have joined, and are being filled
    return left


# ---- the test --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "hurt", "kind", "running"), cases())
def test_harm_up_to_the_ftt_is_survived_and_repaired_and_more_is_an_error(
    make_site: Callable[[int, str], Site], n: int, hurt: tuple[int, ...], kind: str, running: bool
) -> None:
    site = make_site(n, kind)
    if not running:
        assert site.server.stop() == 0
    for number in hurt:
        hurt_one(site.disks[number], kind, running)
    if not running:
        site.server.start()
    gone = kind in ("removed", "emptied", "catalog") and not running
    site.check(len(hurt), exact=gone)
    site.write(able(site, kind, len(hurt), running))
    site.check(len(hurt), exact=False)

    assert site.server.stop() in (0, 1)
    joined = n - len(hurt) >= n - (n // 2 + 1) + 1
    if kind in ("emptied", "catalog") and not joined:
        return  # too few are left to tell what was deleted: an operator decides
    for number in hurt:
        undo(site.disks[number], kind)
    if kind == "catalog":
        site.rebuild_catalogs()
    site.server.start()
    if kind in ("data", "footer"):
        site.heal()
    least = 0 if kind in ("removed", "read-only", "full") else len(hurt)
    site.whole(least)
    site.check(least, exact=False)
    site.decided()

    # What was repaired carries: as many others may go.
    assert site.server.stop() == 0
    others = [number for number in range(n) if number not in hurt][: len(hurt)]
    for number in others:
        remove(site.volumes[number])
    site.server.start()
    site.check(max(least, len(others)), exact=False)
    assert site.server.stop() == 0


def test_why_there_may_be_no_disks_is_said(tmp_path: Path) -> None:
    """Where they can be made, they are: or the tests above would be skipped without a reason."""
    assert isinstance(why_no_loops(tmp_path), str)
