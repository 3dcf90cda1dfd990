"""Writes that are answered without a coroutine: of a thousand random ones, each gets the answer of a server that always waits,
and leaves the same record."""

from __future__ import annotations

import random
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from hashlib import md5, sha256
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from msgspec.structs import replace

from abixio.codec.digest import digests_of
from abixio.errors import AbixioError, OutcomeUnknown, Overloaded, Unavailable
from abixio.s3 import objects, service
from abixio.s3.payload_checks import SIZES
from abixio.s3.service import S3Service
from abixio.store.types import Bucket
from tests.s3_fakestore import AT_ONCE, FakeStore
from tests.s3_harness import ENDPOINT, KEYS, Answer, Harness, Signer
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET, ChunkWriter
from tests.test_s3_at_once import Counting
from tests.test_s3_at_once import Waiting as WaitingToRead

WRITES = 1000
NOW = 1_800_000_000_000
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


class Waiting(WaitingToRead):
    """A store that has no bucket at hand either."""

    def bucket_at_hand(self, name: str) -> None:
        return None


class Streamed(S3SigV4Auth):
    """Signs the head of a request whose body comes in signed chunks."""

    def payload(self, request: Any) -> str:
        return SIGNED_CHUNKS


class Both(Signer):
    """Sends each request to two services, of which one always waits, and demands the same answer and the same store."""

    def __init__(self) -> None:
        super().__init__()
        store = FakeStore()
        store.now = NOW
        self.fast = Harness(store)
        self.fast.ask("PUT", "/b01")
        self.fast.ask("PUT", "/b01/k", {"content-type": "a/b"}, b"0123456789")
        self.slow = Harness(deepcopy(store))
        self.fast.service = Counting(self.fast.store, CREDENTIALS, self.fast.config, KEYS)
        self.slow.service = S3Service(Waiting(self.slow.store), CREDENTIALS, self.slow.config, KEYS)  # type: ignore[arg-type]

    @property
    def ways(self) -> Counter[str]:
        return self.fast.service.ways  # type: ignore[attr-defined,no-any-return]

    def send(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1,
    ) -> Answer:
        first = self.fast.send(method, target, headers, body, length)
        second = self.slow.send(method, target, headers, body, length)
        asked = method, target, headers, body[:100]
        assert (first.status, list(first.headers.items()), first.body) == (
            second.status, list(second.headers.items()), second.body
        ), asked
        assert _kept(self.fast.store) == _kept(self.slow.store), asked
        return first

    def streamed(self, target: str, data: bytes, coded: Callable[[ChunkWriter], bytes], announced: int) -> Answer:
        """`data` in signed chunks, as `coded` writes them; `announced`: the length that they are said to have without."""
        request = AWSRequest(
            "PUT", ENDPOINT + target, headers={"x-amz-decoded-content-length": str(announced), "content-encoding": "aws-chunked"}
        )
        auth = Streamed(Credentials(self.access, self.secret), "s3", "us-east-1")
        auth.add_auth(request)
        sent = {name: str(value) for name, value in request.headers.items()}
        scope = f"{sent['X-Amz-Date'][:8]}/us-east-1/s3/aws4_request"
        body = coded(ChunkWriter(sent["Authorization"].rpartition("Signature=")[2], sent["X-Amz-Date"], scope))
        return self.send("PUT", target, sent | {"content-length": str(len(body))}, body)

    def close(self) -> None:
        self.fast.close()
        self.slow.close()


def _kept(store: FakeStore) -> Any:
    """All that a store has, without the random ids and keys of writes."""
    return [
        (key, stored.data, replace(stored.record, parts=(), encryption=dict.fromkeys(stored.record.encryption, "")))
        for contents in store.contents.values() for key, stored in sorted(contents.objects.items())
    ]


@pytest.fixture
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.close()


def checksums(body: bytes) -> dict[str, str]:
    return {"x-amz-checksum-" + name: b64encode(value).decode() for name, value in digests_of(set(SIZES), body).items()}


