"""Answers that are given at once: of thousands of random requests, each gets the same from a server that always waits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from abixio.message import Repeated
from abixio.s3 import answered
from abixio.s3.service import S3Service
from tests.s3_fakestore import AT_ONCE, FakeStore
from tests.s3_harness import ENDPOINT, KEYS, Answer, Harness
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET

REQUESTS = 1500
KEYS_USED = ["k", "long", "empty", "tagged", "gone", "k ü%"]


class Waiting:
    """The same store, which has nothing at hand."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    def at_hand(self, bucket: str, key: str, data: bool) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Counting(S3Service):
    """Counts in which way it answers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ways: Counter[str] = Counter()

    def __call__(self, request: Any) -> Any:
        answer = super().__call__(request)
        self.ways[type(answer).__name__] += 1
        return answer


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.service = Counting(harness.store, CREDENTIALS, harness.config, KEYS)
    fill(harness)
    yield harness
    harness.close()


def fill(s3: Harness) -> None:
    assert s3.ask("PUT", "/b01").status == 200
    meta = {"x-amz-meta-a": "b c", "cache-control": "no-store", "x-amz-checksum-crc32": "AAAAAA=="}
    assert s3.ask("PUT", "/b01/k", {"x-amz-meta-a": "b", "content-type": "a/b"}, b"0123456789").status == 200
    assert s3.ask("PUT", "/b01/k%20%C3%BC%25", {"x-amz-storage-class": "GLACIER_IR"}, b"x").status == 200
    assert s3.ask("PUT", "/b01/empty", meta, b"").status == 200
    assert s3.ask("PUT", "/b01/tagged", {"x-amz-tagging": "a=b&c=d"}, b"tagged").status == 200
    assert s3.ask("PUT", "/b01/long", {}, bytes(AT_ONCE + 1)).status == 200


def url(method: str, target: str) -> str:
    request = AWSRequest(method, ENDPOINT + target)
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=60).add_auth(request)
    split = urlsplit(str(request.url))
    return f"{split.path}?{split.query}"


def both(s3: Harness, send: Any) -> tuple[Answer, Answer]:
    """The answer, and that of a server which waits."""
    fast = s3.service
    first = send()
    s3.service = S3Service(Waiting(s3.store), CREDENTIALS, s3.config, KEYS)  # type: ignore[arg-type]
    try:
        return first, send()
    finally:
        s3.service = fast


def random_request(chance: random.Random, etag: str) -> tuple[str, str, dict[str, str]]:
    method = chance.choice(["GET", "GET", "GET", "HEAD", "HEAD", "DELETE", "PUT"])
    if method in ("DELETE", "PUT"):
        return method, "/b01/" + chance.choice(["gone", "other"]), {}
    target = "/" + chance.choice(["b01"] * 20 + ["b02", "b", "b..1"]) + "/" + quote(chance.choice(KEYS_USED))
    query = [pair for pair in (
        "response-content-type=a%2Fb", "response-expires=%0a", "versionId=null", "versionId=abc", "partNumber=1", "partNumber=2",
        "partNumber=x", "tagging", "uploads", "x-id=GetObject", "X-Amz-Meta-a=b",
    ) if chance.random() < 0.03]
    dates = [formatdate(at, usegmt=True) for at in (0, 4_000_000_000)]
    headers = {name: chance.choice(values) for name, values in {
        "range": ["bytes=0-3", "bytes=2-", "bytes=-1", "bytes=99-", "lines=1-2", "bytes=3-2"],
        "if-match": [etag, '"x"', "*"], "if-none-match": [etag, '"x"', "*"], "if-modified-since": [*dates, "never"],
        "if-unmodified-since": [*dates, "never"], "if-range": [etag, '"x"', *dates],
        "x-amz-checksum-mode": ["ENABLED", "no"], "x-amz-expected-bucket-owner": ["me"], "origin": ["http://a.test"],
        "x-amz-server-side-encryption": ["AES256"], "x-amz-server-side-encryption-customer-algorithm": ["AES256"],
        "x-amz-object-lock-mode": ["GOVERNANCE"], "user-agent": ["a"], "accept": ["*/*"],
    }.items() if chance.random() < 0.06}
    return method, target + ("?" + "&".join(query) if query else ""), headers


def test_thousands_of_random_requests_get_what_a_server_answers_that_waits(s3: Harness) -> None:
    chance = random.Random(7)
    etag = s3.ask("HEAD", "/b01/k").headers["etag"]
    urls = [(method, url(method, f"/b01/{quote(key)}")) for method in ("GET", "HEAD") for key in KEYS_USED]
    statuses: Counter[int] = Counter()
    for _ in range(REQUESTS):
        method, target, headers = random_request(chance, etag)
        body = b"new" if method == "PUT" else b""
        way = chance.random()
        if way < 0.4:
            first, second = both(s3, partial(s3.ask, method, target, headers, body))
        elif way < 0.6:
            first, second = both(s3, partial(s3.presigned, method, target, headers, body))
        else:
            method, target = chance.choice(urls)
            headers = headers if chance.random() < 0.3 else {}
            first, second = both(s3, partial(s3.send, method, target, headers))
        if method != "PUT":
            assert first == second, (method, target, headers)
        statuses[first.status] += 1
    assert {200, 204, 206, 304, 400, 403, 404, 412, 416} <= statuses.keys()
    ways = s3.service.ways  # type: ignore[attr-defined]
    assert ways["Response"] > 100 and ways["Repeated"] > 100 and ways["coroutine"] > 100, ways


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_url_that_is_used_again_gets_the_same_head_again(s3: Harness, method: str) -> None:
    target = url(method, "/b01/k?response-content-language=de")
    first, ways = s3.send(method, target), s3.service.ways  # type: ignore[attr-defined]
    assert ways["Repeated"] == 0
    again = s3.send(method, target, {"User-Agent": "x", "Accept-Encoding": "gzip", "Content-Length": "0"})
    assert ways["Repeated"] == 1
    assert (again.status, again.headers, again.body) == (first.status, first.headers, first.body)
    assert list(again.headers) == list(first.headers)
    assert s3.send(method, target, {"Range": "bytes=1-2"}).status == 206
    assert s3.send(method, target, {"If-None-Match": first.headers["etag"]}).status == 304
    assert ways["Repeated"] == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_that_is_signed_in_its_headers_gets_the_same_head_again(s3: Harness, method: str) -> None:
    ways = s3.service.ways  # type: ignore[attr-defined]
    plain, checked = s3.ask(method, "/b01/k"), s3.ask(method, "/b01/k", {"x-amz-checksum-mode": "ENABLED"})
    assert ways["Repeated"] == 0
    assert "x-amz-checksum-crc64nvme" in checked.headers.keys() - plain.headers.keys()
    assert s3.ask(method, "/b01/k") == plain
    assert s3.ask(method, "/b01/k", {"x-amz-checksum-mode": "ENABLED", "User-Agent": "x"}) == checked
    assert ways["Repeated"] == 2
    assert s3.ask(method, "/b01/k", {"x-amz-expected-bucket-owner": "somebody"}).status == 403


def test_who_signs_wrongly_gets_nothing_that_others_were_given(s3: Harness) -> None:
    assert s3.ask("GET", "/b01/k").status == 200
    s3.secret = "wrong"
    assert s3.ask("GET", "/b01/k").code == "SignatureDoesNotMatch"
    s3.access = "nobody"
    assert s3.ask("GET", "/b01/k").code == "InvalidAccessKeyId"


@pytest.mark.parametrize("name", ["range", "if-none-match", "x-amz-checksum-mode"])
def test_the_comparison_finds_a_header_that_is_taken_for_dull(s3: Harness, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The thousands of requests above do fail when the list is wrong."""
    monkeypatch.setattr(answered, "SIGNING", answered.SIGNING | {name})
    with pytest.raises(AssertionError):
        test_thousands_of_random_requests_get_what_a_server_answers_that_waits(s3)


def test_a_new_record_of_the_object_or_the_bucket_gets_a_new_head(s3: Harness) -> None:
    target = url("GET", "/b01/k")
    s3.send("GET", target)
    assert s3.ask("PUT", "/b01/k", {"content-type": "x/y"}, b"0123456789").status == 200
    assert s3.send("GET", target).headers["content-type"] == "x/y"
    state = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert s3.ask("PUT", "/b01?versioning", {}, state).status == 200
    assert s3.send("GET", target).headers["x-amz-version-id"] == "null"
    assert s3.send("GET", target).headers["x-amz-version-id"] == "null"


def test_a_repeated_answer_has_an_id_of_its_own(s3: Harness) -> None:
    target = url("GET", "/b01/k")
    s3.send("GET", target)
    answer = s3.service(_again(target))
    assert isinstance(answer, Repeated)
    assert dict(answer.response().headers)["x-amz-request-id"] == "ANOTHER"


def _again(target: str) -> Any:
    from abixio.message import Request
    from tests.s3_wire import BytesBody

    return Request("GET", target.encode(), {"host": "s3.test:9000"}, BytesBody(b"", 0), "ANOTHER", "127.0.0.1")
