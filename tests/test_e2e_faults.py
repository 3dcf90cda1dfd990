"""Volumes that are removed, emptied, hurt, full or read-only, under a real server with objects of every FTT."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from tests.server import Server, bring_back, empty, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer

KIB, MIB = 1 << 10, 1 << 20
BODIES = {
    f"{ftt}/{name}": random.Random(f"{ftt}{name}").randbytes(size)
    for ftt in range(4)
    for name, size in (("empty", 0), ("small", 1000), ("large", 5 * MIB + 123))
}
RANGES = ((0, 0), (500, 999), (2 * MIB - 10, 2 * MIB + 10), (3 * MIB - 1, 3 * MIB), (5 * MIB, 5 * MIB + 122))


def subsets(quick: set[tuple[int, ...]]) -> list[Any]:
    """Every way to lose one to three of four volumes; those that are not in `quick` only with `-m slow`."""
    every = [subset for count in (1, 2, 3) for subset in itertools.combinations(range(4), count)]
    return [pytest.param(subset, marks=[] if subset in quick else pytest.mark.slow, id=str(subset)) for subset in every]


def fill(s3: S3Client) -> None:
    s3.create_bucket(Bucket="bucket")
    for key, body in BODIES.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"ec-ftt": key[0]})


def read(s3: S3Client, key: str, **more: Any) -> bytes:
    with s3.get_object(Bucket="bucket", Key=key, **more)["Body"] as body:
        return body.read()


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


def outcome(call: Any) -> int:
    """The HTTP status of a call to boto3."""
    try:
        call()
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


def put(s3: S3Client, key: str, body: bytes) -> int:
    """The HTTP status of a PUT."""
    return outcome(lambda: s3.put_object(Bucket="bucket", Key=key, Body=body))


def got(s3: S3Client, key: str) -> int:
    """The HTTP status of a GET."""
    return outcome(lambda: read(s3, key))


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
def shards(volume: Path) -> list[Path]:
    return sorted(path for path in (volume / "shards").rglob("*") if path.is_file())


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


# ---- uploads that are cut --------------------------------------------------------------------------------------------
def presigned(server: Server, method: str, key: str) -> str:
    client = server.client()
    url = client.generate_presigned_url(method, Params={"Bucket": "bucket", "Key": key})
    client.close()
    return url.removeprefix(server.url)


def begin_put(server: Server, key: str, length: int, body: bytes) -> http.client.HTTPConnection:
    """A PUT of `length` bytes of which only `body` is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("PUT", presigned(server, "put_object", key))
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    connection.send(body)
    return connection


def leftovers(server: Server) -> list[Path]:
    return [path for volume in server.volumes for path in (volume / ".abixio/tmp").iterdir()]


