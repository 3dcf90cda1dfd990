"""Several worker processes behind one port are one server."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from abixio.errors import StartupError
from abixio.volume.files import Files
from abixio.volume.lock import VolumeLock
from tests import census
from tests.conftest import MakeServer, factory
from tests.kills import scan, settle
from tests.ledger import Ledger, make_body, whole
from tests.load import BUCKET as KILLED
from tests.load import Writer, verify
from tests.rawclient import Answer, RawClient, Refused, Unknown
from tests.server import Server, alive, signal_all, wait_for_ends
from tests.workers_kit import client_of, owner

BUCKET = "shared"
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over four volumes."""
    for make in factory(tmp_path_factory.mktemp("workers")):
        found = make(4, "--workers", "2", "--durability", "page-cache")
        with RawClient(found.port) as client:
            assert client.call("PUT", BUCKET).status == 200
        yield found


@pytest.fixture
def both(server: Server) -> Iterator[list[RawClient]]:
    """A client of each worker, the runner's first."""
    clients = [client_of(server, worker) for worker in server.workers]
    yield clients
    for client in clients:
        client.close()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Raises what one of them raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def test_connections_are_dealt_out_to_all_workers(server: Server) -> None:
    seen = Counter[int | None]()
    for _ in range(40):
        with RawClient(server.port) as client:
            client.connect()
            seen[owner(server, client)] += 1
    assert len(server.workers) == 2
    assert set(seen) == set(server.workers)


def test_what_one_worker_acknowledged_the_other_shows_at_once(both: list[RawClient]) -> None:
    for number in range(20):
        writer, reader = both[number % 2], both[1 - number % 2]
        body = make_body(random.Random(number), 200_000 if number % 3 else 500)
        assert writer.call("PUT", BUCKET, "seen", body=body).status == 200
        assert reader.call("GET", BUCKET, "seen").body == body
        assert writer.call("DELETE", BUCKET, "seen").status == 204
        assert reader.call("GET", BUCKET, "seen").status == 404
        assert b"<Key>seen</Key>" not in reader.call("GET", BUCKET, query={"prefix": "seen"}).body


def test_of_conditional_puts_through_both_one_wins(server: Server) -> None:
    workers = server.workers
    for size in (300, 100_000):
        answers: list[int] = []

        def put(number: int, size: int = size, answers: list[int] = answers) -> None:
            with client_of(server, workers[number % 2]) as client:
                body = make_body(random.Random(number), size)
                answer = client.call("PUT", BUCKET, f"once-{size}", headers={"if-none-match": "*"}, body=body)
                answers.append(answer.status)

        in_threads(24, put)
        assert Counter(answers)[200] == 1
        assert set(answers) <= {200, 412, 409}


def test_readers_of_a_key_that_both_overwrite_see_one_body_whole(server: Server) -> None:
    workers, ends = server.workers, time.monotonic() + 3
    with RawClient(server.port) as client:
        client.call("PUT", BUCKET, "hot", body=make_body(random.Random(0), 1000))
    counts = Counter[str]()

    def work(number: int) -> None:
        chooser = random.Random(number)
        with client_of(server, workers[number % 2]) as client:
            while time.monotonic() < ends:
                if number < 4:
                    body = make_body(chooser, chooser.choice((100, 5000, 90_000, 700_000)))
                    assert client.call("PUT", BUCKET, "hot", body=body).status == 200
                    counts[f"puts of {number % 2}"] += 1
                else:
                    found = client.call("GET", BUCKET, "hot")
                    assert found.status == 200
                    assert whole(found.body)
                    counts["gets"] += 1

    in_threads(8, work)
    puts = [counts["puts of 0"], counts["puts of 1"]]
    assert min(puts) > max(puts) / 5, f"one of them starves: {counts}"
    assert counts["gets"] > 10


def test_settings_changed_through_one_hold_in_the_other_at_the_next_request(both: list[RawClient]) -> None:
    one, other = both
    status = b"<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>"
    assert one.call("PUT", "settings").status == 200
    ids = set[str]()
    for number in range(10):
        assert one.call("PUT", "settings", query={"versioning": ""}, body=status % b"Enabled").status == 200
        first = other.call("PUT", "settings", "key", body=b"%d" % number)
        ids.add(first.headers["x-amz-version-id"])
        assert one.call("PUT", "settings", query={"versioning": ""}, body=status % b"Suspended").status == 200
        assert other.call("PUT", "settings", "key", body=b"null").headers.get("x-amz-version-id", "null") == "null"
        one, other = other, one
    assert len(ids) == 10
    assert other.call("DELETE", "settings", "key").status == 204
    assert one.call("GET", "settings", "key").status == 404


