"""GetObject, HeadObject, PutObject and DeleteObject."""

from __future__ import annotations

import hashlib
import random
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import xxhash
from awscrt.checksums import crc32, crc32c, crc64nvme
from botocore.exceptions import ClientError

from abixio.errors import DataLost, InsufficientStorage, Overloaded, Unavailable
from abixio.s3.objects import ONE_WRITE
from abixio.s3.payload_checks import SIZES
from tests.s3_harness import Harness
from tests.s3_operations import MODEL

NOON_MS = 784_123_200_000
NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    assert harness.store.readers == 0, "a reader was left open"
    harness.close()


def put(s3: Harness, key: str = "k", body: bytes = b"0123456789", **headers: str) -> dict[str, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = s3.ask("PUT", f"/b01/{key}", sent, body)
    assert answer.status == 200, answer.body
    return answer.headers


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 4095, ONE_WRITE - 1, ONE_WRITE, ONE_WRITE + 1, 3 << 20])
def test_what_is_put_is_what_comes_back(s3: Harness, size: int) -> None:
    data = random.Random(size).randbytes(size)
    client = s3.client()
    etag = client.put_object(Bucket="b01", Key="some/key", Body=data, Metadata={"a": "b"})["ETag"]
    assert etag == f'"{md5(data)}"'
    found = client.get_object(Bucket="b01", Key="some/key")
    assert found["Body"].read() == data
    head = client.head_object(Bucket="b01", Key="some/key")
    for answer in (found, head):
        assert answer["ContentLength"] == size
        assert answer["ETag"] == etag
        assert answer["Metadata"] == {"a": "b"}
        assert answer["AcceptRanges"] == "bytes"
        assert answer["ContentType"] == "binary/octet-stream"


def test_head_has_no_body_but_the_length(s3: Harness) -> None:
    put(s3)
    head = s3.ask("HEAD", "/b01/k")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")


@pytest.mark.parametrize(
    "key",
    ["a", "a/", "a/b", "a//b", "../a", ".", "..", "x/meta.json", "n" * 255, "n" * 1024, "sp ace", "100%", "a+b", "a?b", "a#b",
     "'\"<&>", "\x01\x7f", "\n", "😀", "ÄÖ", "Case", "case", "/lead", "//", "versioning", "ü" * 512],
)
def test_any_key_is_a_key(s3: Harness, key: str) -> None:
    client = s3.client()
    client.put_object(Bucket="b01", Key=key, Body=key.encode())
    assert client.get_object(Bucket="b01", Key=key)["Body"].read() == key.encode()
    assert [each["Key"] for each in client.list_objects_v2(Bucket="b01")["Contents"]] == [key]


def test_a_key_over_1024_bytes_is_refused(s3: Harness) -> None:
    assert s3.ask("PUT", "/b01/" + "x" * 1025, body=b"1").code == "KeyTooLongError"
    assert s3.ask("PUT", "/b01/" + "%C3%BC" * 513, body=b"1").code == "KeyTooLongError"


def test_a_missing_key_is_named_in_the_error(s3: Harness) -> None:
    answer = s3.ask("GET", "/b01/not%20there")
    assert (answer.status, answer.code) == (404, "NoSuchKey")
    assert b"<Key>not there</Key>" in answer.body
    assert s3.ask("HEAD", "/b01/none").status == 404
    assert s3.ask("HEAD", "/b01/none").body == b""


def test_deleting_what_is_not_there_is_204(s3: Harness) -> None:
    put(s3)
    assert s3.ask("DELETE", "/b01/k").status == 204
    assert s3.ask("DELETE", "/b01/k").status == 204
    assert s3.ask("GET", "/b01/k").status == 404


def test_a_conditional_delete(s3: Harness) -> None:
    etag = put(s3)["etag"]
    assert s3.ask("DELETE", "/b01/k", {"if-match": '"other"'}).status == 412
    assert s3.ask("DELETE", "/b01/k?versionId=null", {"if-match": etag}).code == "NotImplemented"
    assert s3.ask("DELETE", "/b01/k", {"if-match": etag}).status == 204
    for missing in (etag, "*"):
        assert s3.ask("DELETE", "/b01/k", {"if-match": missing}).code == "NoSuchKey"
    put(s3)
    assert s3.ask("DELETE", "/b01/k", {"if-match": "*"}).status == 204