@pytest.mark.parametrize("length", [100, 10 * MIB])
def test_an_upload_that_is_cut_leaves_the_old_object_and_no_file(make_server: MakeServer, length: int) -> None:
    server = make_server(4)
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="key", Body=b"before")
    connection = begin_put(server, "key", length, bytes(length * 3 // 4))
    time.sleep(0.3)
    connection.close()
    deadline = time.monotonic() + 10
    while leftovers(server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(server) == []
    assert read(client, "key") == b"before"
    assert [path for volume in server.volumes for path in shards(volume)] == []
    client.close()


def test_sigterm_during_fifty_uploads_finishes_or_fails_each_of_them_whole(make_server: MakeServer) -> None:
    server = make_server(4)
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.close()
    body = os.urandom(2 * MIB)
    half = len(body) // 2
    uploads = [begin_put(server, f"{number}", len(body), body[:half]) for number in range(50)]
    time.sleep(0.5)

    def finish(upload: http.client.HTTPConnection) -> int:
        try:
            upload.send(body[half:])
            return upload.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            upload.close()

    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(finish, uploads)
        server.send_signal(signal.SIGTERM)
        statuses = list(answers)
    assert server.wait(12) == 0, server.stderr()
    client = server.start().client()
    for number, status in enumerate(statuses):
        found = got(client, f"{number}")
        assert found == 200 if status == 200 else found in (200, 404)
        if found == 200:
            assert read(client, f"{number}") == body
    client.close()
    assert leftovers(server) == []


# ---- kill -9 ---------------------------------------------------------------------------------------------------------
class Load:
    """Threads that write keys of their own, and what each key may hold: what was acknowledged last, or what was under way."""

    THREADS = 4
    KEYS = 5
    SIZES = (0, 10, 5000, 40_000, 300_000, 3 * MIB + 17, 4 * MIB)

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.allowed: dict[str, set[str | None]] = {
            f"{thread}/{key}": {None} for thread in range(self.THREADS) for key in range(self.KEYS)
        }
        self.acknowledged = 0
        self.errors: list[ClientError] = []
        """Answers that no writer should get while the server lives."""

    def run(self, server: Server, seconds: float) -> None:
        """Write until the server is killed, `seconds` from now."""
        seeds = [self.random.random() for _ in range(self.THREADS)]
        threads = [threading.Thread(target=self._write, args=(server, number, seeds[number])) for number in range(self.THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        server.kill()
        for thread in threads:
            thread.join()
        assert self.errors == []

    def _write(self, server: Server, thread: int, seed: float) -> None:
        chooser = random.Random(seed)
        client = server.client(connect_timeout=5, read_timeout=20)
        try:
            while True:
                key = f"{thread}/{chooser.randrange(self.KEYS)}"
                body = None if chooser.random() < 0.2 else chooser.randbytes(chooser.choice(self.SIZES))
                self.allowed[key].add(digest(body))
                self._one(client, key, body, chooser)
                self.allowed[key] = {digest(body)}
                self.acknowledged += 1
        except ClientError as error:
            self.errors.append(error)
        except (BotoCoreError, HTTPError):
            pass  # what a killed server looks like to boto3
        finally:
            client.close()

    @staticmethod
    def _one(client: S3Client, key: str, body: bytes | None, chooser: random.Random) -> None:
        ftt = chooser.choice("0123")
        if body is None:
            client.delete_object(Bucket="bucket", Key=key)
        elif chooser.random() < 0.2:
            upload = client.create_multipart_upload(Bucket="bucket", Key=key, Metadata={"ec-ftt": ftt})["UploadId"]
            etag = client.upload_part(Bucket="bucket", Key=key, UploadId=upload, PartNumber=1, Body=body)["ETag"]
            parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            client.complete_multipart_upload(Bucket="bucket", Key=key, UploadId=upload, MultipartUpload=parts)
        else:
            client.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"ec-ftt": ftt})

    def verify(self, client: S3Client) -> None:
        """Every key holds something it may hold, in HEAD, GET and LIST alike, and from now on nothing else."""
        listed = {item["Key"] for item in client.list_objects_v2(Bucket="bucket").get("Contents", [])}
        for key, allowed in self.allowed.items():
            status = got(client, key)
            assert status in (200, 404), (key, status)
            found = digest(read(client, key)) if status == 200 else None
            assert found in allowed, (key, found, allowed)
            assert (key in listed) == (found is not None), key
            self.allowed[key] = {found}


def digest(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()


def kill_again_and_again(make_server: MakeServer, rounds: int, seed: int) -> None:
    server = make_server(4, start=False)
    plain = list(server.command)
    load = Load(seed)
    for round in range(rounds):
        server.command = plain + (["--durability", "page-cache"] if round % 2 else [])
        client = server.start().client()
        if round == 0:
            client.create_bucket(Bucket="bucket")
        load.verify(client)
        client.close()
        load.run(server, load.random.uniform(0.02, 0.6))
    client = server.start().client()
    load.verify(client)
    client.close()
    assert leftovers(server) == []
    assert load.acknowledged > rounds


def test_kill_9_loses_nothing_acknowledged_and_mixes_nothing(make_server: MakeServer) -> None:
    kill_again_and_again(make_server, 20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_two_hundred_times(make_server: MakeServer) -> None:
    kill_again_and_again(make_server, 200, seed=2)


# ---- memory ----------------------------------------------------------------------------------------------------------
def test_a_gigabyte_passes_without_its_memory(make_server: MakeServer) -> None:
    """RssAnon over idle, sampled all the time, stays under 64 MiB for a PUT and a GET of 1 GiB."""
    server = make_server(4, "--durability", "page-cache")
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="warm", Body=os.urandom(MIB))
    client.close()
    idle = server.anonymous_memory()
    highest = idle
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, server.anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        piece, count = os.urandom(8 * MIB), 128
        connection = begin_put(server, "big", count * len(piece), b"")
        for _ in range(count):
            connection.send(piece)
        assert connection.getresponse().status == 200
        connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", presigned(server, "get_object", "big"))
        answer = connection.getresponse()
        for number in range(count):
            assert answer.read(len(piece)) == piece, number
        connection.close()
    finally:
        done.set()
        watcher.join()
    assert (highest - idle) / MIB < 64


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
