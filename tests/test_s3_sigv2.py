"""URLs with a signature of version 2, made by botocore's own signer."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import md5
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.s3_harness import Answer, Harness
from tests.s3_wire import ACCESS, SECRET

DAY = 24 * 3600
"""Some URLs are made when the tests are collected."""


@pytest.fixture(scope="module")
def s3() -> Iterator[Harness]:
    harness = Harness(domains=("s3.local",))
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    harness.ask("PUT", "/b01/a%20b%2B%C3%BC", body=b"odd")
    yield harness
    harness.close()


def url(
    method: str = "GET", path: str = "/b01/k", headers: Mapping[str, str] | None = None, expires: int = DAY, secret: str = SECRET,
    auth_path: str | None = None, access: str = ACCESS,
) -> str:
    """The target of a presigned URL."""
    request = AWSRequest(method, "http://s3.test:9000" + path, headers=dict(headers or {}), auth_path=auth_path)
    HmacV1QueryAuth(Credentials(access, secret), expires=expires).add_auth(request)
    split = urlsplit(request.url)
    return f"{split.path}?{split.query}"


def put(s3: Harness, target: str, body: bytes, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return s3.send("PUT", target, {"content-length": str(len(body)), **sent}, body)


def test_objects_are_read_and_written(s3: Harness) -> None:
    assert s3.send("GET", url()).body == b"data"
    assert s3.send("HEAD", url("HEAD")).headers["content-length"] == "4"
    assert s3.send("GET", url(path="/b01/a%20b%2B%C3%BC")).body == b"odd"
    assert put(s3, url("PUT", "/b01/p"), b"by url").status == 200
    assert s3.send("GET", url(path="/b01/p")).body == b"by url"
    assert s3.send("DELETE", url("DELETE", "/b01/p")).status == 204


def test_boto3_makes_them_by_itself(s3: Harness) -> None:
    client: Any = s3.client(signature_version="s3")
    made = client.generate_presigned_url("get_object", {"Bucket": "b01", "Key": "k", "ResponseContentType": "text/x; a=b&c"})
    assert "AWSAccessKeyId=" in made
    answer = s3.send("GET", made.removeprefix("http://s3.test:9000"))
    assert (answer.body, answer.headers["content-type"]) == (b"data", "text/x; a=b&c")
    upload = client.generate_presigned_url("create_multipart_upload", {"Bucket": "b01", "Key": "m"}, HttpMethod="POST")
    assert s3.send("POST", upload.removeprefix("http://s3.test:9000")).status == 200


def test_signed_headers_may_have_been_moved_into_the_url(s3: Harness) -> None:
    headers = {"x-amz-meta-name": "ü", "Content-Type": "text/x", "Content-MD5": b64encode(md5(b"body").digest()).decode()}
    target = url("PUT", "/b01/moved", headers)
    assert "x-amz-meta-name=" in target
    assert put(s3, target, b"tampered").code == "BadDigest"
    assert put(s3, target, b"body").status == 200
    found = s3.ask("HEAD", "/b01/moved").headers
    assert (found["content-type"], found["x-amz-meta-name"]) == ("text/x", "=?UTF-8?B?w7w=?=")
    assert put(s3, target, b"body", content_type="text/x").status == 200
    assert put(s3, target, b"body", content_type="text/y").code == "SignatureDoesNotMatch"
    assert put(s3, target, b"body", x_amz_meta_more="1").code == "SignatureDoesNotMatch"


def test_a_url_of_a_bucket_that_is_a_host(s3: Harness) -> None:
    target = url(path="/k", auth_path="/b01/k")
    assert s3.send("GET", target, {"host": "b01.s3.local"}).body == b"data"
    assert s3.send("GET", target, {"host": "b02.s3.local"}).code == "SignatureDoesNotMatch"


# ---- what is refused -------------------------------------------------------------------------------------------------
def test_every_parameter_that_decides_is_signed(s3: Harness) -> None:
    for more in ("tagging", "attributes", "versionId=null", "partNumber=1", "uploadId=1", "response-expires=x", "acl"):
        assert s3.send("GET", url() + "&" + more).code == "SignatureDoesNotMatch"
    assert s3.send("GET", url() + "&x-id=GetObject").body == b"data"
    assert s3.send("GET", url() + "&x-amz-meta-a=b").code == "SignatureDoesNotMatch"


def test_one_parameter_cannot_swallow_the_next(s3: Harness) -> None:
    target = url(path="/b01/k?response-content-type=a&versionId=null")
    assert s3.send("GET", target).headers["content-type"] == "a"
    swallowed = target.replace("response-content-type=a&versionId=null", "response-content-type=a%26versionId%3Dnull")
    assert swallowed != target
    assert s3.send("GET", swallowed).code == "InvalidArgument"


@pytest.mark.parametrize("query", ["x-amz-meta-a=b%0Ac", "content-type=a%0A1"])
def test_no_value_can_become_two_lines(s3: Harness, query: str) -> None:
    assert s3.send("GET", f"{url()}&{query}").code == "InvalidArgument"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (url(secret="other"), "SignatureDoesNotMatch"), (url(access="other"), "InvalidAccessKeyId"),
        (url("PUT"), "SignatureDoesNotMatch"),
        (url(expires=-5), "AccessDenied"), (url().replace("Expires=", "Expires=1"), "SignatureDoesNotMatch"),
        (url().replace("Expires=", "Expires=x"), "AccessDenied"), (url().replace("Expires=", "Exp="), "AccessDenied"),
        (url().replace("/b01/k", "/b01/moved"), "SignatureDoesNotMatch"), (url() + "&x-amz-security-token=t", "InvalidToken"),
        (url().replace("Signature=", "Signature=%00"), "SignatureDoesNotMatch"), ("/b01/k?Signature=x", "AccessDenied"),
        (url(path="/b01"), "InvalidRequest"), (url(path="/"), "InvalidRequest"), (url() + "&Expires=1", "InvalidArgument"),
        ("/b01/k?AWSAccessKeyId=&Signature=&Expires=99999999999", "InvalidAccessKeyId"),
    ],
    ids=lambda value: value if value.isalpha() else "url",  # the same in every process that collects
)
def test_everything_else_is_refused(s3: Harness, target: str, code: str) -> None:
    assert s3.send("GET", target).code == code


def test_an_expired_url_says_when(s3: Harness) -> None:
    body = s3.send("GET", url(expires=-5)).body
    assert b"Request has expired" in body
    assert time.strftime("<ServerTime>%Y-%m-%dT", time.gmtime()).encode() in body


def test_two_mechanisms_at_once_are_refused(s3: Harness) -> None:
    assert s3.ask("GET", url()).code == "InvalidArgument"
    assert s3.send("GET", url(), {"authorization": "AWS a:b"}).code == "InvalidArgument"
    assert s3.send("GET", "/b01/k", {"authorization": f"AWS {ACCESS}:abc"}).code == "InvalidRequest"


@pytest.mark.parametrize("payload", ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "x"])
def test_chunks_cannot_be_signed(s3: Harness, payload: str) -> None:
    target = url("PUT", "/b01/p", {"x-amz-content-sha256": payload})
    assert put(s3, target, b"x", x_amz_content_sha256=payload).code == "InvalidRequest"


ONE_URL = url("GET", "/b01/a%20b%2B%C3%BC?response-content-type=a%2Fb&versionId=null").encode()
"""Made once: its length depends on the time."""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_url_gets_through(s3: Harness, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(ONE_URL) - 1))
    byte = data.draw(st.integers(33, 126))
    changed = ONE_URL[:at] + bytes([byte]) + ONE_URL[at + 1 :]
    answer = s3.send_raw("GET", changed)
    if answer.status == 200:  # the same in another spelling
        assert answer.body == b"odd" and answer.headers["content-type"] == "a/b"
