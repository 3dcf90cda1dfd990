"""Objects through a running server of four volumes, as boto3 sees them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_socket import Wire
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

KIB, MIB = 1 << 10, 1 << 20
STRIPE = 3 * MIB
"""Of an object with FTT 1 on four volumes: three chunks of 1 MiB."""


def fetch(s3: S3Client, bucket: str, key: str, **more: Any) -> tuple[bytes, GetObjectOutputTypeDef]:
    """Body and all else of a GET. An answer whose body is not read keeps its connection."""
    answer = s3.get_object(Bucket=bucket, Key=key, **more)
    with answer["Body"] as body:
        return body.read(), answer


def read(s3: S3Client, bucket: str, key: str, **more: Any) -> bytes:
    return fetch(s3, bucket, key, **more)[0]


def status(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """HTTP status and S3 code."""
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def keys(s3: S3Client, bucket: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


# ---- round trips -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "size", [0, 1, 4095, 64 * KIB, MIB - 1, MIB, MIB + 1, STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE + 12345, 64 * MIB]
)
def test_what_was_put_comes_back(s3: S3Client, bucket: str, size: int) -> None:
    body = os.urandom(size)
    etag = s3.put_object(Bucket=bucket, Key="key", Body=body)["ETag"]
    head = s3.head_object(Bucket=bucket, Key="key")
    assert (head["ContentLength"], head["ETag"]) == (size, etag)
    content, got = fetch(s3, bucket, "key")
    assert got["ETag"] == etag
    assert hashlib.sha256(content).digest() == hashlib.sha256(body).digest()
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == size
    s3.delete_object(Bucket=bucket, Key="key")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="key")
    assert status(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key="key")
    assert status(error)[0] == 404


def test_the_etag_of_a_small_object_is_its_md5(s3: S3Client, bucket: str) -> None:
    body = os.urandom(100_000)
    assert s3.put_object(Bucket=bucket, Key="key", Body=body)["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'


def test_the_etag_of_a_large_object_does_not_look_like_an_md5(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="key", Body=os.urandom(10 * MIB))["ETag"]
    assert etag.endswith('-1"')


@pytest.mark.parametrize("ftt", ["-1", "4", "x", "1.0", ""])
def test_an_impossible_ftt_is_refused(s3: S3Client, bucket: str, ftt: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"ec-ftt": ftt})
    assert status(error) == (400, "InvalidArgument")
    assert keys(s3, bucket) == []


# ---- ranges ----------------------------------------------------------------------------------------------------------
BODY = random.Random(1).randbytes(2 * STRIPE + 70_000)


@pytest.fixture(scope="module", params=["0", "1", "2", "3"])
def ranged(s3: S3Client, request: pytest.FixtureRequest) -> str:
    """A bucket with BODY under `key`, of one FTT."""
    bucket = f"ranged-{request.param}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="key", Body=BODY, Metadata={"ec-ftt": request.param})
    return bucket


def test_every_range_around_chunk_and_stripe_borders_is_exact(s3: S3Client, ranged: str) -> None:
    borders = [0, 64 * KIB, MIB, 2 * MIB, STRIPE, 4 * MIB, 2 * STRIPE, len(BODY)]
    points = sorted({point for border in borders for point in (border - 1, border, border + 1) if 0 <= point < len(BODY)})
    ranges = [(first, last) for first in points for last in points if first <= last]

    def check(wanted: tuple[int, int]) -> bool:
        first, last = wanted
        return read(s3, ranged, "key", Range=f"bytes={first}-{last}") == BODY[first : last + 1]

    with ThreadPoolExecutor(4) as pool:
        assert [wanted for wanted, right in zip(ranges, pool.map(check, ranges), strict=True) if not right] == []


def test_range_forms(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
    for form, expected, header in [
        ("bytes=2-5", b"2345", "bytes 2-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ]:
        content, got = fetch(s3, bucket, "key", Range=form)
        assert (content, got["ContentRange"]) == (expected, header)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert read(s3, bucket, "key", Range="bytes=0-1,4-5") == b"0123456789"


@pytest.mark.parametrize(
    ("size", "form"), [(10, "bytes=10-"), (10, "bytes=99-100"), (10, "bytes=-0"), (0, "bytes=0-0"), (0, "bytes=-1")]
)
def test_a_range_past_the_end_is_416(s3: S3Client, bucket: str, size: int, form: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=bytes(size))
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="key", Range=form)
    assert status(error) == (416, "InvalidRange")
    assert error.value.response["ResponseMetadata"]["HTTPHeaders"]["content-range"] == f"bytes */{size}"


# ---- keys ------------------------------------------------------------------------------------------------------------
KEYS = [
    "a", "a/", "a/b", "a//b", "../a", "..", ".", "x/meta.json", "x" * 255, "y" * 1024, "z/" * 512, "é" * 512, "with blank", " ",
    "%41", "a%2Fb", "a+b", "a?b", "a#b", "a&b=c", "quote'double\"", "back\\slash", "<xml>&amp;", "tab\there", "line\nfeed",
    "\x01\x1f\x7f", "ünïcödé", "🦊/🦝", "UPPER", "upper", "Upper", "*", "~", "a:b", "a;b", "a=b", "@", "$", "!", "(a)", "[a]",
    "{a}", "|", "^", "`", ",", "-", "_", "/", "//", "/a",
]


def test_every_name_lives_beside_every_other(s3: S3Client, bucket: str) -> None:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert keys(s3, bucket) == sorted(KEYS, key=str.encode)
    for key in KEYS:
        assert read(s3, bucket, key) == key.encode()
    s3.delete_object(Bucket=bucket, Key="a")
    assert read(s3, bucket, "a/b") == b"a/b"
    assert read(s3, bucket, "a/") == b"a/"
    assert keys(s3, bucket) == sorted(set(KEYS) - {"a"}, key=str.encode)


def test_a_key_over_1024_bytes_is_refused(s3: S3Client, bucket: str) -> None:
    for key in ("x" * 1025, "é" * 513):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        assert status(error) == (400, "KeyTooLongError")


# ---- delete ----------------------------------------------------------------------------------------------------------
def test_deleting_what_is_not_there_is_no_error(s3: S3Client, bucket: str) -> None:
    assert s3.delete_object(Bucket=bucket, Key="nothing")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_batch_deletes_a_thousand(s3: S3Client, bucket: str) -> None:
    names = [f"key-{number:03}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b""), names))
    asked = names + [f"missing-{number}" for number in range(800)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in asked]})
    assert [entry["Key"] for entry in answer["Deleted"]] == asked
    assert "Errors" not in answer
    assert keys(s3, bucket) == []


def test_a_quiet_batch_says_nothing_but_errors(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}, {"Key": "x" * 1025}], "Quiet": True})
    assert "Deleted" not in answer
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("x" * 1025, "KeyTooLongError")]
    assert keys(s3, bucket) == []


def test_more_than_a_thousand_in_a_batch_are_refused(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(number)} for number in range(1001)]})
    assert status(error) == (400, "MalformedXML")


# ---- metadata --------------------------------------------------------------------------------------------------------
SYSTEM = {
    "CacheControl": "max-age=3600, private", "ContentDisposition": 'attachment; filename="a b.txt"', "ContentEncoding": "gzip",
    "ContentLanguage": "de, en", "ContentType": "text/plain; charset=utf-8",
}


def test_all_metadata_come_back(s3: S3Client, bucket: str) -> None:
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    meta = {"plain": "value", "blank": "a  b", "ec-ftt": "2", "x": "y" * 1000}
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata=meta, Expires=expires, StorageClass="STANDARD_IA", **SYSTEM)
    for answer in (s3.head_object(Bucket=bucket, Key="key"), fetch(s3, bucket, "key")[1]):
        assert answer["Metadata"] == meta
        assert {name: answer[name] for name in SYSTEM} == SYSTEM  # type: ignore[literal-required]
        assert answer["ExpiresString"] == "Wed, 02 Jan 2030 03:04:05 GMT"
        assert answer["StorageClass"] == "STANDARD_IA"
        assert datetime.now(UTC) - answer["LastModified"] < timedelta(minutes=1)


def test_an_object_without_a_type_is_a_stream_of_bytes(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    assert s3.head_object(Bucket=bucket, Key="key")["ContentType"] == "binary/octet-stream"


def test_too_much_metadata_is_refused(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"a": "x" * 2048})
    assert status(error) == (400, "MetadataTooLarge")


def test_a_get_can_ask_for_other_headers(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", **SYSTEM)
    _, answer = fetch(
        s3, bucket, "key", ResponseContentType="image/png", ResponseCacheControl="no-store", ResponseContentLanguage="fr",
        ResponseContentDisposition="inline", ResponseContentEncoding="identity",
    )
    assert (answer["ContentType"], answer["CacheControl"], answer["ContentLanguage"]) == ("image/png", "no-store", "fr")
    assert (answer["ContentDisposition"], answer["ContentEncoding"]) == ("inline", "identity")


# ---- conditions ------------------------------------------------------------------------------------------------------
def test_conditions_of_a_get(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"x")["ETag"]
    past, future = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
    passing: list[dict[str, Any]] = [
        {"IfMatch": etag}, {"IfMatch": "*"}, {"IfNoneMatch": '"other"'}, {"IfModifiedSince": past}, {"IfUnmodifiedSince": future},
        # An ETag outranks a time.
        {"IfMatch": etag, "IfUnmodifiedSince": past}, {"IfNoneMatch": '"other"', "IfModifiedSince": future},
    ]
    for conditions in passing:
        assert read(s3, bucket, "key", **conditions) == b"x", conditions
        s3.head_object(Bucket=bucket, Key="key", **conditions)
    failing: list[tuple[dict[str, Any], int]] = [
        ({"IfMatch": '"other"'}, 412), ({"IfNoneMatch": etag}, 304), ({"IfNoneMatch": "*"}, 304),
        ({"IfUnmodifiedSince": past}, 412), ({"IfNoneMatch": etag, "IfModifiedSince": past}, 304),
        ({"IfMatch": '"other"', "IfNoneMatch": etag}, 412),
    ]
    for conditions, expected in failing:
        for call in (s3.get_object, s3.head_object):
            with pytest.raises(ClientError) as error:
                call(Bucket=bucket, Key="key", **conditions)
            assert status(error)[0] == expected, conditions


def test_conditions_of_a_put(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="key", Body=b"0", IfMatch='"x"')
    assert status(error) == (404, "NoSuchKey")
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"1", IfNoneMatch="*")["ETag"]
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"other"'}):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=bucket, Key="key", Body=b"2", **condition)
        assert status(error) == (412, "PreconditionFailed")
    assert read(s3, bucket, "key") == b"1"
    s3.put_object(Bucket=bucket, Key="key", Body=b"3", IfMatch=etag)
    assert read(s3, bucket, "key") == b"3"


def test_a_hundred_writers_at_once_have_one_winner(server: Server, bucket: str) -> None:
    ready = threading.Barrier(100)
    answers: list[tuple[int, int]] = []

    def write(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        client = server.client()
        url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key", "IfNoneMatch": "*"})
        client.close()
        ready.wait()
        connection.request("PUT", url.removeprefix(server.url), b"%d" % number, {"If-None-Match": "*"})
        answers.append((connection.getresponse().status, number))
        connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for code, number in answers if code == 200]
    assert len(winners) == 1
    assert {code for code, _ in answers} <= {200, 412, 409, 503}
    client = server.client()
    assert read(client, bucket, "key") == b"%d" % winners[0]
    client.close()


# ---- checksums -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
@pytest.mark.parametrize("size", [100, 4 * MIB])
def test_checksums_are_verified_kept_and_shown(s3: S3Client, bucket: str, algorithm: Any, size: int) -> None:
    body = os.urandom(size)
    name: Any = f"Checksum{algorithm}"
    made = s3.put_object(Bucket=bucket, Key="key", Body=body, ChecksumAlgorithm=algorithm)[name]
    content, got = fetch(s3, bucket, "key", ChecksumMode="ENABLED")
    assert content == body  # boto3 compares the checksum too
    assert got[name] == made
    wrong = ("A" if made[0] != "A" else "B") + made[1:]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="other", Body=body, **{name: wrong})
    assert status(error) == (400, "BadDigest")
    assert keys(s3, bucket) == ["key"]


def test_content_md5_is_verified(s3: S3Client, bucket: str) -> None:
    good = base64.b64encode(hashlib.md5(b"body").digest()).decode()
    s3.put_object(Bucket=bucket, Key="key", Body=b"body", ContentMD5=good)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="key", Body=b"other", ContentMD5=good)
    assert status(error) == (400, "BadDigest")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="key", Body=b"other", ContentMD5="short")
    assert status(error) == (400, "InvalidDigest")
    assert read(s3, bucket, "key") == b"body"


# ---- at the same time ------------------------------------------------------------------------------------------------
def test_readers_see_one_whole_object_whatever_is_written(s3: S3Client, bucket: str) -> None:
    """Small with large, large with small, by several writers: every answer is one of the bodies, never a mixture."""
    bodies = [bytes([number]) * size for number, size in enumerate((10, 200_000, 4 * MIB, 5, 5 * MIB, 30_000))]
    known = {hashlib.sha256(body).digest() for body in bodies}
    s3.put_object(Bucket=bucket, Key="key", Body=bodies[0])
    done = threading.Event()

    def write(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(12):
            s3.put_object(Bucket=bucket, Key="key", Body=chooser.choice(bodies))

    def watch() -> int:
        seen = 0
        while not done.is_set():
            assert hashlib.sha256(read(s3, bucket, "key")).digest() in known
            seen += 1
        return seen

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(watch) for _ in range(3)]
        writers = [pool.submit(write, seed) for seed in range(3)]
        for writer in writers:
            writer.result()
        done.set()
        assert sum(reader.result() for reader in readers) > 10


def test_what_was_just_put_is_listed_and_what_was_deleted_is_not(s3: S3Client, bucket: str) -> None:
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"{number:02}", Body=b"")
        assert keys(s3, bucket)[-1] == f"{number:02}"
    for number in range(30):
        s3.delete_object(Bucket=bucket, Key=f"{number:02}")
        assert f"{number:02}" not in keys(s3, bucket)


# ---- copy, buckets ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [100, STRIPE + 1])
def test_copies(s3: S3Client, bucket: str, size: int) -> None:
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="from/ä b", Body=body, Metadata={"a": "1"}, ContentType="text/x")
    source = {"Bucket": bucket, "Key": "from/ä b"}
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source)  # type: ignore[arg-type]
    content, copied = fetch(s3, bucket, "to")
    assert (content, copied["Metadata"], copied["ContentType"]) == (body, {"a": "1"}, "text/x")
    itself: Any = {"Bucket": bucket, "Key": "to"}
    meta = {"b": "2", "ec-ftt": "3"}
    s3.copy_object(Bucket=bucket, Key="to", CopySource=itself, MetadataDirective="REPLACE", Metadata=meta)
    content, replaced = fetch(s3, bucket, "to")
    assert (content, replaced["Metadata"]) == (body, meta)
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"})
    assert status(error) == (400, "InvalidRequest")
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "nothing"})
    assert status(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="x", CopySource={"Bucket": bucket, "Key": "to"}, CopySourceIfMatch='"other"')
    assert status(error) == (412, "PreconditionFailed")


def test_buckets(s3: S3Client, bucket: str) -> None:
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    s3.put_object(Bucket=bucket, Key="key", Body=b"")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket=bucket)
    assert status(error) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=bucket, Key="key")
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket=bucket)
    assert status(error)[0] == 404
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="key", Body=b"")
    assert status(error) == (404, "NoSuchBucket")
    s3.create_bucket(Bucket=bucket)
    assert keys(s3, bucket) == []


def test_an_operation_that_is_not_there_says_so(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.get_object_torrent(Bucket=bucket, Key="key")
    assert status(error) == (501, "NotImplemented")


def test_what_is_appended_stands_behind_what_was_there(s3: S3Client, bucket: str) -> None:
    whole = b""
    for number, size in enumerate((0, 5, 100_000, 3 * MIB, 1)):
        data = os.urandom(size)
        answer: Any = s3.put_object(Bucket=bucket, Key="log", Body=data, WriteOffsetBytes=len(whole), Metadata={"n": str(number)})
        whole += data
        assert answer["Size"] == len(whole)
    found = s3.get_object(Bucket=bucket, Key="log", ChecksumMode="ENABLED")
    assert (found["Body"].read(), found["Metadata"]) == (whole, {"n": "0"})
    assert found["ETag"] == answer["ETag"] and found["ChecksumCRC32"] == answer["ChecksumCRC32"]
    s3.put_object(Bucket=bucket, Key="same", Body=whole, ChecksumAlgorithm="CRC32")
    assert s3.head_object(Bucket=bucket, Key="same", ChecksumMode="ENABLED")["ChecksumCRC32"] == found["ChecksumCRC32"]
    assert s3.get_object(Bucket=bucket, Key="log", Range="bytes=3-100010")["Body"].read() == whole[3:100_011]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "log"})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == whole


@pytest.mark.parametrize(
    ("offset", "code"),
    [("1", "InvalidWriteOffset"), ("9", "InvalidWriteOffset"), ("-1", "InvalidArgument"), ("x", "InvalidArgument"),
     ("", "InvalidArgument"), ("99999999999999999999", "InvalidArgument")],
)
def test_a_place_where_nothing_can_be_appended(server: Server, bucket: str, offset: str, code: str) -> None:
    wire = Wire(server)
    for key in ("none", "k"):
        if key == "k":
            wire.ask("PUT", f"/{bucket}/k", body=b"data")
        answer = wire.ask("PUT", f"/{bucket}/{key}", {"x-amz-write-offset-bytes": offset}, b"more")
        assert (answer.status, answer.code) == (400, code)
    assert wire.ask("GET", f"/{bucket}/k").body == b"data"
    assert wire.ask("GET", f"/{bucket}/none").status == 404


def test_nothing_is_appended_to_versions(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(ClientError, match="InvalidRequest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", WriteOffsetBytes=4)
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1
