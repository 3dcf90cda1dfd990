"""Who may: every request without the right signature is refused, and every form of payload that boto3 signs is taken."""

from __future__ import annotations

import datetime
import http.client
import os
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.e2e import MIB, get
from tests.server import ACCESS, SECRET, Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def code(call: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_without_a_signature_nothing_is_served(server: Server, bucket: str) -> None:
    requests = [("GET", "/"), ("GET", f"/{bucket}"), ("PUT", f"/{bucket}/key"), ("DELETE", f"/{bucket}"), ("GET", "/no/such")]
    for method, target in requests:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request(method, target, b"" if method == "PUT" else None)
        answer = connection.getresponse()
        assert answer.status == 403
        assert b"<Code>AccessDenied</Code>" in answer.read()
        connection.close()


@pytest.mark.parametrize(
    ("access", "secret", "expected"),
    [(ACCESS, "wrong-secret", "SignatureDoesNotMatch"), ("nobody", SECRET, "InvalidAccessKeyId")],
)
def test_wrong_keys_are_refused(server: Server, access: str, secret: str, expected: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id=access, aws_secret_access_key=secret
    )
    assert code(client.list_buckets) == (403, expected)
    client.close()


def altered(server: Server, change: Any, **settings: Any) -> S3Client:
    """A client whose requests are changed after they were signed."""
    client = server.client(**settings)
    client.meta.events.register("before-send.s3", change)
    return client


def test_a_request_that_was_changed_on_the_way_is_refused(server: Server, bucket: str) -> None:
    def header(request: Any, **_: Any) -> None:
        request.headers["x-amz-date"] = request.headers["X-Amz-Date"].decode()[:-2] + "1Z"

    def added(request: Any, **_: Any) -> None:
        request.headers["x-amz-meta-more"] = "x"

    def path(request: Any, **_: Any) -> None:
        request.url = request.url.replace("/key", "/other")

    def query(request: Any, **_: Any) -> None:
        request.url += ("&" if "?" in request.url else "?") + "x=1"

    for change in (header, added, path, query):
        client = altered(server, change)
        answer = code(lambda client=client: client.put_object(Bucket=bucket, Key="key", Body=b"x"))  # type: ignore[misc]
        assert answer[0] == 403, change.__name__
        client.close()
    client = server.client()
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    client.close()


def test_a_body_that_was_changed_on_the_way_is_refused(server: Server, bucket: str) -> None:
    def body(request: Any, **_: Any) -> None:
        request.body = b"other"

    client = altered(server, body, s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
    assert code(lambda: client.put_object(Bucket=bucket, Key="key", Body=b"right")) == (400, "XAmzContentSHA256Mismatch")
    client.close()


def test_a_clock_that_is_far_off_is_refused(server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(remove_tzinfo: bool = True) -> datetime.datetime:
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)
        return now.replace(tzinfo=None) if remove_tzinfo else now

    for signer in ("botocore.auth", "botocore.crt.auth"):  # boto3 takes the one in C where awscrt is installed
        monkeypatch.setattr(f"{signer}.get_current_datetime", late)
    client = server.client()
    assert code(lambda: client.list_objects_v2(Bucket=bucket)) == (403, "RequestTimeTooSkewed")
    client.close()


def test_a_presigned_url_ends(server: Server, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"}, ExpiresIn=1)
    assert get(server, url)[0] == 200
    time.sleep(2.1)
    status, body = get(server, url)
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body
    assert get(server, url.replace("X-Amz-Expires=1", "X-Amz-Expires=1000"))[0] == 403


@pytest.mark.parametrize("signing", [True, False])
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("size", [0, 1000, 3 * MIB])
def test_every_form_of_payload_that_boto3_has(server: Server, bucket: str, signing: bool, checksums: Any, size: int) -> None:
    """Signed hash, unsigned with a trailer, with and without checksums."""
    client = server.client(s3={"payload_signing_enabled": signing}, request_checksum_calculation=checksums)
    body = os.urandom(size)
    client.put_object(Bucket=bucket, Key="key", Body=body)
    with client.get_object(Bucket=bucket, Key="key")["Body"] as back:
        assert back.read() == body
    client.close()