def random_write(chance: random.Random, etag: str) -> tuple[str, str, dict[str, str], bytes]:
    method = chance.choice(["PUT", "PUT", "PUT", "DELETE", "DELETE"])
    bucket = chance.choice(["b01"] * 30 + ["b02", "b", "b..1"])
    target = f"/{bucket}/" + quote(chance.choice(["k", "k", "k ü%", "a/b", "", "x" * 1025] + ["one", "two", "three"] * 3))
    query = [pair for pair in (
        "versionId=null", "versionId=abc", "tagging", "acl", "uploadId=x", "partNumber=1", "x-id=PutObject", "X-Amz-Meta-a=b",
        "torrent",
    ) if chance.random() < 0.02]
    body = chance.choice([b"", b"x", b"data", bytes(1000), bytes(AT_ONCE), bytes(AT_ONCE + 1)]) if method == "PUT" else b""
    sums = list(checksums(chance.choice([body, body, b"else"])).items())
    headers = {name: chance.choice(values) for name, values in {
        "content-type": ["a/b", "", "ü"], "cache-control": ["no-store"], "content-encoding": ["gzip", "aws-chunked"],
        "content-language": ["de"], "content-disposition": ["attachment"], "expires": ["never"],
        "x-amz-meta-a": ["b", "x" * 2100],
        "x-amz-meta-ü": ["b"], "x-amz-meta-ec-ftt": ["0", "1", "9", "x"], "x-amz-tagging": ["a=b", "a=b&a=c", "%%"],
        "x-amz-storage-class": ["STANDARD", "GLACIER_IR", "none"], "x-amz-acl": ["private", "public-read", "x"],
        "x-amz-grant-read": ["id=x"], "if-match": [etag, '"x"', "*"], "if-none-match": ["*", etag, '"x"'],
        "if-modified-since": ["never"], "x-amz-if-match-size": ["10", "x"], "x-amz-expected-bucket-owner": ["me"],
        "x-amz-object-lock-mode": ["GOVERNANCE", "x"], "x-amz-object-lock-legal-hold": ["ON", "x"],
        "x-amz-bypass-governance-retention": ["true", "x"], "x-amz-server-side-encryption": ["AES256", "x"],
        "x-amz-server-side-encryption-customer-algorithm": ["AES256"], "x-amz-write-offset-bytes": ["0", "10", "x"],
        "x-amz-copy-source": ["/b01/k", "x"], "x-amz-website-redirect-location": ["/x"], "x-amz-mfa": ["1 2"],
        "x-amz-trailer": ["x-amz-checksum-crc32"], "x-amz-sdk-checksum-algorithm": ["CRC32", "x"], "origin": ["http://a.test"],
        "content-md5": [b64encode(md5(body, usedforsecurity=False).digest()).decode(), "x", "AAAAAAAAAAAAAAAAAAAAAA=="],
        "x-amz-decoded-content-length": [str(len(body)), "1", "x"], "user-agent": ["a"], "x-amz-security-token": ["x"],
    }.items() if chance.random() < 0.02}
    headers |= dict(chance.sample(sums, chance.choice([0, 0, 0, 0, 1, 1, 2])))
    return method, target + ("?" + "&".join(query) if query else ""), headers, body


def test_a_thousand_random_writes_get_what_a_server_answers_that_waits(both: Both) -> None:
    chance = random.Random(11)
    statuses: Counter[int] = Counter()
    for _ in range(WRITES):
        etag = both.fast.ask("HEAD", "/b01/k").headers.get("etag", '"y"')
        method, target, headers, body = random_write(chance, etag)
        both.secret = "wrong" if chance.random() < 0.02 else SECRET
        failure = chance.choice([*[None] * 50, Unavailable("no"), OutcomeUnknown("no"), Overloaded("no")])
        for store in (both.fast.store, both.slow.store):
            store.failure = failure
        way = chance.random()
        if way < 0.5:
            answer = both.ask(method, target, headers, body, chance.choice([-1, -1, -1, -1, -1, -1, None]))
        elif way < 0.9:
            answer = both.presigned(method, target, headers, body)
        else:
            answer = both.send(method, target, headers, body)
        statuses[answer.status] += 1
    assert {200, 204, 400, 403, 404, 409, 411, 412, 500, 501, 503} <= statuses.keys(), statuses
    assert statuses[200] + statuses[204] > 300, statuses
    assert both.ways["Future"] > 250 and both.ways["coroutine"] > 150 and both.ways["Response"] > 50, both.ways


