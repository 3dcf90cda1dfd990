"""Whatever a client sends, signed or not, is answered: never with a 500, never with a defect, always as S3 answers.

Every mutation is drawn by hypothesis from the words that the code looks for and from values that parsers get wrong.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abixio.s3 import metadata, router
from abixio.s3.errors import CODES
from abixio.s3.xml import escape
from tests.s3_fakestore import FakeStore
from tests.s3_harness import Answer, Harness
from tests.s3_wire import ACCESS

EXAMPLES = int(os.environ.get("ABIXIO_TEST_EXAMPLES", "150"))
"""Some seconds for each test; hunts set more."""

hunt = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NUMBERS = ["", "0", "1", "-1", "+5", "007", "1e3", "1.5", "10001", "2147483648", "9" * 30, "9" * 5000, "٣", "0x10", " 1", "NaN"]
TEXTS = [
    "", "a", "null", "true", "\x00", "\x01", "\x7f\x80\x9f", "\ufffe", "\U0001f600", "ü", "a\r\nX-Evil: 1", '"', "<&>", "]]>",
    "%", "%zz", "../..", "//", "k" * 1025, "*", 'W/"x"', "bytes=0-0", "bytes=-0", "bytes=5-1", "=,;", "STANDARD", "COPY",
    "REPLACE", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 99999 99:99:99 +9999", "20130524T000000Z", "/b01/k",
    "b01/k?versionId=null", "/b01/", "AAAA", "AAAAAA==", "0" * 32, "url", "2", "AES256", "CRC32", "crc64nvme", "FULL_OBJECT",
    "private", "http://", "é" * 3000,
]
VALUES = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.text(max_size=8))
KNOWN = [
    *sorted(set(router.BUCKET) | set(router.OBJECT)), "list-type", "prefix", "delimiter", "marker", "key-marker",
    "upload-id-marker", "version-id-marker", "continuation-token", "start-after", "max-keys", "max-parts", "max-uploads",
    "max-buckets", "part-number-marker", "partNumber", "encoding-type", "fetch-owner", "versionId", "bucket-region",
    "response-content-type", "response-expires", "x-id", "x-amz-meta-a", "id", "Signature", "AWSAccessKeyId",
]
HEADERS = [
    "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range", "content-md5",
    "content-type", "content-encoding", "content-language", "expires", "cache-control", "x-amz-copy-source",
    "x-amz-copy-source-range", "x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since", "x-amz-metadata-directive", "x-amz-tagging-directive", "x-amz-tagging",
    "x-amz-storage-class", "x-amz-acl", "x-amz-website-redirect-location", "x-amz-checksum-algorithm", "x-amz-checksum-type",
    "x-amz-checksum-mode", "x-amz-checksum-crc32", "x-amz-checksum-sha256", "x-amz-checksum-none",
    "x-amz-sdk-checksum-algorithm", "x-amz-trailer", "x-amz-mp-object-size", "x-amz-meta-a", "x-amz-meta-ec-ftt",
    "x-amz-expected-bucket-owner", "x-amz-object-ownership", "x-amz-source-expected-bucket-owner", "x-amz-if-match-size",
    "x-amz-if-match-last-modified-time", "x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker",
    "x-amz-decoded-content-length", "x-amz-server-side-encryption", "x-amz-bypass-governance-retention",
    "x-amz-request-payer", "x-amz-mfa", "x-amz-optional-object-attributes", "date", *sorted(metadata._PROTECTION),
]
METHODS = [
    "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH",
]
PATHS = [
    "/", "/b01", "/b01/", "/b01/k", "/b01/none", "/none", "/none/k", "/b01//", "/b01/%00", "/b01/%C3%BC", "/B", "/b",
    "/b01/../k", "/b01/" + "k" * 1025, "/" + "b" * 300, "//k", "/b01/m", "/x_y/k", "/b01/%F0%9F%98%80", "/%00",
]

QUERIES = st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=3)


def latin(text: str) -> str:
    """A header value as a parser of lines would give it."""
    raw = text.encode("utf-8", "surrogatepass").decode("latin-1").replace("\r", "").replace("\n", "").replace("\x00", "")
    return "".join(each for each in raw if each == "\t" or (ord(each) >= 32 and ord(each) != 127)).strip(" \t")


@pytest.fixture(scope="module")
def s3() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


def furnish(s3: Harness) -> str:
    """A bucket with an object, a multipart object and an open upload with one part; the upload's id."""
    s3.renew(FakeStore())
    for target, body in (("/b01", b""), ("/b01/k", b"data")):
        assert s3.ask("PUT", target, body=body).status == 200
    for key in ("m", "k"):
        kind = {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT"}
        made = s3.ask("POST", f"/b01/{key}?uploads", kind)
        upload = ElementTree.fromstring(made.body)[2].text or ""
        etag = s3.ask("PUT", f"/b01/{key}?partNumber=1&uploadId={upload}", body=b"part").headers["etag"]
        if key == "m":
            done = (
                f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
            )
            assert s3.ask("POST", f"/b01/{key}?uploadId={upload}", body=done.encode()).status == 200
    return upload


def check(answer: Answer, method: str) -> None:
    """As S3 answers."""
    assert 200 <= answer.status < 600 and answer.status not in (500, 502, 504), answer
    assert answer.headers["x-amz-request-id"] == "0123456789ABCDEF"
    if answer.status == 304 or method == "HEAD":
        assert not answer.body
    elif answer.status >= 400:
        root = ElementTree.fromstring(answer.body)
        assert root.tag == "Error"
        code = root.findtext("Code")
        assert code in CODES and CODES[code][0] == answer.status, answer
        assert root.findtext("Message") and root.findtext("RequestId") == "0123456789ABCDEF"
        assert answer.headers["content-type"] == "application/xml"


def written(query: dict[str, str]) -> str:
    pairs = (f"{quote(name, safe='')}={quote(value.encode('utf-8', 'surrogatepass'), safe='')}" for name, value in query.items())
    return "?" + "&".join(pairs) if query else ""


@hunt
@given(
    st.sampled_from(METHODS),
    st.sampled_from(PATHS),
    QUERIES,
    st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=4),
    st.booleans(),
    st.sampled_from([b"", b"x", b"data" * 4000]),
)
def test_signed_requests_of_any_shape_get_an_answer(
    s3: Harness, method: str, path: str, query: dict[str, str], headers: dict[str, str], real: bool, body: bytes
) -> None:
    upload = furnish(s3)
    if real and "uploadId" in query:
        query["uploadId"] = upload
    check(s3.ask(method, path + written(query), {name: latin(value) for name, value in headers.items()}, body), method)
    assert s3.store.readers == 0


