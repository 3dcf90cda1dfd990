"""Uploads that are cut, servers that are told to end or killed: nothing acknowledged is lost, nothing half is there."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from tests.e2e import MIB, begin_put, got, leftovers, read, shards
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer


# ---- uploads that are cut --------------------------------------------------------------------------------------------
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
