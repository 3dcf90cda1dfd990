"""Virtual-host style: buckets that come as host names."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from abixio.s3.hosts import Hosts
from tests.s3_harness import Answer, Harness
from tests.s3_wire import ACCESS, SECRET


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness(domains=("example.com", "s3.example.com", "s3.local"))
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


def ask(s3: Harness, method: str, host: str, target: str, body: bytes = b"") -> Answer:
    request = AWSRequest(method, f"http://{host}{target}", data=body)
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
    headers = {name: str(value) for name, value in request.headers.items()} | {"host": host}
    return s3.send(method, target, headers | ({"content-length": str(len(body))} if method == "PUT" else {}), body)


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("b01.s3.example.com", "b01"), ("B01.S3.Example.COM:9000", "b01"), ("b01.s3.example.com.", "b01"),
        ("a.b.s3.local:", "a.b"),
        ("s3.example.com", ""), ("s3.example.com:9000", ""), ("s3.local", ""), ("b01.example.com", "b01"), ("example.com", ""),
        ("s3.eu-west-1.example.com", ""), ("s3.dualstack.eu-west-1.example.com", ""), ("x.s3.eu-west-1.example.com", "x"),
        ("a.b.s3.dualstack.us-gov-west-1.example.com:9000", "a.b"), ("b01.s3.dualstack.garage.s3.local", "b01"),
        ("b01.s3.garage.s3.local", "b01"), ("b01.s3.other.s3.local", "b01.s3.other"), ("s3.s3.local", ""),
        ("127.0.0.1:9000", ""), ("[::1]:9000", ""), ("localhost", ""), ("", ""), ("bs3.local", ""), ("s3.local.evil.com", ""),
    ],
)
def test_a_host_below_a_domain_is_a_bucket(host: str, bucket: str) -> None:
    assert Hosts(["example.com", "s3.example.com", "s3.local"], "garage").bucket(host) == bucket


def test_without_domains_every_host_is_path_style() -> None:
    assert Hosts([]).bucket("b01.s3.example.com") == ""


def test_both_styles_are_the_same_bucket(s3: Harness) -> None:
    assert ask(s3, "GET", "b01.s3.local", "/k").body == b"data"
    assert ask(s3, "GET", "s3.local:9000", "/b01/k").body == b"data"
    assert ask(s3, "PUT", "b02.s3.example.com:9000", "/").status == 200
    assert ask(s3, "PUT", "b02.s3.example.com:9000", "/b02/x", b"1").status == 200
    assert ask(s3, "GET", "s3.example.com", "/b02/b02/x").body == b"1"
    assert b"<Key>b02/x</Key>" in ask(s3, "GET", "b02.s3.local", "/").body
    assert b"<Name>b02</Name>" in ask(s3, "GET", "s3.local", "/").body
    assert ask(s3, "GET", "b02.s3.local", "//x").code == "NoSuchKey"


def test_a_host_that_can_be_no_bucket(s3: Harness) -> None:
    assert ask(s3, "GET", "b.s3.local", "/").code == "InvalidBucketName"
    assert ask(s3, "GET", "none.s3.local", "/k").code == "NoSuchBucket"


def test_a_signature_holds_for_its_host_only(s3: Harness) -> None:
    request = AWSRequest("GET", "http://b01.s3.local/k")
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=60).add_auth(request)
    target = request.url.removeprefix("http://b01.s3.local")
    assert s3.send("GET", target, {"host": "b01.s3.local"}).body == b"data"
    assert s3.send("GET", target, {"host": "b02.s3.local"}).code == "SignatureDoesNotMatch"
    assert s3.send("GET", "/b01" + target, {"host": "b01.s3.local"}).code == "SignatureDoesNotMatch"


def test_boto3_in_virtual_host_style(s3: Harness) -> None:
    client = boto3.client(
        "s3", endpoint_url="http://s3.local:9000", region_name="us-east-1", aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "virtual"}),
    )
    client.meta.events.register("before-send.s3", s3._before_send)
    client.create_bucket(Bucket="b03")
    client.put_object(Bucket="b03", Key="a/\u00fc +", Body=b"x")
    assert client.get_object(Bucket="b03", Key="a/\u00fc +")["Body"].read() == b"x"
    upload = client.create_multipart_upload(Bucket="b03", Key="a b")["UploadId"]
    etag = client.upload_part(Bucket="b03", Key="a b", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    done = client.complete_multipart_upload(
        Bucket="b03", Key="a b", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    assert done["Location"] == "http://b03.s3.local:9000/a%20b"
    client.copy_object(Bucket="b03", Key="copy", CopySource={"Bucket": "b03", "Key": "a b"})
    assert [each["Key"] for each in client.list_objects_v2(Bucket="b03")["Contents"]] == ["a b", "a/\u00fc +", "copy"]
    assert [each["Name"] for each in client.list_buckets()["Buckets"]] == ["b01", "b03"]
