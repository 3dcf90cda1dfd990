"""Uploads that are cut, servers that are told to end or killed: nothing acknowledged is lost, nothing half is there."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import MIB, begin_put, got, leftovers, presigned, read, shards
from tests.kills import Kills
from tests.rawclient import RawClient
from tests.server import Server, remove

if TYPE_CHECKING:
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


# ---- what goes under a request ---------------------------------------------------------------------------------------
def gone(server: Server, within: float = 15.0) -> bool:
    """Whether nothing is left of any shard within some seconds."""
    deadline = time.monotonic() + within
    while leftovers(server) or any(shards(volume) for volume in server.volumes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_bucket_that_is_deleted_under_an_upload_keeps_nothing_of_it(make_server: MakeServer) -> None:
    server = make_server(4)
    client = RawClient(server.port)
    assert client.call("PUT", "bucket").status == 200
    connection = begin_put(server, "key", 6 * MIB, bytes(5 * MIB))
    deadline = time.monotonic() + 10
    while not leftovers(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.call("DELETE", "bucket").status == 204
    connection.send(bytes(MIB))
    assert connection.getresponse().status == 404
    connection.close()
    assert gone(server)
    assert client.call("PUT", "bucket").status == 200
    assert client.call("GET", "bucket", "key").code == "NoSuchKey"
    client.close()


def test_an_upload_that_is_aborted_under_a_part_keeps_nothing_of_it(make_server: MakeServer) -> None:
    server = make_server(4)
    client, other = RawClient(server.port), RawClient(server.port)
    assert client.call("PUT", "bucket").status == 200
    for _ in range(10):
        upload = {"uploadId": client.call("POST", "bucket", "key", {"uploads": ""}).element("UploadId")}
        with ThreadPoolExecutor(1) as pool:
            part = pool.submit(other.call, "PUT", "bucket", "key", upload | {"partNumber": "1"}, None, bytes(8 * MIB))
            time.sleep(0.01)
            assert client.call("DELETE", "bucket", "key", upload).status == 204
            assert part.result().status in (200, 404)
        assert client.call("GET", "bucket", "key", upload).code == "NoSuchUpload"
    assert gone(server)
    client.close()
    other.close()


def test_uploads_of_a_deleted_bucket_are_gone_with_all_their_parts(make_server: MakeServer) -> None:
    server = make_server(4)
    client = RawClient(server.port)
    assert client.call("PUT", "bucket").status == 200
    upload = {"uploadId": client.call("POST", "bucket", "key", {"uploads": ""}).element("UploadId")}
    assert client.call("PUT", "bucket", "key", upload | {"partNumber": "1"}, body=bytes(MIB)).status == 200
    assert client.call("DELETE", "bucket").status == 204
    assert client.call("PUT", "bucket", "key", upload | {"partNumber": "2"}, body=bytes(MIB)).code == "NoSuchBucket"
    assert client.call("PUT", "bucket").status == 200
    assert client.call("PUT", "bucket", "key", upload | {"partNumber": "2"}, body=bytes(MIB)).code == "NoSuchUpload"
    assert b"<Upload>" not in client.call("GET", "bucket", query={"uploads": ""}).body
    assert gone(server)
    client.close()


def test_shards_that_are_cut_short_under_a_download_do_not_end_the_server(make_server: MakeServer) -> None:
    """What was mapped is not there any more: a SIGBUS for whoever touches it."""
    server = make_server(4)
    client = RawClient(server.port)
    assert client.call("PUT", "bucket").status == 200
    assert client.call("PUT", "bucket", "other", body=b"other").status == 200
    body = os.urandom(48 * MIB)
    assert client.call("PUT", "bucket", "key", body=body).status == 200
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", presigned(server, "get_object", "key"))
        with closing(connection.getresponse()) as answer:
            start = answer.read(65536)
            time.sleep(0.5)  # the server has filled the socket by now, and waits with more in its hands
            for volume in server.volumes:
                for path in shards(volume):
                    os.truncate(path, 0)
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                answer.read()
    assert body.startswith(start)
    assert client.call("GET", "bucket", "other").body == b"other"
    assert client.call("GET", "bucket", "key").status == 503
    client.close()


# ---- clients in a crowd ----------------------------------------------------------------------------------------------
def test_idle_connections_do_not_take_the_descriptors_that_shards_need(make_server: MakeServer) -> None:
    server = make_server(4, start=False)
    server.command = ["bash", "-c", 'ulimit -Hn 160; ulimit -n 160; exec "$@"', "limited", *server.command]
    client = RawClient(server.start().port)
    assert client.call("PUT", "bucket").status == 200
    body = os.urandom(300_000)
    idle: list[socket.socket] = []
    try:
        for _ in range(200):
            with suppress(OSError):
                idle.append(socket.create_connection(("127.0.0.1", server.port), timeout=0.2))
        # Those that are one too many are accepted before they are closed: until then the answer may be "slow down".
        deadline = time.monotonic() + 20
        while (status := client.call("PUT", "bucket", "0", body=body).status) == 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == 200
        for number in range(10):
            assert client.call("PUT", "bucket", f"{number}", body=body).status == 200
            assert client.call("GET", "bucket", f"{number}").body == body
    finally:
        for each in idle:
            each.close()
    client.close()
    time.sleep(0.5)
    client = RawClient(server.port)
    assert client.call("PUT", "bucket", "after", body=body).status == 200
    client.close()


def test_clients_that_go_away_in_the_middle_leave_nothing_behind(make_server: MakeServer) -> None:
    """Downloads and uploads of every framing, cut; descriptors, maps and files are as before."""
    server = make_server(4)
    client = RawClient(server.port)
    assert client.call("PUT", "bucket").status == 200
    assert client.call("PUT", "bucket", "key", body=os.urandom(24 * MIB)).status == 200
    get, put = presigned(server, "get_object", "key"), presigned(server, "put_object", "new")
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    requests = (
        f"GET {get} {head}\r\n".encode(),
        f"PUT {put} {head}Content-Length: {24 * MIB}\r\n\r\n".encode() + bytes(9 * MIB),
        f"PUT {put} {head}Transfer-Encoding: chunked\r\n\r\n400000\r\n".encode() + bytes(4 * MIB) + b"\r\n7fffffff\r\nx",
        f"PUT {put} {head}Content-Length: 100\r\n\r\n".encode() + bytes(50),
    )

    def cut(number: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection, suppress(OSError):
            connection.sendall(requests[number % 4])
            if number % 4 == 0:
                connection.recv(100_000)

    def crowd() -> tuple[int, int, int]:
        """What is held once nobody is there any more."""
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(cut, range(48)))
        deadline = time.monotonic() + 15
        while (now := held(server))[1:] != (0, 0) and time.monotonic() < deadline:
            time.sleep(0.2)
        return now

    # Each of the server's threads keeps its connections to the catalogs open, so the first crowd leaves more descriptors.
    first, second = crowd(), crowd()
    assert first[1:] == second[1:] == (0, 0)
    assert second[0] <= first[0] + 20
    assert client.call("GET", "bucket", "new").status == 404
    client.close()


def held(server: Server) -> tuple[int, int, int]:
    """What the server has of descriptors, maps of shards, and files in the making."""
    process = Path(f"/proc/{server.pid}")
    maps = sum("/shards/" in line or ".abixio/tmp/" in line for line in (process / "maps").read_text().splitlines())
    return len(list((process / "fd").iterdir())), maps, len(leftovers(server))


# ---- kill -9 ---------------------------------------------------------------------------------------------------------
def kill_again_and_again(server: Server, ledger: Path, rounds: int, seed: int) -> None:
    """As `python -m tests.kills`, which has the long run."""
    report = Kills(server, ledger, seed).run(rounds)
    print(report)
    assert report.kills == rounds and report.fewest_in_a_round >= 20
    assert report.missing_files == report.uneven_keys == report.orphans == 0


def test_kill_9_loses_nothing_acknowledged_and_mixes_nothing(make_server: MakeServer, tmp_path: Path) -> None:
    kill_again_and_again(make_server(4, start=False), tmp_path / "ledger", 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_two_hundred_times(make_server: MakeServer, tmp_path: Path) -> None:
    kill_again_and_again(make_server(4, start=False), tmp_path / "ledger", 200, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("volumes", [1, 2, 5])
def test_kill_9_with_other_numbers_of_volumes(make_server: MakeServer, tmp_path: Path, volumes: int) -> None:
    kill_again_and_again(make_server(volumes, start=False), tmp_path / "ledger", 3, seed=volumes)


# ---- a crash and a lost disk -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
@pytest.mark.parametrize(("volumes", "ftt"), [(2, "1"), (4, "3"), (4, "2"), (4, "1")])
def test_a_crash_and_the_loss_of_as_many_disks_as_the_ftt_says_leave_the_object(
    make_server: MakeServer, volumes: int, ftt: str, durability: str
) -> None:
    """What was answered just before the crash is there, and the bucket can be listed."""
    server = make_server(volumes, "--durability", durability)
    with RawClient(server.port) as client:
        assert client.call("PUT", "bucket").status == 200
        assert client.call("PUT", "bucket", "key", headers={"x-amz-meta-ec-ftt": ftt}, body=b"acknowledged").status == 200
    server.kill()
    for volume in server.volumes[: int(ftt)]:
        remove(volume)
    with RawClient(server.start().port) as client:
        assert client.call("GET", "bucket", "key").body == b"acknowledged"
        if int(ftt) <= volumes // 2:  # with fewer volumes, nothing can be listed
            assert b"<Key>key</Key>" in client.call("GET", "bucket").body
