"""Volumes that are removed, emptied or hurt, under a real server with objects of every FTT."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import BODIES, MIB, fill, got, outcome, read, shards
from tests.server import Server, bring_back, empty, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer

RANGES = ((0, 0), (500, 999), (2 * MIB - 10, 2 * MIB + 10), (3 * MIB - 1, 3 * MIB), (5 * MIB, 5 * MIB + 122))


def subsets(quick: set[tuple[int, ...]]) -> list[Any]:
    """Every way to lose one to three of four volumes; those that are not in `quick` only with `-m slow`."""
    every = [subset for count in (1, 2, 3) for subset in itertools.combinations(range(4), count)]
    return [pytest.param(subset, marks=[] if subset in quick else pytest.mark.slow, id=str(subset)) for subset in every]


def check(s3: S3Client, lost: int) -> None:
    """Objects whose FTT covers the loss are right, in ranges too; the others are 503."""
    for key, body in BODIES.items():
        if int(key[0]) >= lost:
            assert s3.head_object(Bucket="bucket", Key=key)["ContentLength"] == len(body)
            assert read(s3, key) == body, key
            for first, last in RANGES:
                if last < len(body):
                    assert read(s3, key, Range=f"bytes={first}-{last}") == body[first : last + 1], (key, first)
        else:
            assert got(s3, key) == 503, key


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


# ---- any FTT volumes, any way they can be lost -----------------------------------------------------------------------
@pytest.mark.parametrize("lost", subsets({(0,), (1,), (2,), (3,), (0, 1), (1, 3), (0, 2, 3)}))
def test_removed_volumes_are_survived_as_the_ftt_says_and_all_is_right_when_they_return(
    stopped: Server, lost: tuple[int, ...]
) -> None:
    for number in lost:
        remove(stopped.volumes[number])
    client = stopped.start().client()
    check(client, len(lost))
    client.close()
    assert stopped.stop() == 0
    for number in lost:
        bring_back(stopped.volumes[number])
    client = stopped.start().client()
    check(client, 0)
    client.close()


@pytest.mark.parametrize("lost", subsets({(0,), (2,), (2, 3), (0, 2), (0, 1, 2)}))
def test_emptied_volumes_count_as_lost(stopped: Server, lost: tuple[int, ...]) -> None:
    for number in lost:
        empty(stopped.volumes[number])
    client = stopped.start().client()
    check(client, len(lost))
    client.close()


@pytest.mark.parametrize("lost", [(0,), (3,), (0, 2), (1, 2, 3)], ids=str)
def test_volumes_that_vanish_while_the_server_runs_are_survived(stopped: Server, lost: tuple[int, ...]) -> None:
    client = stopped.start().client()
    check(client, 0)
    for number in lost:
        remove(stopped.volumes[number])
    for key, body in BODIES.items():
        if int(key[0]) >= len(lost):
            assert read(client, key) == body
    client.close()


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


# ---- damage ----------------------------------------------------------------------------------------------------------
def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("where", [0, 70_000, -1, -200])
@pytest.mark.parametrize("hurt", [1, 2])
def test_a_flipped_bit_is_never_served(stopped: Server, where: int, hurt: int) -> None:
    for volume in stopped.volumes[:hurt]:
        for path in shards(volume):
            flip(path, where)
    client = stopped.start().client()
    for key, body in BODIES.items():
        # The head may be out already when the damage is met: then the connection is cut.
        try:
            assert read(client, key) == body
        except Exception:
            assert int(key[0]) < hurt
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


@pytest.mark.parametrize("name", ["volume.json", "catalog.db"])
def test_a_volume_without_its_own_files_counts_as_lost(stopped: Server, name: str) -> None:
    (stopped.volumes[1] / ".abixio" / name).write_bytes(b"nonsense" * 1000)
    client = stopped.start().client()
    check(client, 1)
    client.put_object(Bucket="bucket", Key="1/small", Body=b"new")
    assert read(client, "1/small") == b"new"
    client.close()