# ---- before any signature is checked ---------------------------------------------------------------------------------
CLAIMS = [
    "AWS4-HMAC-SHA256", "Credential", "SignedHeaders", "Signature", "AWS4-ECDSA-P256-SHA256", "AWS", "Basic", "=", ",", " ",
    ";", "AKIAIOSFODNN7EXAMPLE", "/", "20130524", "us-east-1", "s3", "aws4_request", "host", "x-amz-date", "99999999",
    "00000000", "\xff",
]
AUTHORIZATIONS = st.one_of(VALUES, st.lists(st.sampled_from(CLAIMS), max_size=20).map("".join))
DATES = st.one_of(
    VALUES,
    st.sampled_from(
        [
            "99991231T235959Z",
            "00010101T000000Z",
            "20240230T000000Z",
            "Sat, 1 Jan 99999 1:1:1 -9999",
            "Mon, 1 Jan 0001 00:00:00 +2359",
            "1 Jan",
            ",",
            ", ,",
            "0",
            "- -",
            "1:1",
            "Jan 1 1:1:1 1",
        ]
    ),
)
SIGNING = [
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
    "X-Amz-Security-Token", "X-Amz-Content-Sha256", "x-amz-content-sha256",
]


@hunt
@given(
    st.sampled_from(METHODS),
    st.sampled_from(PATHS),
    QUERIES,
    st.none() | AUTHORIZATIONS,
    st.none() | DATES,
    st.none() | DATES,
    VALUES,
)
def test_headers_that_nobody_signed_get_an_answer(
    s3: Harness,
    method: str,
    path: str,
    query: dict[str, str],
    authorization: str | None,
    amz_date: str | None,
    date: str | None,
    payload: str,
) -> None:
    given = {"authorization": authorization, "x-amz-date": amz_date, "date": date, "x-amz-content-sha256": payload}
    headers = {name: latin(value) for name, value in given.items() if value is not None}
    answer = s3.send(method, path + written(query), headers, b"body")
    check(answer, method)
    assert answer.status in (400, 403)