def test_a_delete_by_size_and_time(s3: Harness) -> None:
    client = s3.client()
    put(s3)
    head = client.head_object(Bucket="b01", Key="k")
    for wrong in ({"IfMatchSize": 1}, {"IfMatchLastModifiedTime": 0}, {"IfMatch": "*", "IfMatchSize": 1}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.delete_object(Bucket="b01", Key="k", **wrong)  # type: ignore[arg-type]
    assert s3.ask("DELETE", "/b01/k", {"if-none-match": "*"}).status == 412
    assert s3.ask("DELETE", "/b01/k", {"x-amz-if-match-size": "x"}).status == 400
    assert s3.ask("PUT", "/b01/k", {"x-amz-if-match-size": "1"}, b"x").status == 501
    client.delete_object(
        Bucket="b01", Key="k", IfMatch=head["ETag"], IfMatchSize=head["ContentLength"],
        IfMatchLastModifiedTime=head["LastModified"],
    )
    assert s3.ask("GET", "/b01/k").status == 404


# ---- versions of an unversioned bucket -------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_only_the_null_version_is_there(s3: Harness, method: str) -> None:
    put(s3)
    other = "x" * 32
    assert s3.ask(method, "/b01/k?versionId=nonsense").status == 400
    assert s3.ask(method, "/b01/k?versionId=").status == 400
    assert s3.ask(method, f"/b01/k?versionId={other}").status == (204 if method == "DELETE" else 404)
    assert s3.ask("GET", "/b01/k").status == 200
    assert s3.ask(method, "/b01/k?versionId=null").status in (200, 204)
    if method == "GET":
        assert s3.ask(method, f"/b01/k?versionId={other}").code == "NoSuchVersion"
        assert s3.ask(method, "/b01/k?versionId=nonsense").code == "InvalidArgument"
    if method == "DELETE":
        assert s3.ask(method, f"/b01/k?versionId={other}").headers["x-amz-version-id"] == other


# ---- ranges ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "expected", "place"),
    [("bytes=2-4", b"234", "2-4"), ("bytes=7-", b"789", "7-9"), ("bytes=-2", b"89", "8-9"), ("bytes=0-99", b"0123456789", "0-9")],
)
def test_a_range(s3: Harness, header: str, expected: bytes, place: str) -> None:
    put(s3)
    for method in ("GET", "HEAD"):
        answer = s3.ask(method, "/b01/k", {"range": header})
        assert (answer.status, answer.headers["content-range"]) == (206, f"bytes {place}/10")
        assert answer.headers["content-length"] == str(len(expected))
        assert answer.body == (expected if method == "GET" else b"")


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=nonsense", "bytes=4-2", "chapters=1-2"])
def test_what_is_no_single_range_gets_the_whole_object(s3: Harness, header: str) -> None:
    put(s3)
    answer = s3.ask("GET", "/b01/k", {"range": header})
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(("body", "header"), [(b"0123456789", "bytes=10-"), (b"", "bytes=0-"), (b"", "bytes=-5")])
def test_a_range_past_the_end_is_416(s3: Harness, body: bytes, header: str) -> None:
    put(s3, body=body)
    answer = s3.ask("GET", "/b01/k", {"range": header})
    assert (answer.status, answer.code, answer.headers["content-range"]) == (416, "InvalidRange", f"bytes */{len(body)}")
    assert s3.ask("HEAD", "/b01/k", {"range": header}).status == 416


def test_ranges_of_a_streamed_object(s3: Harness) -> None:
    data = random.Random(1).randbytes(3 << 20)
    put(s3, body=data)
    for first, last in ((0, 70_000), (1 << 20, 2 << 20), (1, (3 << 20) - 1), ((3 << 20) - 70_000, (3 << 20) - 1)):
        assert s3.ask("GET", "/b01/k", {"range": f"bytes={first}-{last}"}).body == data[first : last + 1]


