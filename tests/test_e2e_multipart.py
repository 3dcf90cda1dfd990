"""Multipart uploads through a running server of four volumes."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.test_e2e_objects import MIB, fetch, keys, read, status

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SIZES = {1: 5 * MIB, 2: 5 * MIB + 1, 4: 6 * MIB, 9: 1234}
PARTS = {number: random.Random(number).randbytes(size) for number, size in SIZES.items()}
WHOLE = b"".join(PARTS[number] for number in sorted(PARTS))


def begin(s3: S3Client, bucket: str, **more: Any) -> str:
    return s3.create_multipart_upload(Bucket=bucket, Key="key", **more)["UploadId"]


def put(s3: S3Client, bucket: str, upload: str, number: int, body: bytes) -> str:
    return s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=body)["ETag"]


def finish(s3: S3Client, bucket: str, upload: str, parts: list[tuple[int, str]], **more: Any) -> Any:
    named: Any = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
    return s3.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload=named, **more)


def refused(s3: S3Client, bucket: str, upload: str, parts: list[tuple[int, str]]) -> str:
    with pytest.raises(ClientError) as error:
        finish(s3, bucket, upload, parts)
    return status(error)[1]


@pytest.fixture(scope="module")
def uploaded(s3: S3Client) -> str:
    """A bucket with an object of four parts."""
    bucket = "multipart"
    s3.create_bucket(Bucket=bucket)
    upload = begin(s3, bucket, Metadata={"a": "1", "ec-ftt": "2"}, ContentType="text/x")
    etags = {number: put(s3, bucket, upload, number, PARTS[number]) for number in (9, 2, 4, 1)}
    finish(s3, bucket, upload, sorted(etags.items()))
    return bucket


def test_parts_in_any_order_become_one_object(s3: S3Client, uploaded: str) -> None:
    content, answer = fetch(s3, uploaded, "key")
    assert hashlib.sha256(content).digest() == hashlib.sha256(WHOLE).digest()
    assert (answer["Metadata"], answer["ContentType"]) == ({"a": "1", "ec-ftt": "2"}, "text/x")
    assert answer["ETag"].endswith('-4"')
    assert keys(s3, uploaded) == ["key"]


def test_ranges_across_parts_are_exact(s3: S3Client, uploaded: str) -> None:
    borders = [0, 5 * MIB, 10 * MIB + 1, 16 * MIB + 1, len(WHOLE)]
    points = sorted({point for border in borders for point in (border - 1, border, border + 1) if 0 <= point < len(WHOLE)})
    for first in points:
        for last in points:
            if first <= last:
                assert read(s3, uploaded, "key", Range=f"bytes={first}-{last}") == WHOLE[first : last + 1], (first, last)


def test_a_part_can_be_read_by_its_number(s3: S3Client, uploaded: str) -> None:
    for number, body in PARTS.items():
        content, answer = fetch(s3, uploaded, "key", PartNumber=number)
        assert content == body
        assert answer["PartsCount"] == 4
    assert s3.head_object(Bucket=uploaded, Key="key", PartNumber=1)["ContentLength"] == 5 * MIB
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=uploaded, Key="key", PartNumber=5)
    assert status(error)[0] == 416


def test_a_part_can_be_sent_again(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    old = put(s3, bucket, upload, 1, b"old")
    new = put(s3, bucket, upload, 1, b"new")
    assert refused(s3, bucket, upload, [(1, old)]) == "InvalidPart"
    finish(s3, bucket, upload, [(1, new)])
    assert read(s3, bucket, "key") == b"new"


def test_parts_that_are_not_named_are_left_out(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    put(s3, bucket, upload, 1, b"left out")
    finish(s3, bucket, upload, [(2, put(s3, bucket, upload, 2, b"taken"))])
    assert read(s3, bucket, "key") == b"taken"


def test_completions_that_make_no_sense_are_refused_and_change_nothing(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"before")
    upload = begin(s3, bucket)
    one, two = (put(s3, bucket, upload, number, b"small") for number in (1, 2))
    assert refused(s3, bucket, upload, [(1, one), (2, two)]) == "EntityTooSmall"
    assert refused(s3, bucket, upload, [(2, two), (1, one)]) == "InvalidPartOrder"
    assert refused(s3, bucket, upload, [(1, one), (1, one)]) == "InvalidPartOrder"
    assert refused(s3, bucket, upload, [(3, one)]) == "InvalidPart"
    assert refused(s3, bucket, upload, [(1, '"00000000000000000000000000000000"')]) == "InvalidPart"
    assert refused(s3, bucket, upload, []) == "MalformedXML"
    assert refused(s3, bucket, "no-such-upload", [(1, one)]) == "NoSuchUpload"
    assert read(s3, bucket, "key") == b"before"
    finish(s3, bucket, upload, [(1, one)])
    assert read(s3, bucket, "key") == b"small"


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_part_numbers_have_bounds(s3: S3Client, bucket: str, number: int) -> None:
    upload = begin(s3, bucket)
    with pytest.raises(ClientError) as error:
        put(s3, bucket, upload, number, b"x")
    assert status(error) == (400, "InvalidArgument")
    s3.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)


def test_completing_twice_gives_the_same_answer(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = [(1, put(s3, bucket, upload, 1, b"body"))]
    first = finish(s3, bucket, upload, parts)
    second = finish(s3, bucket, upload, parts)
    assert first["ETag"] == second["ETag"]
    assert read(s3, bucket, "key") == b"body"


def test_an_aborted_upload_is_gone(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    etag = put(s3, bucket, upload, 1, b"body")
    s3.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)
    assert refused(s3, bucket, upload, [(1, etag)]) == "NoSuchUpload"
    for call in (
        lambda: put(s3, bucket, upload, 2, b"x"),
        lambda: s3.list_parts(Bucket=bucket, Key="key", UploadId=upload),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert status(error) == (404, "NoSuchUpload")
    assert keys(s3, bucket) == []


def test_the_object_before_stays_until_the_completion(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"before")
    upload = begin(s3, bucket)
    etag = put(s3, bucket, upload, 1, b"after")
    assert read(s3, bucket, "key") == b"before"
    with pytest.raises(ClientError) as error:
        finish(s3, bucket, upload, [(1, etag)], IfNoneMatch="*")
    assert status(error) == (412, "PreconditionFailed")
    finish(s3, bucket, upload, [(1, etag)])
    assert read(s3, bucket, "key") == b"after"


def test_the_etag_is_the_md5_of_the_parts_digests(s3: S3Client, bucket: str) -> None:
    body = os.urandom(2000)
    upload = begin(s3, bucket)
    etag = finish(s3, bucket, upload, [(1, put(s3, bucket, upload, 1, body))])["ETag"]
    assert etag == f'"{hashlib.md5(hashlib.md5(body).digest()).hexdigest()}-1"'


def test_composite_checksums(s3: S3Client, bucket: str) -> None:
    bodies = [os.urandom(5 * MIB), os.urandom(99)]
    upload = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(
            Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256"
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": answer["ChecksumSHA256"]})
    named: Any = {"Parts": parts}
    done = s3.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload=named)
    digest = hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in bodies)).digest()
    assert done["ChecksumSHA256"] == base64.b64encode(digest).decode() + "-2"
    assert s3.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")["ChecksumSHA256"] == done["ChecksumSHA256"]


def test_full_object_checksums(s3: S3Client, bucket: str) -> None:
    bodies = [os.urandom(5 * MIB), os.urandom(99)]
    crc = base64.b64encode(zlib.crc32(b"".join(bodies)).to_bytes(4, "big")).decode()
    wrong = base64.b64encode(b"\0\1\2\3").decode()
    upload = begin(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    etags = [(number, put(s3, bucket, upload, number, body)) for number, body in enumerate(bodies, 1)]
    with pytest.raises(ClientError) as error:
        finish(s3, bucket, upload, etags, ChecksumCRC32=wrong, ChecksumType="FULL_OBJECT")
    assert status(error)[0] == 400
    done = finish(s3, bucket, upload, etags, ChecksumCRC32=crc, ChecksumType="FULL_OBJECT")
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (crc, "FULL_OBJECT")


def test_the_transfer_manager_of_boto3_goes_round(s3: S3Client, bucket: str) -> None:
    body = os.urandom(37 * MIB + 11)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), bucket, "key", Config=config)
    back = io.BytesIO()
    s3.download_fileobj(bucket, "key", back, Config=config)
    assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(body).digest()


def test_parts_can_be_copied_from_ranges_of_objects(s3: S3Client, uploaded: str, bucket: str) -> None:
    source: Any = {"Bucket": uploaded, "Key": "key"}
    ranges = [(3, 5 * MIB + 7), (7, 7), (len(WHOLE) - 100, len(WHOLE) - 1)]
    upload = begin(s3, bucket)
    parts = []
    for number, (first, last) in enumerate(ranges, 1):
        wanted = f"bytes={first}-{last}"
        copied = s3.upload_part_copy(
            Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, CopySource=source, CopySourceRange=wanted
        )
        parts.append((number, copied["CopyPartResult"]["ETag"]))
    assert refused(s3, bucket, upload, parts) == "EntityTooSmall"
    finish(s3, bucket, upload, [parts[0], parts[2]])
    assert read(s3, bucket, "key") == WHOLE[3 : 5 * MIB + 8] + WHOLE[-100:]
    with pytest.raises(ClientError) as error:
        s3.upload_part_copy(
            Bucket=bucket, Key="key", UploadId=upload, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=0-{len(WHOLE)}"
        )
    assert status(error)[0] in (400, 404, 416)


@pytest.mark.slow
def test_ten_thousand_parts_can_be_listed_and_named(s3: S3Client, bucket: str) -> None:
    """Only the last part may be small, so the completion of all of them is refused, but for their size and nothing else."""
    upload = begin(s3, bucket)
    parts = [(number, put(s3, bucket, upload, number, b"x")) for number in range(1, 10_001)]
    pages = s3.get_paginator("list_parts").paginate(Bucket=bucket, Key="key", UploadId=upload)
    assert [part["PartNumber"] for page in pages for part in page["Parts"]] == list(range(1, 10_001))
    assert refused(s3, bucket, upload, parts) == "EntityTooSmall"
    s3.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)
