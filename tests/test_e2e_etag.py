"""The ETags of the three modes, of objects and parts that are small and large, and what does not depend on them."""

from __future__ import annotations

import hashlib
import random
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import xxhash

from tests.e2e import MIB

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer

LARGE = random.Random(1).randbytes(9 * MIB + 1)
SMALL = random.Random(2).randbytes(1000)
MD5 = hashlib.md5(LARGE).hexdigest()
FAST = f"{xxhash.xxh64(LARGE).hexdigest()}{len(LARGE):016x}"


@pytest.mark.parametrize(
    ("mode", "large", "small"),
    [
        ("auto", f"{FAST}-1", hashlib.md5(SMALL).hexdigest()), ("md5", MD5, hashlib.md5(SMALL).hexdigest()),
        ("xxh64", FAST, f"{xxhash.xxh64(SMALL).hexdigest()}{len(SMALL):016x}"),
    ],
)
def test_an_etag_is_what_its_mode_says(make_server: MakeServer, mode: str, large: str, small: str) -> None:
    server = make_server(4, "--durability", "page-cache", "--etag", mode)
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")

    def put(key: str, body: bytes, **more: str) -> str:
        etag = s3.put_object(Bucket="bucket", Key=key, Body=body, **more)["ETag"]  # type: ignore[arg-type]
        assert s3.head_object(Bucket="bucket", Key=key, IfMatch=etag)["ETag"] == etag
        return etag.strip('"')

    assert (put("large", LARGE), put("small", SMALL)) == (large, small)
    # Whoever sends an MD5 gets it back.
    assert put("named", LARGE, ContentMD5=b64encode(bytes.fromhex(MD5)).decode()) == MD5
    # Nothing that is no MD5 looks like one, save where that was asked for.
    assert mode == "xxh64" or (re.fullmatch("[0-9a-f]{32}", large) is None) is (large != MD5)
    check_parts(s3)
    s3.close()


def check_parts(s3: S3Client) -> None:
    """The ETag of a multipart object has the form that clients know, and is the same for the same parts."""
    found = []
    for key in ("one", "two"):
        upload = s3.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
        parts: Any = []
        for number, body in ((1, LARGE), (2, SMALL)):
            etag = s3.upload_part(Bucket="bucket", Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        done = s3.complete_multipart_upload(Bucket="bucket", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        found.append(done["ETag"])
    assert found[0] == found[1]
    assert re.fullmatch('"[0-9a-f]{32}-2"', found[0])
