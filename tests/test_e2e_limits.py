"""Limits of memory and of disks: a gigabyte in a fixed budget, and disks that are full or read-only."""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import BODIES, MIB, begin_put, fill, got, outcome, presigned, put, read

if TYPE_CHECKING:
    from tests.conftest import MakeServer
    from tests.server import Server


# ---- memory ----------------------------------------------------------------------------------------------------------
@contextmanager
def memory(server: Server, limit: int) -> Iterator[None]:
    """RssAnon over idle, sampled all the time, stays under `limit` bytes."""
    idle = highest = server.anonymous_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, server.anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    print(f"RssAnon: {idle / MIB:.1f} MiB idle, {highest / MIB:.1f} MiB at most")
    assert highest - idle < limit


def begin(make_server: MakeServer, *flags: str) -> Server:
    """A server that has served one object."""
    server = make_server(4, "--durability", "page-cache", *flags)
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="warm", Body=os.urandom(MIB))
    client.close()
    return server


def send(server: Server, key: str, piece: bytes, count: int) -> None:
    connection = begin_put(server, key, count * len(piece), b"")
    for _ in range(count):
        connection.send(piece)
    assert connection.getresponse().status == 200
    connection.close()


def receive(server: Server, key: str, piece: bytes, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", presigned(server, "get_object", key))
    answer = connection.getresponse()
    for number in range(count):
        assert answer.read(len(piece)) == piece, number
    assert answer.read(1) == b""
    connection.close()


def test_a_gigabyte_passes_without_its_memory(make_server: MakeServer) -> None:
    server = begin(make_server)
    piece = os.urandom(8 * MIB)
    with memory(server, 64 * MIB):
        send(server, "big", piece, 128)
        receive(server, "big", piece, 128)


@pytest.mark.slow
def test_five_gibibytes_are_put_copied_and_read_without_their_memory(make_server: MakeServer) -> None:
    """The largest object that one PUT makes and one copy takes; a byte more is neither."""
    server = begin(make_server, "--ftt", "0")
    piece, client = os.urandom(8 * MIB), server.client(read_timeout=600)
    with memory(server, 96 * MIB):
        send(server, "big", piece, 640)
        client.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/big")
        receive(server, "copy", piece, 640)
    assert client.head_object(Bucket="bucket", Key="copy")["ContentLength"] == 5 << 30
    connection = begin_put(server, "more", (5 << 30) + 1, b"")
    answer = connection.getresponse()
    assert (answer.status, b"<Code>EntityTooLarge</Code>" in answer.read()) == (400, True)
    connection.close()
    client.close()


# ---- disks with limits -----------------------------------------------------------------------------------------------
@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        message = "this user may not mount file systems"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=False)


def test_a_full_disk_is_507_and_everything_else_goes_on(make_server: MakeServer, disk: Path) -> None:
    server = make_server(1, start=False)
    server.command[server.command.index("--volumes") + 1] = str(disk / "volume")
    client = server.start().client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="key", Body=BODIES["1/large"])
    assert put(client, "key", bytes(80 * MIB)) == 507
    assert read(client, "key") == BODIES["1/large"]
    for number in itertools.count():
        if put(client, f"{number}", bytes(4 * MIB)) == 507:
            break
    assert outcome(lambda: client.delete_object(Bucket="bucket", Key="key")) == 200
    assert got(client, "key") == 404
    assert read(client, "0") == bytes(4 * MIB)
    client.close()
    assert server.stop() == 0, server.stderr()


def test_a_read_only_volume_costs_no_read_and_with_ftt_1_no_write(make_server: MakeServer, disk: Path) -> None:
    server = make_server(4, start=False)
    paths = [str(disk / "volume"), *map(str, server.volumes[1:])]
    server.command[server.command.index("--volumes") + 1] = ",".join(paths)
    client = server.start().client()
    fill(client)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
    client.put_object(Bucket="bucket", Key="1/small", Body=b"while running")
    assert read(client, "1/large") == BODIES["1/large"]
    client.close()
    server.stop()
    if subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False).returncode != 0:
        pytest.fail("the disk is still being written")
    client = server.start().client()
    assert read(client, "1/small") == b"while running"
    client.put_object(Bucket="bucket", Key="1/small", Body=b"after a restart")
    assert read(client, "1/small") == b"after a restart"
    assert read(client, "1/large") == BODIES["1/large"]
    client.close()