def test_a_bucket_deleted_through_one_is_gone_for_the_other(both: list[RawClient]) -> None:
    one, other = both
    for _ in range(5):
        assert one.call("PUT", "brief").status == 200
        assert other.call("PUT", "brief", "key", body=b"x").status == 200
        assert one.call("DELETE", "brief").code == "BucketNotEmpty"
        assert one.call("DELETE", "brief", "key").status == 204
        assert one.call("DELETE", "brief").status == 204
        assert other.call("PUT", "brief", "key", body=b"x").code == "NoSuchBucket"
        one, other = other, one


def test_versions_made_through_both_have_an_order_and_ids_of_their_own(server: Server) -> None:
    workers = server.workers
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    with RawClient(server.port) as client:
        assert client.call("PUT", "versions").status == 200
        assert client.call("PUT", "versions", query={"versioning": ""}, body=enabled).status == 200

    def put(number: int) -> None:
        with client_of(server, workers[number % 2]) as client:
            for _ in range(10):
                assert client.call("PUT", "versions", "key", body=b"x").status == 200

    in_threads(6, put)
    with RawClient(server.port) as client:
        found = client.call("GET", "versions", query={"versions": ""}).body
    assert found.count(b"<Version>") == 60
    assert found.count(b"<IsLatest>true") == 1
    assert len({part.split(b"<")[0] for part in found.split(b"<VersionId>")[1:]}) == 60


def upload(client: RawClient, key: str, bodies: list[bytes]) -> Answer:
    made = client.call("POST", BUCKET, key, {"uploads": ""}).element("UploadId")
    etags = [
        client.call("PUT", BUCKET, key, {"partNumber": str(number), "uploadId": made}, body=body).etag
        for number, body in enumerate(bodies, 1)
    ]
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    return client.call("POST", BUCKET, key, {"uploadId": made}, body=document)


def test_a_reader_of_many_parts_keeps_them_while_the_other_worker_overwrites_and_purges(
    server: Server, both: list[RawClient]
) -> None:
    for turn, (reader, writer) in enumerate([(both[0], both[1]), (both[1], both[0])]):
        bodies = [make_body(random.Random(f"{turn}{number}"), 5 * MIB) for number in range(4)]
        assert upload(writer, f"parts-{turn}", bodies).status == 200
        target, signed = reader._request("GET", BUCKET, f"parts-{turn}", None, None, b"")
        connection = reader._connected()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)  # or the kernel takes all of it
        connection.request("GET", target, None, signed)
        answer = connection.getresponse()
        head = answer.read(1000)
        assert writer.call("PUT", BUCKET, f"parts-{turn}", body=b"new").status == 200
        until(lambda: any(_garbage(volume) for volume in server.volumes))
        time.sleep(1.5)  # a settling cycle
        assert head + answer.read() == b"".join(bodies)
        assert writer.call("GET", BUCKET, f"parts-{turn}").body == b"new"
        until(lambda: not any(_garbage(volume) for volume in server.volumes))


def _garbage(volume: Path) -> int:
    with census.catalog(volume) as connection:
        return int(connection.execute("SELECT count(*) FROM garbage").get)


def test_jobs_and_status_are_the_same_through_both(server: Server, both: list[RawClient]) -> None:
    started = {json.loads(client.call("POST", "_admin/v1/scan").body)["job"] for client in both}
    assert len(started) == 2
    for client in both:
        jobs = json.loads(client.call("GET", "_admin/v1/jobs").body)["jobs"]
        assert started <= {job["id"] for job in jobs}
        assert json.loads(client.call("GET", "_admin/v1/status").body)["repair"]["volumes"]
        assert client.call("GET", "_admin/v1/nothing").status == 404
    scan(server)
    wrong = RawClient(server.port, access="somebody")
    for worker in server.workers:
        wrong = client_of(server, worker)
        wrong._access = "somebody"
        answer = wrong._connected()
        target, signed = wrong._request("GET", "_admin/v1/status", "", None, None, b"")
        answer.request("GET", target, None, signed)
        assert answer.getresponse().status == 403
        wrong.close()