def test_if_range(s3: Harness) -> None:
    etag = put(s3)["etag"]
    assert s3.ask("GET", "/b01/k", {"range": "bytes=1-2", "if-range": etag}).body == b"12"
    answer = s3.ask("GET", "/b01/k", {"range": "bytes=1-2", "if-range": '"other"'})
    assert (answer.status, answer.body) == (200, b"0123456789")


def test_part_number_of_a_plain_object(s3: Harness) -> None:
    put(s3)
    for method in ("GET", "HEAD"):
        answer = s3.ask(method, "/b01/k?partNumber=1")
        assert (answer.status, answer.headers["content-range"]) == (206, "bytes 0-9/10")
        assert s3.ask(method, "/b01/k?partNumber=2").status == 416
    assert s3.ask("GET", "/b01/k?partNumber=2").code == "InvalidPartNumber"
    put(s3, "empty", b"")
    assert s3.ask("GET", "/b01/empty?partNumber=1").status == 200
    for value in ("0", "10001", "-1", "x", "1.5"):
        assert s3.ask("GET", f"/b01/k?partNumber={value}").code == "InvalidArgument"
    assert s3.ask("GET", "/b01/k?partNumber=1", {"range": "bytes=0-1"}).code == "InvalidRequest"


# ---- conditions ------------------------------------------------------------------------------------------------------
def test_conditions_on_reads(s3: Harness) -> None:
    s3.store.now = NOON_MS
    etag = put(s3, cache_control="max-age=5", expires=NOON, x_amz_meta_a="b")["etag"]
    for method in ("GET", "HEAD"):
        assert s3.ask(method, "/b01/k", {"if-match": etag}).status == 200
        assert s3.ask(method, "/b01/k", {"if-match": '"x"'}).status == 412
        assert s3.ask(method, "/b01/k", {"if-unmodified-since": NOON}).status == 200
        for headers in ({"if-none-match": etag}, {"if-modified-since": NOON}):
            answer = s3.ask(method, "/b01/k", headers)
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers["etag"] == etag
            assert answer.headers["last-modified"] == NOON
            assert answer.headers["cache-control"] == "max-age=5"
            assert "x-amz-meta-a" not in answer.headers
    failed = s3.ask("GET", "/b01/k", {"if-match": '"x"'})
    assert failed.code == "PreconditionFailed"
    assert b"<Condition>If-Match</Condition>" in failed.body


def test_a_failed_condition_comes_before_a_bad_range(s3: Harness) -> None:
    etag = put(s3)["etag"]
    assert s3.ask("GET", "/b01/k", {"if-none-match": etag, "range": "bytes=99-"}).status == 304


def test_conditions_on_puts_are_checked_before_the_body(s3: Harness) -> None:
    client = s3.client()
    client.put_object(Bucket="b01", Key="k", Body=b"1", IfNoneMatch="*")
    assert s3.ask("PUT", "/b01/k", {"if-none-match": "*"}, b"x" * 1000).status == 412
    assert s3.unread == 1000
    assert s3.ask("PUT", "/b01/k", {"if-match": '"x"'}, b"x").status == 412
    assert s3.ask("PUT", "/b01/none", {"if-match": '"x"'}, b"x").code == "NoSuchKey"
    assert s3.ask("PUT", "/b01/k", {"if-none-match": '"x"'}, b"x").status == 501
    assert s3.ask("GET", "/b01/k").body == b"1"
    client.put_object(Bucket="b01", Key="k", Body=b"2", IfMatch=md5(b"1"))
    assert s3.ask("GET", "/b01/k").body == b"2"


# ---- metadata --------------------------------------------------------------------------------------------------------
def test_metadata_round_trip(s3: Harness) -> None:
    client = s3.client()
    sent: dict[str, Any] = {
        "CacheControl": "no-cache", "ContentDisposition": "inline", "ContentEncoding": "gzip", "ContentLanguage": "de",
        "ContentType": "text/plain", "StorageClass": "STANDARD_IA", "WebsiteRedirectLocation": "/x",
        "Metadata": {"ec-ftt": "2", "x": "y"},
    }
    client.put_object(Bucket="b01", Key="k", Body=b"data", **sent)
    for found in (client.get_object(Bucket="b01", Key="k"), client.head_object(Bucket="b01", Key="k")):
        assert {name: found.get(name) for name in sent} == sent
    (listed,) = client.list_objects_v2(Bucket="b01")["Contents"]
    assert listed["StorageClass"] == "STANDARD_IA"