@hunt
@given(st.sampled_from(METHODS), st.dictionaries(st.sampled_from(SIGNING), AUTHORIZATIONS | DATES), st.booleans())
def test_urls_that_nobody_signed_get_an_answer(s3: Harness, method: str, mutations: dict[str, str], whole: bool) -> None:
    made = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{ACCESS}/20130524/us-east-1/s3/aws4_request",
        "X-Amz-Date": "20130524T000000Z",
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "0" * 64,
    }
    answer = s3.send(method, "/b01/k" + written(made | mutations if whole else mutations))
    check(answer, method)
    assert answer.status in (400, 403)


@hunt
@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(METHODS))
def test_targets_of_any_bytes_get_an_answer(s3: Harness, path: bytes, query: bytes, method: str) -> None:
    target = (b"/" + path + b"?" + query).replace(b" ", b"").replace(b"\n", b"").replace(b"\r", b"")
    answer = s3.send_raw(method, target)
    check(answer, method)
    assert answer.status in (400, 403)


# ---- documents -------------------------------------------------------------------------------------------------------
NAMES = [
    "Delete", "Object", "Key", "VersionId", "ETag", "Size", "LastModifiedTime", "Quiet", "CompleteMultipartUpload", "Part",
    "PartNumber", "ChecksumCRC32", "ChecksumSHA256", "CreateBucketConfiguration", "LocationConstraint", "Bucket", "Tags",
    "x:y", "é",
]
LEAVES = st.one_of(VALUES, st.sampled_from(["us-east-1", "k", "1", "none", "d41d8cd98f00b204e9800998ecf8427e", '"x"', "*"]))
Tree = tuple[str, "str | list[Tree]"]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.tuples(st.sampled_from(NAMES), LEAVES),
    lambda inner: st.tuples(st.sampled_from(NAMES), st.lists(inner, max_size=4)),
    max_leaves=12,
)
ENDS = [
    ("POST", "/b01?delete", "Delete"), ("PUT", "/b02", "CreateBucketConfiguration"),
    ("POST", "/b01/k?uploadId=", "CompleteMultipartUpload"), ("POST", "/b01/k?uploadId=0", "CompleteMultipartUpload"),
    ("PUT", "/b01", "CreateBucketConfiguration"),
]


def spelled(tree: Tree) -> str:
    name, inner = tree
    return f"<{name}>{escape(inner) if isinstance(inner, str) else ''.join(map(spelled, inner))}</{name}>"


@hunt
@given(st.sampled_from(ENDS), st.lists(TREES, max_size=4), st.booleans(), st.integers(0, 400), st.binary(max_size=3))
def test_documents_of_any_shape_get_an_answer(
    s3: Harness, end: tuple[str, str, str], trees: list[Tree], torn: bool, at: int, garbage: bytes
) -> None:
    upload = furnish(s3)
    method, target, root = end
    body = f"<{root}>{''.join(map(spelled, trees))}</{root}>".encode("utf-8", "surrogatepass")
    if torn:
        body = body[:at] + garbage + body[at + 1 :]
    digest = b64encode(md5(body, usedforsecurity=False).digest()).decode()
    answer = s3.ask(method, target + upload if target.endswith("=") else target, {"content-md5": digest}, body)
    check(answer, method)
