"""What boto3 really sends, by default and with every option that changes the form of a body, taken just before the socket."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.awsrequest
import pytest
from botocore.config import Config

from abixio.codec.digest import Digests
from abixio.message import Request
from abixio.s3.documents import Documents
from abixio.s3.errors import S3Error
from abixio.s3.names import parse_target
from abixio.s3.payload import payload_source
from abixio.s3.sigv4 import authenticate
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET, BytesBody, request

DATA = bytes(range(256)) * 10_000  # more than one chunk of botocore
ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]


class EmptyAnswer:
    """The body of an answer, as botocore reads it."""

    def stream(self, **_: Any) -> list[bytes]:
        return []


class Wire:
    """Takes the requests of a client instead of sending them."""

    def __init__(self, scheme: str, **options: Any) -> None:
        self.client = boto3.client(
            "s3", endpoint_url=f"{scheme}://127.0.0.1:9000", region_name="us-east-1", aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET, config=Config(s3={"addressing_style": "path"}, **options),
        )
        self.client.meta.events.register("before-send.s3", self._take)
        self.sent: list[Request] = []

    def _take(self, request: botocore.awsrequest.AWSPreparedRequest, **_: Any) -> botocore.awsrequest.AWSResponse:
        self.sent.append(as_request(request))
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, EmptyAnswer())


def as_request(prepared: botocore.awsrequest.AWSPreparedRequest) -> Request:
    parts = urlsplit(prepared.url)
    body = prepared.body
    data = body.read() if hasattr(body, "read") else (body or b"")
    headers = {name: value if isinstance(value, str) else value.decode("latin-1") for name, value in prepared.headers.items()}
    length = None if "Transfer-Encoding" in headers else len(data)
    target = parts.path + ("?" + parts.query if parts.query else "")
    return request(prepared.method, target, {"Host": parts.netloc, **headers}, BytesBody(data, length))


async def upload(sent: Request) -> dict[str, str]:
    """The checksums that are kept; S3Error when anything does not fit."""
    identity = authenticate(sent, parse_target(sent.target), CREDENTIALS, "us-east-1", time.time())
    source = payload_source(sent, identity)
    digests = Digests(source.algorithms)
    buffer = bytearray(1_000_000)
    received = 0
    while True:
        count = await source.readinto(memoryview(buffer))
        digests.update(memoryview(buffer)[:count])
        received += count
        if count < len(buffer):
            break
    assert received == len(DATA)
    assert source.length == len(DATA)
    return source.verify(digests.digests())


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
async def test_put_object_and_upload_part_of_boto3_are_understood(scheme: str, algorithm: str | None) -> None:
    wire = Wire(scheme)
    options: Any = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    wire.client.put_object(Bucket="bucket", Key="a b/ü", Body=DATA, Metadata={"k": "v"}, **options)
    wire.client.upload_part(Bucket="bucket", Key="k", UploadId="u", PartNumber=1, Body=DATA, **options)
    for sent in wire.sent:
        assert ("x-amz-trailer" in sent.headers) == (scheme == "https")
        assert set(await upload(sent)) == {(algorithm or "CRC32").lower()}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("signing", [True, False])
async def test_payload_signing_switched_on_and_off_is_understood(scheme: str, signing: bool) -> None:
    wire = Wire(scheme, request_checksum_calculation="when_required")
    wire.client.meta.config.s3["payload_signing_enabled"] = signing
    wire.client.put_object(Bucket="bucket", Key="k", Body=DATA)
    assert await upload(wire.sent[0]) == {}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_body_changed_under_way_is_refused(scheme: str) -> None:
    wire = Wire(scheme)
    wire.client.put_object(Bucket="bucket", Key="k", Body=DATA)
    sent = wire.sent[0]
    assert isinstance(sent.body, BytesBody)
    sent.body._data = sent.body._data.replace(b"\x01\x02\x03", b"\x01\x02\x04", 1)
    with pytest.raises(S3Error) as caught:
        await upload(sent)
    assert caught.value.code == ("XAmzContentSHA256Mismatch" if scheme == "http" else "BadDigest")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_documents_of_boto3_are_understood(scheme: str) -> None:
    wire = Wire(scheme)
    wire.client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a&b"}, {"Key": "c\rd"}]})
    wire.client.complete_multipart_upload(
        Bucket="bucket", Key="k", UploadId="u", ChecksumSHA256="AAAA-1", ChecksumType="COMPOSITE",
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"e"'}]},
    )
    for sent, root, own in zip(wire.sent, ("Delete", "CompleteMultipartUpload"), (True, False), strict=True):
        identity = authenticate(sent, parse_target(sent.target), CREDENTIALS, "us-east-1", time.time())
        tree = await Documents().read(sent, identity, root, 10_000, checksums=own)
        if root == "Delete":
            assert [child.text("Key") for child in tree.all("Object")] == ["a&b", "c\rd"]


@pytest.mark.parametrize("operation", ["get_object", "put_object"])
def test_presigned_urls_of_boto3_are_accepted(operation: str) -> None:
    wire = Wire("http", signature_version="s3v4")
    url = urlsplit(wire.client.generate_presigned_url(operation, {"Bucket": "bucket", "Key": "a b+ü"}, ExpiresIn=60))
    sent = request("GET" if operation == "get_object" else "PUT", f"{url.path}?{url.query}", {"Host": url.netloc})
    target = parse_target(sent.target)
    assert target.key == "a b+ü"
    assert authenticate(sent, target, CREDENTIALS, "us-east-1", time.time()).payload == "UNSIGNED-PAYLOAD"