def test_overrides_by_query(s3: Harness) -> None:
    put(s3, content_type="text/plain")
    query = "response-content-type=image%2Fpng&response-content-disposition=attachment%3B%20filename%3Da"
    answer = s3.presigned("GET", "/b01/k?" + query)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == "attachment; filename=a"
    assert s3.ask("GET", "/b01/k?response-content-type=a%0D%0Ab").code == "InvalidArgument"


@pytest.mark.parametrize(
    "headers",
    [{"x-amz-server-side-encryption": "aws:kms:dsse"}],
)
def test_a_put_that_asks_for_protection_which_is_not_there_stores_nothing(s3: Harness, headers: dict[str, str]) -> None:
    answer = s3.ask("PUT", "/b01/k", headers, b"secret")
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert s3.unread == 6
    assert s3.ask("GET", "/b01/k").status == 404


def test_the_fault_tolerance_is_checked_before_the_body(s3: Harness) -> None:
    for value in ("4", "-1", "x", "1.5"):
        answer = s3.ask("PUT", "/b01/k", {"x-amz-meta-ec-ftt": value}, b"data")
        assert answer.code == "InvalidArgument"
        assert s3.unread == 4
    put(s3, x_amz_meta_ec_ftt="3")


# ---- checksums -------------------------------------------------------------------------------------------------------
ALGORITHMS = [name.upper() for name in SIZES]
RIGHT = {
    "crc32": crc32(b"data").to_bytes(4, "big"), "crc32c": crc32c(b"data").to_bytes(4, "big"),
    "crc64nvme": crc64nvme(b"data").to_bytes(8, "big"),
    **{name: hashlib.new(name, b"data").digest() for name in ("md5", "sha1", "sha256", "sha512")},
    "xxhash64": xxhash.xxh64_digest(b"data"), "xxhash3": xxhash.xxh3_64_digest(b"data"),
    "xxhash128": xxhash.xxh3_128_digest(b"data"),
}


def test_the_model_knows_no_other_checksums() -> None:
    assert set(MODEL.shape_for("ChecksumAlgorithm").enum) <= set(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_checksum_of_s3_is_verified(s3: Harness, algorithm: str) -> None:
    digest = RIGHT[algorithm.lower()]
    header = f"x-amz-checksum-{algorithm.lower()}"
    answer = s3.ask("PUT", "/b01/k", {header: b64encode(digest).decode()}, b"data")
    assert (answer.status, answer.headers[header], answer.headers["x-amz-checksum-type"]) == (
        200, b64encode(digest).decode(), "FULL_OBJECT")
    wrong = b64encode(bytes([digest[0] ^ 1]) + digest[1:]).decode()
    answer = s3.ask("PUT", "/b01/k", {header: wrong}, b"data")
    assert answer.code == "BadDigest"
    assert f"The {algorithm} you specified did not match the calculated checksum.".encode() in answer.body
    shown = s3.ask("HEAD", "/b01/k", {"x-amz-checksum-mode": "ENABLED"}).headers
    assert shown[header] == b64encode(digest).decode()


def test_without_a_checksum_of_the_client_the_object_has_the_default_one(s3: Harness) -> None:
    expected = b64encode(RIGHT["crc64nvme"]).decode()
    answer = s3.ask("PUT", "/b01/k", {"content-md5": b64encode(hashlib.md5(b"data").digest()).decode()}, b"data")
    assert (answer.headers["x-amz-checksum-crc64nvme"], answer.headers["x-amz-checksum-type"]) == (expected, "FULL_OBJECT")
    assert s3.ask("GET", "/b01/k", {"x-amz-checksum-mode": "ENABLED"}).headers["x-amz-checksum-crc64nvme"] == expected
    assert not any("checksum" in name for name in s3.ask("GET", "/b01/k").headers)
    named = s3.ask("PUT", "/b01/k", {"x-amz-checksum-sha1": b64encode(RIGHT["sha1"]).decode()}, b"data")
    assert "x-amz-checksum-crc64nvme" not in named.headers


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "MD5"])
def test_a_checksum_is_echoed_kept_and_shown_when_asked_for(s3: Harness, algorithm: Any) -> None:
    client = s3.client(response_checksum_validation="when_required")
    name = "Checksum" + algorithm
    sent = client.put_object(Bucket="b01", Key="k", Body=b"data", ChecksumAlgorithm=algorithm)
    head: Any = client.head_object(Bucket="b01", Key="k", ChecksumMode="ENABLED")
    assert head[name] == sent[name]  # type: ignore[literal-required]
    assert head["ChecksumType"] == "FULL_OBJECT"
    assert name not in client.head_object(Bucket="b01", Key="k")
    (listed,) = client.list_objects_v2(Bucket="b01")["Contents"]
    assert listed["ChecksumAlgorithm"] == [algorithm]


