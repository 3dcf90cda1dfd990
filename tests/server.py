"""A real server for the end-to-end tests: `python -m abixio` as a process of its own on a free port."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT: Final = Path(__file__).parent.parent
ACCESS: Final = "end-to-end"
SECRET: Final = "end-to-end-secret"
READY: Final = 60.0
"""Seconds until the banner: a loaded machine with two cores, not the half second it takes alone."""


def environment(**extra: str) -> dict[str, str]:
    """This process's, without what would configure the server or a client behind the test's back."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ABIXIO_", "AWS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra}


class Server:
    """One server process over given directories. `start` and `stop` as often as wanted; `kill` is kill -9."""

    def __init__(
        self, volumes: Sequence[Path], log: Path, flags: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.volumes = list(volumes)
        self.log = log
        self.flags = list(flags)
        self.env = {"ABIXIO_ACCESS_KEY": ACCESS, "ABIXIO_SECRET_KEY": SECRET} if env is None else dict(env)
        self.command = [sys.executable, "-m", "abixio", "--port", "0", "--volumes", ",".join(map(str, self.volumes)), *self.flags]
        self.directory: Path | None = None
        """Where to run it."""
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.banner = ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def launch(self) -> None:
        """Run it and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=log, cwd=self.directory, env=environment(**self.env)
            )

    def start(self) -> Server:
        """Run it and wait for the banner."""
        self.launch()
        self.banner = self._read_banner()
        found = re.search(r"is ready: (\S+)", self.banner)
        if found is None:
            status = self.kill()
            raise AssertionError(f"no endpoint; status {status}; stdout {self.banner!r}; stderr:\n{self.stderr()[-4000:]}")
        self.url = found[1]
        return self

    def send_signal(self, number: int) -> None:
        """To stop and continue is for all of its processes, and what else there is for the first one."""
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            signal_all(self.workers, number)

    @property
    def workers(self) -> list[int]:
        """The processes that it has started, the oldest first."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def stop(self, number: int = signal.SIGTERM, within: float = 15.0) -> int:
        """Ask it to end and return its status."""
        self.send_signal(number)
        return self.wait(within)

    def kill(self) -> int:
        """No chance to clean up."""
        assert self.process is not None
        workers = self.workers
        self.process.kill()  # first, or it would start others
        signal_all(workers, signal.SIGKILL)
        status = self.wait()
        wait_for_ends(workers)
        return status

    def restart(self) -> Server:
        assert self.stop() == 0, self.stderr()[-4000:]
        return self.start()

    def stderr(self) -> str:
        return self.log.read_text(errors="replace")

    def client(self, verify: str | None = None, **settings: Any) -> S3Client:
        """boto3 as people use it, save for retries, which would hide a failure."""
        # Left alone, boto3 presigns for a custom endpoint in version 2, which nobody else has accepted for years.
        config = Config(retries={"total_max_attempts": 1}, signature_version="s3v4", **settings)
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=config, verify=verify,
            aws_access_key_id=self.env["ABIXIO_ACCESS_KEY"], aws_secret_access_key=self.env["ABIXIO_SECRET_KEY"],
        )

    def anonymous_memory(self) -> int:
        """RssAnon in bytes: what the server allocated, without maps of files."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def wait(self, within: float = 15.0) -> int:
        """Its status once it has ended."""
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None

    # ---- the rest ----------------------------------------------------------------------------------------------------
    def _read_banner(self) -> str:
        """Standard output up to the end of its last block, or to its end."""
        assert self.process is not None
        assert self.process.stdout is not None
        descriptor, text, deadline = self.process.stdout.fileno(), b"", time.monotonic() + READY
        while not re.search(rb"# boto3.*\n\n", text, re.DOTALL):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65536) if ready else b""
            if not chunk:
                break
            text += chunk
        return text.decode()


def signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_ends(pids: Sequence[int], within: float = 15.0) -> None:
    """Of processes that are somebody else's children."""
    deadline = time.monotonic() + within
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"{[pid for pid in pids if alive(pid)]} still run after {within} s"
        time.sleep(0.01)


def remove(volume: Path) -> Path:
    """Take a volume away, as a disk that is pulled out; returns where its contents wait."""
    aside = volume.with_name(volume.name + ".away")
    volume.rename(aside)
    return aside


def bring_back(volume: Path) -> None:
    """The disk is plugged in again."""
    if volume.exists():
        shutil.rmtree(volume)
    volume.with_name(volume.name + ".away").rename(volume)


def empty(volume: Path) -> None:
    """A new disk in the place of the old."""
    shutil.rmtree(volume)
    volume.mkdir()