def test_a_killed_worker_is_started_again_and_nothing_acknowledged_is_lost(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(4, "--workers", "2", "--durability", "page-cache")
    with RawClient(server.port) as client:
        assert client.call("PUT", KILLED).status == 200
    ledger = Ledger(tmp_path / "ledger")
    writers = [
        Writer(ledger, [f"{writer}/{key}" for key in range(4)], writer, lambda: server.port, again=True) for writer in range(4)
    ]
    for writer in writers:
        writer.start()
    for number in (0, -1):
        before, acknowledged = server.workers, ledger.acknowledged
        signal_all([before[number]], signal.SIGKILL)
        survivor = before[1 + number] if number == 0 else before[0]
        with client_of(server, survivor) as client:
            assert client.call("GET", query={"max-buckets": "1"}).status == 200
        until(partial(restarted, server, before[number]))
        until(partial(went_on, ledger, acknowledged + 20))
        with client_of(server, next(pid for pid in server.workers if pid not in before)) as client:
            assert client.call("GET", query={"max-buckets": "1"}).status == 200
    for writer in writers:
        writer.stop()
    for writer in writers:
        writer.join()
        assert writer.error is None
    for worker in server.workers:
        with client_of(server, worker) as client:
            verify(client, ledger, ledger.keys)
    scan(server)
    settle(server)
    found = census.take(server.volumes)
    assert not found.orphans
    assert not found.missing
    assert not found.uneven
    ledger.close()


def restarted(server: Server, killed: int) -> bool:
    return len(set(server.workers) - {killed}) == 2


def went_on(ledger: Ledger, until: int) -> bool:
    return ledger.acknowledged > until


def test_workers_end_when_their_supervisor_is_killed_and_the_volumes_can_be_opened_again(make_server: MakeServer) -> None:
    server = make_server(2, "--workers", "2")
    with RawClient(server.port) as client:
        assert client.call("PUT", BUCKET).status == 200
        assert client.call("PUT", BUCKET, "key", body=b"x" * 100_000).status == 200
    workers = server.workers
    with client_of(server, workers[1]) as client:  # with a request that does not end
        target, signed = client._request("PUT", BUCKET, "half", None, {"content-length": "1000000"}, b"")
        client._connected().request("PUT", target, b"x" * 200_000, signed)
        assert server.process is not None
        server.process.kill()
        server.wait()
        assert alive(workers[1])
        with pytest.raises(StartupError, match="another server uses this volume"):
            VolumeLock(Files(), str(server.volumes[0]))
        wait_for_ends(workers)
    for volume in server.volumes:
        VolumeLock(Files(), str(volume)).release()
    server.start()
    with RawClient(server.port) as client:
        assert client.call("GET", BUCKET, "key").body == b"x" * 100_000
    assert server.stop() == 0


def test_sigterm_ends_all_in_good_order_with_uploads_under_way(make_server: MakeServer) -> None:
    server = make_server(2, "--workers", "2", "--durability", "page-cache")
    with RawClient(server.port) as client:
        assert client.call("PUT", BUCKET).status == 200
    answered: list[str] = []

    def put(number: int) -> None:
        with RawClient(server.port) as client:
            for turn in range(1000):
                try:
                    if client.call("PUT", BUCKET, f"{number}-{turn}", body=b"x" * 50_000).status == 200:
                        answered.append(f"{number}-{turn}")
                except (Unknown, Refused):
                    return

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(answered) > 40)
    workers = server.workers
    began = time.monotonic()
    assert server.stop() == 0, server.stderr()[-4000:]
    assert time.monotonic() - began < 10
    wait_for_ends(workers, 0)
    for thread in threads:
        thread.join()
    found = census.take(server.volumes)
    assert not found.orphans
    for volume in server.volumes:
        with census.catalog(volume) as connection:
            assert connection.execute("SELECT value FROM meta WHERE name = 'closed'").get == "yes"
    server.start()
    with RawClient(server.port) as client:
        assert all(client.call("HEAD", BUCKET, key).status == 200 for key in answered)


def test_a_server_that_cannot_start_says_why_once_and_ends(make_server: MakeServer, tmp_path: Path) -> None:
    first = make_server(1, "--workers", "2")
    other = Server(first.volumes, tmp_path / "stderr", ["--workers", "2"])
    other.launch()
    assert other.wait(30) == 2
    said = [line for line in other.stderr().splitlines() if line.startswith("abixio:")]
    assert len(said) == 1
    assert "another server uses this volume" in said[0]
    taken = Server([tmp_path / "v"], tmp_path / "stderr2", ["--workers", "2"])
    taken.command[taken.command.index("--port") + 1] = str(first.port)
    taken.launch()
    assert taken.wait(30) == 2
    assert "cannot listen" in taken.stderr()
    assert not (tmp_path / "v").exists()
    few = Server([tmp_path / "v"], tmp_path / "stderr3", ["--workers", "9"])
    few.launch()
    assert few.wait(30) == 2
    assert "576MiB at least" in few.stderr()


def test_a_signal_to_reopen_logs_reaches_all_workers(make_server: MakeServer, tmp_path: Path) -> None:
    log = tmp_path / "access"
    server = make_server(1, "--workers", "2", "--access-log", str(log))
    log.rename(tmp_path / "access.1")
    server.send_signal(signal.SIGHUP)
    for worker in server.workers:
        with client_of(server, worker) as client:
            client.call("GET")
    until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    assert os.path.getsize(tmp_path / "access.1") == 0
