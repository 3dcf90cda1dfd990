"""Volumes that are removed, emptied or hurt, under a real server with objects of every FTT."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from abixio.admin.client import Client
from abixio.credentials import Credentials
from tests.e2e import BODIES, MIB, fill, got, outcome, put, read, shards
from tests.rawclient import RawClient
from tests.server import ACCESS, SECRET, Server, bring_back, remove

if TYPE_CHECKING:
    from tests.conftest import MakeServer

@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Volumes of a stopped server with objects of every FTT."""
    home = tmp_path_factory.mktemp("pristine")
    server = Server([home / f"v{number}" for number in range(4)], home / "log").start()
    client = server.client()
    fill(client)
    client.close()
    assert server.stop() == 0, server.stderr()
    return server.volumes


@pytest.fixture
def stopped(pristine: list[Path], make_server: MakeServer) -> Server:
    """A server over a copy of them, to be started."""
    server = make_server(4, start=False)
    for source, target in zip(pristine, server.volumes, strict=True):
        shutil.copytree(source, target)
    return server


def test_with_ftt_1_on_four_volumes_a_dead_disk_stops_nothing(stopped: Server) -> None:
    remove(stopped.volumes[2])
    client = stopped.start().client()
    client.put_object(Bucket="bucket", Key="1/large", Body=b"overwritten")
    client.put_object(Bucket="bucket", Key="new", Body=b"new")
    client.delete_object(Bucket="bucket", Key="1/small")
    client.create_bucket(Bucket="another")
    listed = [item["Key"] for item in client.list_objects_v2(Bucket="bucket")["Contents"]]
    assert listed == sorted({*BODIES, "new"} - {"1/small"})
    assert outcome(lambda: client.put_object(Bucket="bucket", Key="all", Body=b"", Metadata={"ec-ftt": "0"})) == 503
    client.close()
    stopped.stop()
    bring_back(stopped.volumes[2])
    remove(stopped.volumes[0])
    # Two volumes lack the new bytes now, one of them since it was away: that is one loss more than FTT 1 covers.
    client = stopped.start().client()
    assert got(client, "1/large") == 503
    assert got(client, "1/small") == 404
    assert read(client, "2/large") == BODIES["2/large"]
    assert [item["Key"] for item in client.list_objects_v2(Bucket="bucket")["Contents"]] == listed
    client.close()
    stopped.stop()
    bring_back(stopped.volumes[0])
    settle(stopped)
    remove(stopped.volumes[0])
    client = stopped.start().client()
    assert read(client, "1/large") == b"overwritten"
    assert read(client, "new") == b"new"
    client.close()


def test_with_two_dead_disks_writes_are_503_and_leave_the_old_object(stopped: Server) -> None:
    remove(stopped.volumes[1])
    remove(stopped.volumes[2])
    client = stopped.start().client()
    assert outcome(lambda: client.put_object(Bucket="bucket", Key="2/small", Body=b"x", Metadata={"ec-ftt": "2"})) == 503
    assert outcome(lambda: client.delete_object(Bucket="bucket", Key="2/small")) == 503
    assert read(client, "2/small") == BODIES["2/small"]
    assert outcome(lambda: read(client, "no such key")) in (404, 503)
    client.close()


def unsettled(volume: Path) -> int:
    """Entries in the journal of a stopped volume."""
    with closing(sqlite3.connect(volume / ".abixio/catalog.db")) as catalog:
        return int(catalog.execute("SELECT count(*) FROM unsettled").fetchone()[0])


def settle(server: Server) -> None:
    """Run it until no volume lacks a write. Ends stopped."""
    for _ in range(10):
        server.start()
        time.sleep(2)
        server.stop()
        if sum(map(unsettled, server.volumes)) == 0:
            return
    raise AssertionError(f"still unsettled: {list(map(unsettled, server.volumes))}")


def test_deletes_and_overwrites_outlast_volumes_that_were_away_meanwhile(stopped: Server) -> None:
    """Each volume in turn is away while everything is changed; once it was back for a moment, any other one may go."""
    keys = [f"1/{name}" for name in ("empty", "small", "large")]
    for round, away in enumerate(stopped.volumes):
        remove(away)
        client = stopped.start().client()
        bodies = {key: random.Random(f"{round}{key}").randbytes(len(BODIES[key]) + round) for key in keys}
        for key in keys:
            if round % 2:
                client.delete_object(Bucket="bucket", Key=key)
            else:
                client.put_object(Bucket="bucket", Key=key, Body=bodies[key])
        client.close()
        stopped.stop()
        bring_back(away)
        settle(stopped)
        other = stopped.volumes[(round + 1) % 4]
        remove(other)
        client = stopped.start().client()
        for key in keys:
            if round % 2:
                assert got(client, key) == 404, (round, key)
            else:
                assert read(client, key) == bodies[key], (round, key)
        client.close()
        stopped.stop()
        bring_back(other)


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
def test_what_was_deleted_or_overwritten_is_so_after_every_kind_of_end(make_server: MakeServer, durability: str) -> None:
    server = make_server(4, "--durability", durability)
    with RawClient(server.port) as client:
        assert client.call("PUT", "bucket").status == 200
    for round, end in enumerate((server.stop, server.kill, server.kill, server.stop)):
        with RawClient(server.port) as client:
            for key in ("deleted", "overwritten"):
                assert client.call("PUT", "bucket", key, body=b"small %d" % round).status == 200
            assert client.call("DELETE", "bucket", "deleted").status == 204
            assert client.call("PUT", "bucket", "overwritten", body=b"newest %d" % round).status == 200
        end()
        with RawClient(server.start().port) as client:
            assert client.call("GET", "bucket", "deleted").code == "NoSuchKey"
            assert client.call("GET", "bucket", "overwritten").body == b"newest %d" % round
            assert client.call("GET", "bucket").body.count(b"<Key>") == 1