def test_a_range_shows_no_checksum_of_the_whole(s3: Harness) -> None:
    s3.client().put_object(Bucket="b01", Key="k", Body=b"data")
    enabled = {"x-amz-checksum-mode": "ENABLED"}
    assert "x-amz-checksum-crc32" in s3.ask("GET", "/b01/k", enabled).headers
    assert "x-amz-checksum-crc32" not in s3.ask("GET", "/b01/k", enabled | {"range": "bytes=0-1"}).headers
    assert s3.client().get_object(Bucket="b01", Key="k", Range="bytes=1-2")["Body"].read() == b"at"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-md5": b64encode(bytes(16)).decode()}, "BadDigest"),
        ({"content-md5": "nonsense"}, "InvalidDigest"),
        ({"x-amz-checksum-sha256": b64encode(bytes(32)).decode()}, "BadDigest"),
        ({"x-amz-checksum-crc32": b64encode(bytes(4)).decode()}, "BadDigest"),
        ({"x-amz-checksum-crc32": "x"}, "InvalidRequest"),
    ],
)
def test_a_wrong_digest_stores_nothing(s3: Harness, headers: dict[str, str], code: str) -> None:
    put(s3, body=b"old")
    assert s3.ask("PUT", "/b01/k", headers, b"new").code == code
    assert s3.ask("GET", "/b01/k").body == b"old"


# ---- lengths ---------------------------------------------------------------------------------------------------------
def test_a_put_without_a_length_is_411(s3: Harness) -> None:
    assert s3.ask("PUT", "/b01/k", length=None).code == "MissingContentLength"


def test_a_put_of_more_than_five_gibibytes_is_refused_before_the_body(s3: Harness) -> None:
    answer = s3.ask("PUT", "/b01/k", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, length=(5 << 30) + 1)
    assert (answer.status, answer.code) == (400, "EntityTooLarge")


# ---- errors of the store ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(Unavailable("x"), 503, "ServiceUnavailable"), (Overloaded("x"), 503, "SlowDown"),
     (DataLost("x"), 503, "ServiceUnavailable"), (InsufficientStorage("x"), 507, "InsufficientStorage")],
)
def test_errors_of_the_store_become_s3_errors(s3: Harness, error: Exception, status: int, code: str) -> None:
    s3.store.failure = error
    answer = s3.ask("PUT", "/b01/k", body=b"x")
    assert (answer.status, answer.code) == (status, code)


def test_boto3_sees_the_code_of_an_error(s3: Harness) -> None:
    with pytest.raises(ClientError) as caught:
        s3.client().get_object(Bucket="b01", Key="none")
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"


def test_what_is_not_archived_is_not_restored(s3: Harness) -> None:
    body = b"<RestoreRequest><Days>1</Days></RestoreRequest>"
    s3.ask("PUT", "/b01/k", body=b"data")
    s3.ask("PUT", "/b01/cold", {"x-amz-storage-class": "GLACIER"}, b"data")
    assert s3.ask("POST", "/b01/none?restore", body=body).code == "NoSuchKey"
    assert s3.ask("POST", "/b01/k?restore", body=body).code == "InvalidObjectState"
    assert s3.ask("POST", "/b01/cold?restore", body=body).code == "NotImplemented"
    assert s3.ask("GET", "/b01/cold").body == b"data"
