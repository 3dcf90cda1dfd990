"""Servers to compare: this one in both durability modes, and those that are installed here, each over directories of its own on
one disk, started with credentials and stopped again.

`rule` is what an answered PUT of that server means, by its documentation: "synced" (on stable storage), "page cache" (in the
kernel: a power cut may take it) or "unknown". Only servers with the same rule are compared for writes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from mypy_boto3_s3 import S3Client

from bench.load import LoadFailed
from tests.server import ACCESS, SECRET, Server

SYNCED, PAGE_CACHE, UNKNOWN = "synced", "page cache", "unknown"
READY: Final = 60.0
"""Seconds until a server has to create a bucket."""


@dataclass(frozen=True)
class Target:
    """An S3 endpoint."""

    name: str
    url: str
    access: str
    secret: str
    rule: str = UNKNOWN

    def client(self) -> S3Client:
        config = Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=config, aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
        )


def parse(text: str) -> Target:
    """NAME=URL,ACCESS,SECRET[,RULE]. ValueError."""
    name, _, rest = text.partition("=")
    fields = rest.split(",")
    if not name or len(fields) not in (3, 4):
        raise ValueError(f"{text!r}: expected NAME=URL,ACCESS,SECRET or NAME=URL,ACCESS,SECRET,RULE")
    return Target(name, fields[0].rstrip("/"), fields[1], fields[2], fields[3] if len(fields) == 4 else UNKNOWN)


# ---- starting ----------------------------------------------------------------------------------------------------------
@contextmanager
def abixio(home: Path, volumes: int, durability: str) -> Iterator[Target]:
    """This server with the flags that everybody gets."""
    paths = [home / f"v{number}" for number in range(volumes)]
    server = Server(paths, home / "stderr", ["--durability", durability, "--log-level", "error"]).start()
    rule = SYNCED if durability == "fsync" else PAGE_CACHE
    try:
        yield Target(f"abixio {volumes} {durability}", server.url, ACCESS, SECRET, rule)
    finally:
        server.kill()


def installed(name: str) -> str | None:
    """Where a program is: beside this Python, where pip puts it, or on PATH."""
    return shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))))


def free_ports(count: int) -> list[int]:
    """Of 127.0.0.1, below those that the kernel gives to outgoing connections; some servers add 10,000 for a second one."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 1000 * 5, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            break
    return found


@contextmanager
def process(command: Sequence[str | Path], home: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    program = installed(str(command[0]))
    if program is None:
        raise LoadFailed(f"{command[0]} is not installed")
    with (home / "log").open("wb") as log:
        running = subprocess.Popen([program, *command[1:]], cwd=home, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        try:
            yield
        finally:
            running.kill()
            running.wait()


@contextmanager
def seaweedfs(home: Path) -> Iterator[Target]:
    """Master, volume server, filer and S3 gateway in one process, as `weed server -s3` starts them."""
    s3, master, volume, filer = free_ports(4)
    keys = [{"accessKey": ACCESS, "secretKey": SECRET}]
    identity = {"name": "bench", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (home / "data").mkdir()
    command = [
        "weed", "server", "-dir=data", "-ip=127.0.0.1", "-s3", f"-s3.port={s3}", "-s3.config=s3.json", f"-master.port={master}",
        f"-volume.port={volume}", f"-filer.port={filer}", "-volume.max=100", "-master.volumeSizeLimitMB=1024",
    ]
    with process(command, home):
        yield Target("seaweedfs", f"http://127.0.0.1:{s3}", ACCESS, SECRET, PAGE_CACHE)


@contextmanager
def rclone(home: Path) -> Iterator[Target]:
    """A directory served as S3."""
    [port] = free_ports(1)
    (home / "data").mkdir()
    command = ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS},{SECRET}", "data"]
    with process(command, home, {"RCLONE_CONFIG": str(home / "none")}):
        yield Target("rclone", f"http://127.0.0.1:{port}", ACCESS, SECRET, PAGE_CACHE)


@contextmanager
def minio(home: Path) -> Iterator[Target]:
    [port] = free_ports(1)
    env = {"MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET}
    with process(["minio", "server", "--address", f"127.0.0.1:{port}", str(home / "data")], home, env):
        yield Target("minio", f"http://127.0.0.1:{port}", ACCESS, SECRET, SYNCED)


@contextmanager
def rustfs(home: Path) -> Iterator[Target]:
    [port] = free_ports(1)
    (home / "data").mkdir()
    env = {"RUSTFS_ACCESS_KEY": ACCESS, "RUSTFS_SECRET_KEY": SECRET}
    with process(["rustfs", "server", "--address", f"127.0.0.1:{port}", str(home / "data")], home, env):
        yield Target("rustfs", f"http://127.0.0.1:{port}", ACCESS, SECRET, UNKNOWN)


RIVALS: Final = {"weed": seaweedfs, "rclone": rclone, "minio": minio, "rustfs": rustfs}
"""By the name of the program."""


@contextmanager
def all_targets(home: Path, volumes: int, given: Sequence[Target], others: bool) -> Iterator[list[Target]]:
    """This server first, then those given, then those installed; all ready, each with the bucket."""
    with ExitStack() as stack:
        def place(name: str) -> Path:
            (home / name).mkdir()
            return home / name

        targets = [stack.enter_context(abixio(place(mode), volumes, mode)) for mode in ("page-cache", "fsync")]
        targets += given
        if others:
            targets += [stack.enter_context(start(place(name))) for name, start in RIVALS.items() if installed(name)]
        yield targets


def make_bucket(target: Target, bucket: str) -> None:
    """Wait until the server has it, and takes an object."""
    until = time.monotonic() + READY
    client = target.client()
    while True:
        try:
            if bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
            break
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > until:
                raise LoadFailed(f"{target.name}: {error}") from error
            time.sleep(0.5)
    client.close()