# ---- a slow disk -----------------------------------------------------------------------------------------------------
def test_reads_that_can_do_without_a_slow_volume_do_not_wait_for_it(make_server: MakeServer, tmp_path: Path) -> None:
    server, sign, nap = make_server(4, start=False), tmp_path / "slow", 10.0
    server.command[server.command.index("abixio")] = "tests.slow_server"
    server.env |= {"SLOW_VOLUME": str(server.volumes[1]), "SLOW_WHEN": str(sign), "SLOW_SECONDS": str(nap)}
    server.volumes[1].mkdir(parents=True)
    bodies = {f"{size}/{number}": os.urandom(size) for size in (1000, 200_000, 3 * MIB) for number in range(8)}
    with RawClient(server.start().port) as client:
        assert client.call("PUT", "bucket").status == 200
        for key, body in bodies.items():
            assert client.call("PUT", "bucket", key, headers={"x-amz-meta-ec-ftt": "1"}, body=body).status == 200
        sign.touch()
        time.sleep(0.2)
        longest = 0.0
        for key, body in bodies.items():
            began = time.monotonic()
            assert client.call("GET", "bucket", key).body == body
            longest = max(longest, time.monotonic() - began)
        assert longest < nap / 2
        assert client.call("GET", "bucket").body.count(b"<Key>") == len(bodies)
        sign.unlink()


# ---- damage ----------------------------------------------------------------------------------------------------------
def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(("where", "hurt"), [(0, 1), (70_000, 2), (-1, 2), (-200, 1)])
def test_a_flipped_bit_is_never_served(stopped: Server, where: int, hurt: int) -> None:
    for volume in stopped.volumes[:hurt]:
        for path in shards(volume):
            flip(path, where)
    client = stopped.start().client()
    for key, body in BODIES.items():
        try:
            found = read(client, key)
        except (ClientError, BotoCoreError, HTTPError):  # the head may be out already when the damage is met: then it is cut
            assert int(key[0]) < hurt
        else:
            assert found == body, key
    client.close()


@pytest.mark.parametrize("how", ["truncated", "lost"])
def test_missing_bytes_are_rebuilt(stopped: Server, how: str) -> None:
    for path in shards(stopped.volumes[3]):
        os.truncate(path, 100) if how == "truncated" else path.unlink()
    client = stopped.start().client()
    for key, body in BODIES.items():
        if int(key[0]) >= 1:
            assert read(client, key) == body
    client.close()


def test_a_single_volume_answers_a_flipped_bit_with_an_error(make_server: MakeServer) -> None:
    server = make_server(1)
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="key", Body=BODIES["1/large"])
    flip(shards(server.volumes[0])[0], 10)
    assert outcome(lambda: read(client, "key")) >= 500
    assert read(client, "key", Range=f"bytes={4 * MIB}-") == BODIES["1/large"][4 * MIB :]
    client.close()


# ---- what there is only so much of -----------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        message = "this user may not mount file systems"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=False)


def test_one_volume_of_four_that_fills_in_the_middle_of_a_write_stops_none(make_server: MakeServer, small_disk: Path) -> None:
    server = make_server(4, start=False)
    volumes = [str(small_disk / "volume"), *map(str, server.volumes[1:])]
    server.command[server.command.index("--volumes") + 1] = ",".join(volumes)
    client = server.start().client()
    client.create_bucket(Bucket="bucket")
    bodies = {f"key{number}": os.urandom(60 * MIB) for number in range(4)}  # 20 MiB of each on every volume
    for key, body in bodies.items():
        assert put(client, key, body) == 200
    assert put(client, "key0", b"overwritten") == 200
    assert outcome(lambda: client.delete_object(Bucket="bucket", Key="key1")) == 200
    bodies["key0"] = b"overwritten"
    del bodies["key1"]
    for key, body in bodies.items():
        assert read(client, key) == body
    assert got(client, "key1") == 404
    client.close()


def test_few_descriptors_are_slow_down_and_never_damage(make_server: MakeServer) -> None:
    server = make_server(16, "--durability", "page-cache", start=False)
    server.command = ["bash", "-c", 'ulimit -n 1024; exec "$@"', "bash", *server.command]
    client = server.start().client(max_pool_connections=100)
    client.create_bucket(Bucket="bucket")
    bodies = {f"key{number}": os.urandom(MIB + number) for number in range(5)}
    for key, body in bodies.items():
        client.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"ec-ftt": "2"})

    def one(number: int) -> int:
        key = f"key{number % 5}"
        if number % 7 == 0:
            return put(client, f"more{number}", bodies[key])
        if number % 7 == 1:
            return outcome(lambda: client.list_objects_v2(Bucket="bucket"))
        return outcome(lambda: read(client, key) == bodies[key] or pytest.fail("wrong bytes"))

    with ThreadPoolExecutor(100) as threads:
        assert set(threads.map(one, range(250))) <= {200, 503}
    for key, body in bodies.items():
        assert read(client, key) == body
    status = Client(server.url, Credentials(ACCESS, SECRET)).get("status")["repair"]
    assert status["bad"] == 0, server.stderr()[-3000:]
    assert {volume["state"] for volume in status["volumes"]} <= {"up", "slow"}, server.stderr()[-3000:]
    client.close()
