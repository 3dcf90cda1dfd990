"""Many clients on one key of a running server: one winner, no lost update, no mixture, and a list shows what is there."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5

import pytest

from tests.conftest import MakeServer
from tests.ledger import digest, make_body, whole
from tests.rawclient import Answer, RawClient
from tests.server import Server, bring_back, remove

KIB, MIB = 1 << 10, 1 << 20
INLINE, FILE, STRIPES = 100, 300 * KIB, 4 * MIB + 99
"""Sizes of the three ways a body is kept: in the catalog, in files of one stripe, of two."""
CREATE = {"if-none-match": "*"}


@pytest.fixture
def client(server: Server) -> Iterator[RawClient]:
    with RawClient(server.port) as client:
        yield client


def together(port: int, count: int, work: Callable[[int, RawClient], None]) -> None:
    """`work(number, client)` on so many connections, all of them open before the first begins."""
    ready = threading.Barrier(count)

    def one(number: int) -> None:
        with RawClient(port, timeout=60) as client:
            client.connect()
            ready.wait(60)
            work(number, client)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(one, number) for number in range(count)]:
            future.result()


# ---- conditions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [INLINE, FILE])
def test_a_hundred_creators_have_one_winner(server: Server, bucket: str, client: RawClient, size: int) -> None:
    bodies = [make_body(random.Random(number), size) for number in range(100)]
    answers: dict[int, Answer] = {}

    def create(number: int, own: RawClient) -> None:
        answers[number] = own.call("PUT", bucket, "key", headers=CREATE, body=bodies[number])

    together(server.port, 100, create)
    winners = [number for number, answer in answers.items() if answer.status == 200]
    assert len(winners) == 1
    assert {(answer.status, answer.code) for n, answer in answers.items() if n not in winners} == {(412, "PreconditionFailed")}
    assert client.call("GET", bucket, "key").body == bodies[winners[0]]


def test_creators_by_put_copy_and_completion_have_one_winner(server: Server, bucket: str, client: RawClient) -> None:
    client.call("PUT", bucket, "source", body=b"copied")
    uploads = {}
    for number in range(10):
        upload = client.call("POST", bucket, "key", {"uploads": ""}).element("UploadId")
        part = client.call("PUT", bucket, "key", {"uploadId": upload, "partNumber": "1"}, body=b"part %d" % number)
        uploads[number] = (upload, part.etag)
    answers: dict[int, int] = {}

    def create(number: int, own: RawClient) -> None:
        if number < 10:
            upload, etag = uploads[number]
            part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
            document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
            answer = own.call("POST", bucket, "key", {"uploadId": upload}, CREATE, document)
        elif number < 20:
            answer = own.call("PUT", bucket, "key", headers=CREATE | {"x-amz-copy-source": f"/{bucket}/source"})
        else:
            answer = own.call("PUT", bucket, "key", headers=CREATE, body=b"put %d" % number)
        answers[number] = answer.status

    together(server.port, 30, create)
    [winner] = [number for number, status in answers.items() if status == 200]
    assert set(answers.values()) == {200, 412}
    expected = b"part %d" % winner if winner < 10 else b"copied" if winner < 20 else b"put %d" % winner
    assert client.call("GET", bucket, "key").body == expected


@pytest.mark.parametrize("size", [INLINE, FILE])
def test_counters_by_compare_and_swap_lose_no_update(server: Server, bucket: str, client: RawClient, size: int) -> None:
    """Each client increments until it has won five times; the bodies of all winners name the counts 1 to 40, each once."""
    client.call("PUT", bucket, "key", body=b"0 " + bytes(size))
    won: list[int] = []

    def increment(number: int, own: RawClient) -> None:
        wins = 0
        while wins < 5:
            now = own.call("GET", bucket, "key")
            count = int(now.body.split()[0]) + 1
            answer = own.call("PUT", bucket, "key", headers={"if-match": now.headers["etag"]}, body=b"%d " % count + bytes(size))
            assert answer.status in (200, 412), answer
            if answer.status == 200:
                won.append(count)
                wins += 1

    together(server.port, 8, increment)
    assert sorted(won) == list(range(1, 41))
    assert client.call("GET", bucket, "key").body.split()[0] == b"40"


def test_deletes_with_a_condition_take_only_the_version_they_name(server: Server, bucket: str, client: RawClient) -> None:
    """Every version that was put is overwritten or deleted, and no delete that names another one does anything."""
    done: Counter[str] = Counter()

    def work(number: int, own: RawClient) -> None:
        for turn in range(15):
            body = b"%d %d" % (number, turn)
            if own.call("PUT", bucket, "key", headers=CREATE, body=body).status == 200:
                done["created"] += 1
                # Nobody else can create or delete now: nobody else knows this ETag.
                assert own.call("GET", bucket, "key").body == body
                assert own.call("DELETE", bucket, "key", headers={"if-match": f'"{md5(body).hexdigest()}"'}).status == 204
            else:
                wrong = {"if-match": f'"{md5(body).hexdigest()}"'}
                assert own.call("DELETE", bucket, "key", headers=wrong).status in (404, 412)  # 404: there was nothing just then

    together(server.port, 8, work)
    assert done["created"] > 8
    assert client.call("GET", bucket, "key").status == 404


# ---- readers beside writers ------------------------------------------------------------------------------------------
def test_readers_never_see_a_mixture(server: Server, bucket: str, client: RawClient) -> None:
    """Bodies carry their own hash; heads, ranges and listings belong to one of them too."""
    sizes = (INLINE, FILE, STRIPES, 40 * KIB)
    stop = threading.Event()
    seen: Counter[str] = Counter()
    etags: dict[str, int] = {}

    def write(number: int, own: RawClient) -> None:
        chooser = random.Random(number)
        try:
            for _ in range(20):
                body = make_body(chooser, chooser.choice(sizes) + number)
                headers = {"x-amz-meta-ec-ftt": chooser.choice("0123"), "x-amz-meta-name": str(digest(body))}
                answer = own.call("PUT", bucket, "key", headers=headers, body=body)
                assert answer.status == 200
                etags[answer.etag] = len(body)
        finally:
            stop.set()

    def read(number: int, own: RawClient) -> None:
        chooser = random.Random(number)
        while not stop.is_set():
            first = chooser.randrange(100)
            answer = own.call("GET", bucket, "key", headers={"range": f"bytes={first}-"} if number % 2 else {})
            if answer.status == 404:
                continue
            body = answer.body
            if number % 2:
                assert answer.status == 206
                body = own.call("GET", bucket, "key", headers={"if-match": answer.headers["etag"]}).body
                if not body.startswith(b"<?xml"):
                    assert body[first:] == answer.body
                    seen["range"] += 1
                continue
            assert whole(body) and answer.headers["x-amz-meta-name"] == digest(body)
            assert int(answer.headers["content-length"]) == len(body)
            seen["whole"] += 1

    def work(number: int, own: RawClient) -> None:
        write(number, own) if number < 4 else read(number, own)

    together(server.port, 10, work)
    assert min(seen["range"], seen["whole"]) > 5, seen
    last = client.call("HEAD", bucket, "key")
    assert etags[last.etag] == int(last.headers["content-length"])


def test_a_list_shows_every_acknowledged_key_and_none_that_is_deleted(server: Server, bucket: str) -> None:
    """Pages of seven keys, while keys come and go. What was there before a listing and stays is in it exactly once."""
    stop = threading.Event()
    lock = threading.Lock()
    there: set[str] = set()
    gone: set[str] = set()
    listings = 0

    def write(number: int, own: RawClient) -> None:
        chooser = random.Random(number)
        try:
            for turn in range(60):
                key = f"{chooser.randrange(100):03} {number} {turn}"
                assert own.call("PUT", bucket, key, body=bytes(chooser.choice((INLINE, FILE)))).status == 200
                with lock:
                    there.add(key)
                if turn % 3 == 2:
                    with lock:
                        there.discard(key)
                    assert own.call("DELETE", bucket, key).status == 204
                    with lock:
                        gone.add(key)
        finally:
            stop.set()

    def look(number: int, own: RawClient) -> None:
        nonlocal listings
        while not stop.is_set():
            with lock:
                must, must_not = set(there), set(gone)
            found = pages(own, bucket)
            assert len(found) == len(set(found)) and found == sorted(found)
            with lock:
                # What was deleted since the listing began may be in it or not.
                must &= there
            assert must <= set(found), must - set(found)
            assert not must_not & set(found), must_not & set(found)
            listings += 1

    together(server.port, 6, lambda number, own: write(number, own) if number < 4 else look(number, own))
    assert listings >= 2


def pages(client: RawClient, bucket: str) -> list[str]:
    """All keys by version 2 of the listing, by its tokens."""
    found: list[str] = []
    query = {"list-type": "2", "max-keys": "7"}
    while True:
        answer = client.call("GET", bucket, query=query)
        assert answer.status == 200, answer
        found += [part.split(b"</Key>")[0].decode() for part in answer.body.split(b"<Key>")[1:]]
        token = answer.element("NextContinuationToken")
        if not token:
            return found
        query["continuation-token"] = token


def test_a_list_shows_what_a_volume_missed_at_once_when_it_returns(make_server: MakeServer) -> None:
    """Whichever volume is scanned, and before any of it is repaired."""
    server = make_server(4)
    old, new = [f"{number:02} old" for number in range(20)], [f"{number:02} new" for number in range(20)]
    there = set(old)
    with RawClient(server.port) as client:
        assert client.call("PUT", "bucket").status == 200
        for key in old:
            assert client.call("PUT", "bucket", key, body=bytes(INLINE)).status == 200
    for number in (0, 2):
        assert server.stop() == 0
        remove(server.volumes[number])
        with RawClient(server.start().port) as client:
            for key in new[number::4]:
                assert client.call("PUT", "bucket", key, body=bytes(INLINE)).status == 200
            for key in old[number::4]:
                assert client.call("DELETE", "bucket", key).status == 204
        server.kill()
        bring_back(server.volumes[number])
        there = there.union(new[number::4]).difference(old[number::4])
        with RawClient(server.start().port) as client:
            assert pages(client, "bucket") == sorted(there)


def test_a_bucket_that_is_deleted_by_somebody_who_goes_away_takes_no_acknowledged_object_along(
    server: Server, bucket: str, client: RawClient
) -> None:
    """The deleter does not wait for his answer; the bucket is either gone, and then nothing was put, or all there."""
    outcomes: Counter[str] = Counter()
    for turn in range(40):
        name = f"{bucket}-{turn}"
        assert client.call("PUT", name).status == 200
        stored = put_beside_a_deletion(server.port, name, turn % 8)
        assert set(stored.values()) <= {200, 404}, stored
        there = client.call("GET", name, query={"list-type": "2"})
        if 200 in stored.values():
            assert there.status == 200
            assert {number: f"<Key>{number}</Key>".encode() in there.body for number in stored} == {
                number: status == 200 for number, status in stored.items()
            }
        outcomes["kept" if there.status == 200 else "gone"] += 1
    assert min(outcomes["kept"], outcomes["gone"]) > 0, outcomes


def put_beside_a_deletion(port: int, name: str, turn: int) -> dict[int, int]:
    """Three clients put an object each while one deletes the bucket and leaves; the statuses that the three got."""
    stored: dict[int, int] = {}

    def work(number: int, own: RawClient) -> None:
        if number == 0:
            time.sleep(0.001 * max(0, turn - 5))
            own.send_and_leave("DELETE", name)
        else:
            time.sleep(0.002 * max(0, 4 - turn))
            stored[number] = own.call("PUT", name, str(number), body=bytes(INLINE)).status

    together(port, 4, work)
    return stored
