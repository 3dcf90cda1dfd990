"""Requests as boto3 signs them pass; with any one change to head, path, query, body, chunk or trailer they fail with the right
code, and nothing is changed by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio._sign import canonical_path, canonical_query
from abixio.s3.names import parse_target
from tests.s3_harness import Answer, Harness, RawBody
from tests.s3_wire import ACCESS, SECRET

DENIED = {"SignatureDoesNotMatch", "AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed",
          "AuthorizationQueryParametersError", "InvalidRequest", "InvalidArgument", "InvalidURI", "InvalidToken",
          "InvalidBucketName"}
"""For a change of the head."""
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "SignatureDoesNotMatch", "MalformedTrailerError",
           "InvalidRequest", "InvalidChunkSizeError", "EntityTooLarge"}
"""For a change of the body."""


@dataclass
class Sent:
    """A request just before the socket."""

    method: str
    target: bytes
    headers: dict[str, str]
    body: bytes

    def give(self, s3: Harness) -> Answer:
        return s3.send_raw(self.method, self.target, self.headers, self.body)


class Requests(list[Sent]):
    """All of them are too much for the report of a failure."""

    def __repr__(self) -> str:
        return "requests"


class Recorder:
    """boto3, whose requests are answered and kept."""

    def __init__(self, s3: Harness, scheme: str, **settings: Any) -> None:
        self.s3 = s3
        self.sent: list[Sent] = []
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **settings)
        self.client = boto3.client(
            "s3", endpoint_url=f"{scheme}://s3.test:9000", region_name="us-east-1", aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET, config=config,
        )
        self.client.meta.events.register("before-send.s3", self._keep)

    def _keep(self, request: Any, **_: Any) -> Any:
        split = urlsplit(request.url)
        headers = {"host": split.netloc} | {
            name.lower(): value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        body = request.body if isinstance(request.body, bytes) else b"" if request.body is None else request.body.read()
        sent = Sent(request.method, (split.path + (f"?{split.query}" if split.query else "")).encode(), headers, body)
        self.sent.append(sent)
        answer = sent.give(self.s3)
        assert answer.status < 300, answer
        return AWSResponse(request.url, answer.status, answer.headers, RawBody(answer.body))


@pytest.fixture(scope="module")
def s3() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def requests(s3: Harness) -> Requests:
    """Each passed once."""
    found = Requests()
    for scheme in ("http", "https"):
        boto = Recorder(s3, scheme)
        boto.client.create_bucket(Bucket=scheme)
        boto.client.put_object(Bucket=scheme, Key="a b/ü+", Body=b"data" * 3000, Metadata={"a": "b  c"}, ContentType="text/x")
        boto.client.get_object(Bucket=scheme, Key="a b/ü+", Range="bytes=1-2", ResponseContentType="a/b")
        boto.client.list_objects_v2(Bucket=scheme, Prefix="a b", Delimiter="/", MaxKeys=2)
        boto.client.copy_object(Bucket=scheme, Key="copy", CopySource={"Bucket": scheme, "Key": "a b/ü+"}, StorageClass="GLACIER")
        upload = boto.client.create_multipart_upload(Bucket=scheme, Key="m", ChecksumAlgorithm="SHA256")["UploadId"]
        boto.client.upload_part(Bucket=scheme, Key="m", UploadId=upload, PartNumber=1, Body=b"part", ChecksumAlgorithm="SHA256")
        boto.client.delete_objects(Bucket=scheme, Delete={"Objects": [{"Key": "gone"}]})
        found += boto.sent
    assert len({sent.headers["x-amz-content-sha256"] for sent in found} & {"STREAMING-UNSIGNED-PAYLOAD-TRAILER"}) == 1
    return found


def contents(s3: Harness) -> dict[str, dict[str, int]]:
    """Every object with the number of its write."""
    return {name: {key: stored.record.seq for key, stored in each.objects.items()} for name, each in s3.store.contents.items()}


def same_meaning(sent: Sent, target: bytes) -> bool:
    path, _, query = sent.target.partition(b"?")
    path2, _, query2 = target.partition(b"?")
    return canonical_path(path) == canonical_path(path2) and canonical_query(query) == canonical_query(query2)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_target_passes(s3: Harness, requests: Requests, data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from(requests))
    at = data.draw(st.integers(0, len(sent.target)))
    byte = data.draw(st.sampled_from(b"%&=?/+-a0Z~\xc3"))
    cut = data.draw(st.sampled_from([0, 1]))
    target = sent.target[:at] + bytes([byte]) + sent.target[at + cut :]
    before = contents(s3)
    answer = Sent(sent.method, target, sent.headers, sent.body).give(s3)
    if answer.status < 300:
        assert parse_target(target).params == parse_target(sent.target).params
        assert same_meaning(sent, target)
        return
    assert contents(s3) == before
    assert not answer.body or answer.code in DENIED


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_no_changed_header_passes(s3: Harness, requests: Requests, data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from(requests))
    headers = dict(sent.headers)
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    name = data.draw(st.sampled_from(["authorization", *signed]))
    match data.draw(st.sampled_from(["drop", "change", "append", "add"])):
        case "drop" if name != "host":  # without which there is no request
            del headers[name]
        case "change":
            at = data.draw(st.integers(0, len(headers[name]) - 1))
            byte = data.draw(st.sampled_from("a0Z-/"))
            headers[name] = headers[name][:at] + byte + headers[name][at + 1 :]
        case "append":
            headers[name] += data.draw(st.sampled_from([",x", "0", "\xff"]))
        case _:
            headers["x-amz-" + data.draw(st.sampled_from(["acl", "copy-source", "meta-b", "storage-class", "date2"]))] = "x"
    if headers == sent.headers or (name == "authorization" and headers.get(name, "").split() == sent.headers[name].split()):
        return
    before = contents(s3)
    answer = Sent(sent.method, sent.target, headers, sent.body).give(s3)
    assert answer.status >= 400, name
    assert contents(s3) == before
    assert answer.code in DENIED, answer


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_no_changed_body_passes(s3: Harness, requests: Requests, data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from([sent for sent in requests if sent.body]))
    at = data.draw(st.integers(0, len(sent.body) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != sent.body[at]))
    match data.draw(st.sampled_from(["change", "insert", "cut"])):
        case "change":
            body = sent.body[:at] + bytes([byte]) + sent.body[at + 1 :]
        case "insert":
            body = sent.body[:at] + bytes([byte]) + sent.body[at:]
        case _:
            body = sent.body[:at]
    before = contents(s3)
    answer = Sent(sent.method, sent.target, sent.headers, body).give(s3)
    if answer.status < 300:  # the coding in another spelling: case or zeros of a size, blanks around a trailer
        assert answer.headers["etag"] == sent.give(s3).headers["etag"]
        return
    assert contents(s3) == before
    assert answer.code in DAMAGED | {"MissingRequestBodyError"}, answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
def test_no_other_method_passes(s3: Harness, requests: Requests, method: str) -> None:
    for sent in requests:
        if sent.method != method:
            answer = Sent(method, sent.target, sent.headers, sent.body).give(s3)
            assert answer.status == 403
            assert not answer.body or answer.code == "SignatureDoesNotMatch"
