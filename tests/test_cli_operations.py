"""The page for operators: every command on it works as it stands, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from abixio.admin.asks import MAX_BODY
from abixio.admin.client import Client, Refused
from abixio.admin.jobs import ENDED_SECONDS, MAX_FAILURES, MAX_WAITING
from abixio.app import DRAIN_SECONDS, END_SECONDS
from abixio.cli import ELSEWHERE
from abixio.config import KIB, MIB, Config
from abixio.credentials import Credentials
from abixio.store.scanner import INTERVAL
from tests.server import ACCESS, ROOT, SECRET, Server, environment

if TYPE_CHECKING:
    from tests.conftest import MakeServer

PAGE = (ROOT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PLACES = "/mnt/disk"


class Machine:
    """Runs blocks of the page as somebody who reads it would, over other directories and another port."""

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.home = home
        self.exports = ""
        tool = home / "bin/abixio"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m abixio "$@"\n')
        tool.chmod(0o755)
        path = os.pathsep.join((str(tool.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
        self.env = environment(PATH=path, ABIXIO_ACCESS_KEY=ACCESS, ABIXIO_SECRET_KEY=SECRET)

    def run(self, block: str) -> str:
        text = f"set -eu\n{self.exports}{block}"
        self.exports += "".join(re.findall(r"^export .*\n", block, re.MULTILINE))
        script = text.replace(PLACES, str(self.home / "disk")).replace("http://127.0.0.1:9000", self.server.url)
        done = subprocess.run(
            ["bash", "-c", script], env=self.env, cwd=self.home, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def until_well(self) -> None:
        """Until no volume is filling any more."""
        admin = Client(self.server.url, Credentials(ACCESS, SECRET))
        deadline = time.monotonic() + 60
        states: list[str] = []
        while set(states) != {"up"}:
            assert time.monotonic() < deadline, states
            time.sleep(0.1)
            states = [volume["state"] for volume in admin.get("status")["repair"]["volumes"]]


def test_the_commands_of_the_page_work_in_its_order(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(4, start=False)
    server.volumes[:] = [tmp_path / f"disk{number}" for number in range(1, 5)]
    server.command[server.command.index("--volumes") + 1] = f"{tmp_path}/disk{{1...4}}"
    server.start()
    s3 = server.client()
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="2026/cat.jpg", Body=os.urandom(5_000_000))
    s3.put_object(Bucket="photos", Key="2026/dog.jpg", Body=b"woof")
    s3.close()
    machine, said = Machine(server, tmp_path), ""
    for block in BLOCKS:
        if "the server is stopped" in block:
            if server.process is not None:
                assert server.stop() == 0
            if "empty directory" in block:
                shutil.rmtree(server.volumes[2])
                server.volumes[2].mkdir()
        elif server.process is None:
            server.start()
        said += machine.run(block)
        if "volume replace" in block:
            server.start()
            machine.until_well()
    for part in ("repair: 0 bad shards", "['up', 'up', 'up', 'up']", ": whole", "0 failed", "is slot 2 now", '"version"'):
        assert part in said, said
    if server.process is None:
        server.start()
    assert b"woof" == server.client().get_object(Bucket="photos", Key="2026/dog.jpg")["Body"].read()


def test_the_page_has_every_command_and_no_other() -> None:
    table = set(re.findall(r"^\| `abixio ([a-z]+)", PAGE, re.MULTILINE))
    assert table == {*ELSEWHERE, "volume"}
    run = set(re.findall(r"^abixio ([a-z]+)", "".join(BLOCKS), re.MULTILINE))
    assert run == table


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"up to {MAX_WAITING} wait" in text
    assert f"up to {MAX_FAILURES} `failures`" in text
    assert f"at most {MAX_BODY // KIB} KiB" in text
    assert ENDED_SECONDS == 24 * 3600 and "jobs for a day" in text
    assert f"have {DRAIN_SECONDS:.0f} seconds" in text
    assert f"after {END_SECONDS + 0.5:.0f} seconds it is over" in text
    assert f"every {INTERVAL / 86400:.0f} days" in text
    assert f"reads {Config().scan_rate // MIB} MiB per second and volume" in text


def test_the_paths_on_the_page_are_those_of_the_router(server: Server) -> None:
    admin = Client(server.url, Credentials(ACCESS, SECRET))
    with pytest.raises(Refused) as refused:
        admin.get("nowhere")
    told = set(re.findall(r"/_admin/v1/([a-z]+)", str(refused.value)))
    assert told == {path.split("/")[0] for path in re.findall(r"^\| `(?:GET|POST|DELETE) ([a-z/A-Z]+)`", PAGE, re.MULTILINE)}