@pytest.mark.parametrize("name", ["check_owner", "_put_source", "UNUSUAL", "_delete_condition"])
def test_the_comparison_finds_a_look_that_is_left_out(both: Both, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The thousand writes above do fail when the short way forgets something."""
    def nothing(call: Any) -> Callable[[object], None]:
        return lambda current: None

    def forgotten(bucket: Bucket, owner: str | None) -> None:
        return None

    class Unchecked:
        def __init__(self, source: Any) -> None:
            self.length, self.algorithms = source.length, source.algorithms

        def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
            return {}

    replaced: dict[str, Any] = {
        "check_owner": forgotten, "UNUSUAL": frozenset(), "_delete_condition": nothing,
        "_put_source": lambda call, spec: Unchecked(objects.payload_source(call.request, call.identity)),
    }
    def patched(work: Any) -> Any:
        def call(*arguments: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(objects, name, replaced[name])
                return work(*arguments)

        return call

    monkeypatch.setattr(service, "WRITTEN_AT_ONCE", {
        "PUT": ("PutObject", patched(objects.put_at_once)), "DELETE": ("DeleteObject", patched(objects.delete_at_once)),
    })
    with pytest.raises(AssertionError):
        test_a_thousand_random_writes_get_what_a_server_answers_that_waits(both)


# ---- signed chunks ---------------------------------------------------------------------------------------------------
def test_what_comes_in_chunks_is_decoded_and_its_signatures_are_checked(both: Both) -> None:
    data = bytes(2000)
    answer = both.streamed("/b01/chunks", data, lambda writer: writer.chunk(data) + writer.chunk(b"") + b"\r\n", len(data))
    assert answer.status == 200
    assert both.fast.store.contents["b01"].objects["chunks"].data == data


def test_a_body_without_chunks_is_not_taken_for_the_data_of_chunks(both: Both) -> None:
    """Its length may be as announced; nobody has signed it."""
    forged = b"anything that somebody on the way likes better"
    answer = both.streamed("/b01/k", b"", lambda writer: forged, len(forged))
    assert answer.status >= 400
    assert both.fast.store.contents["b01"].objects["k"].data == b"0123456789"


def test_chunks_are_not_stored_with_their_coding(both: Both) -> None:
    coded = b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
    assert both.streamed("/b01/k", b"hello", lambda writer: coded, len(coded)).status >= 400
    assert both.fast.store.contents["b01"].objects["k"].data == b"0123456789"


# ---- single ones -----------------------------------------------------------------------------------------------------
def test_small_writes_do_go_the_short_way(both: Both) -> None:
    before = both.ways["Future"]
    assert both.ask("PUT", "/b01/new", {}, b"data").status == 200
    assert both.presigned("PUT", "/b01/new", {"content-type": "a/b"}, b"data").status == 200
    assert both.ask("PUT", "/b01/new", {"if-none-match": '"x"'}, b"").status in (200, 501)
    assert both.ask("DELETE", "/b01/new").status == 204
    assert both.ask("DELETE", "/b01/new").status == 204
    assert both.ways["Future"] >= before + 4
    before = both.ways["coroutine"]
    assert both.ask("PUT", "/b01/new", {"origin": "http://a.test"}, b"data").status == 200
    assert both.ask("PUT", "/b01/new", {}, bytes(AT_ONCE + 1)).status == 200
    assert both.ways["coroutine"] == before + 2


def test_a_body_that_is_not_there_yet_is_waited_for(both: Both) -> None:
    body = b"data"
    request = AWSRequest("PUT", ENDPOINT + "/b01/new", data=body)
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
    sent = {name: str(value) for name, value in request.headers.items()} | {"content-length": "5"}
    before = both.ways["coroutine"]
    assert both.send("PUT", urlsplit(str(request.url)).path, sent, body, 5).status >= 400
    assert both.ways["coroutine"] == before + 1


@pytest.mark.parametrize("error", [Unavailable("no"), OutcomeUnknown("no"), Overloaded("no")])
def test_what_a_commit_ends_in_is_the_same_answer(both: Both, error: AbixioError) -> None:
    for method, body in (("PUT", b"data"), ("DELETE", b"")):
        for store in (both.fast.store, both.slow.store):
            store.failure = error
        answer = both.ask(method, "/b01/k", {"x-amz-content-sha256": sha256(body).hexdigest()}, body)
        assert answer.status >= 500 and b"/b01/k" in answer.body
    assert both.ways["Future"] == 2
