"""Who may: every request without the right signature is refused, and every form of payload that boto3 signs is taken."""

from __future__ import annotations

import datetime
import http.client
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.e2e import MIB, get
from tests.server import ACCESS, SECRET, Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer


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
        date = request.headers["X-Amz-Date"].decode()
        request.headers["x-amz-date"] = date[:-2] + ("2Z" if date.endswith("1Z") else "1Z")

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


# ---- where and under what name ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "auto", "garage"])
def test_any_region_can_be_signed_for(server: Server, region: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=server.url, region_name=region, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}),
    )
    name = f"region-{region}"
    place: Any = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=name, **place)
    assert client.head_bucket(Bucket=name)["BucketRegion"] == region
    client.put_object(Bucket=name, Key="k", Body=b"x" * 100_000)
    url = client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})
    assert get(server, url) == (200, b"x" * 100_000)
    client.close()


def test_with_a_strict_region_others_are_told_the_right_one(make_server: MakeServer) -> None:
    server = make_server(1, "--region", "eu-x", "--strict-region")
    client = server.client()  # of us-east-1
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", client.generate_presigned_url("list_buckets").removeprefix(server.url))
    answer = connection.getresponse()
    body = answer.read()
    assert (answer.status, b"<Code>AuthorizationQueryParametersError</Code>" in body, b"<Region>eu-x</Region>" in body) == (
        400, True, True)
    connection.close()
    client.close()


def test_over_ipv6(make_server: MakeServer) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = make_server(1, "--host", "::1")
    assert server.url.startswith("http://[::1]:")
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="k", Body=b"data")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    connection = http.client.HTTPConnection("::1", server.port, timeout=20)
    connection.request("GET", url.removeprefix(server.url))
    assert connection.getresponse().read() == b"data"
    connection.close()
    client.close()


def test_a_host_name_with_and_without_its_default_port(server: Server, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    for signed, sent in (("h.test", "h.test:80"), ("h.test:443", "h.test"), ("h.test", "h.test")):
        client = boto3.client(
            "s3", endpoint_url=f"http://{signed}", region_name="us-east-1", aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET, config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", url.removeprefix(f"http://{signed}"), headers={"Host": sent})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"data"), (signed, sent)
        connection.close()
        client.close()


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_form_of_curl_is_taken_with_its_policy_only(
    server: Server, s3: S3Client, bucket: str, curl: str, tmp_path: Path, version: str,
) -> None:
    client: Any = boto3.client(
        "s3", endpoint_url=server.url, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name="us-east-1",
        config=Config(signature_version=version, s3={"addressing_style": "path"}),
    )
    file = tmp_path / "photo.bin"
    file.write_bytes(os.urandom(5 * MIB + 3))
    made = client.generate_presigned_post(bucket, "up/${filename}", Fields={"success_action_status": "201"}, Conditions=[
        {"success_action_status": "201"}, ["content-length-range", 0, 6 * MIB]])

    def send(**changes: str) -> str:
        fields = [f"{name}={value}" for name, value in (made["fields"] | changes).items()]
        command = [curl, "-s", "-w", "%{http_code}", *(word for field in fields for word in ("--form-string", field))]
        return subprocess.run([*command, "-F", f"file=@{file}", made["url"]], capture_output=True, text=True, check=True).stdout

    answer = send()
    assert answer.endswith("201") and f"<Key>up/{file.name}</Key>" in answer
    assert s3.get_object(Bucket=bucket, Key=f"up/{file.name}")["Body"].read() == file.read_bytes()
    assert "AccessDenied" in send(key="other/${filename}")
    assert "SignatureDoesNotMatch" in send(policy=made["fields"]["policy"][:-4] + "AAAA")
    file.write_bytes(bytes(6 * MIB + 1))
    assert "EntityTooLarge" in send()
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [f"up/{file.name}"]
    client.close()


@pytest.mark.parametrize("behind", [0, 100, 300_000])
def test_a_connection_goes_on_after_a_form_whatever_follows_the_file(
    server: Server, s3: S3Client, bucket: str, behind: int,
) -> None:
    made = s3.generate_presigned_post(bucket, "k")
    fields = made["fields"] | {"file": "data"}
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    body = f"{parts}--x--\r\n".encode() + b"-" * behind
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(2):
        connection.request("POST", f"/{bucket}", body, {"Content-Type": "multipart/form-data; boundary=x"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
        if answer.getheader("Connection") == "close":
            connection.close()
    connection.close()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"data"
