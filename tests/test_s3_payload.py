"""Payloads as a whole: which form a request has, and the small ones that are documents."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from abixio.config import MAX_OBJECT
from abixio.errors import IncompleteBody
from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.payload import has_content_md5, payload_source, read_small_body, read_xml
from abixio.s3.sigv4 import Identity
from tests.s3_wire import ACCESS, BytesBody, request, unsigned_chunks

UNSIGNED = "UNSIGNED-PAYLOAD"
TRAILING = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
DOCUMENT = b"<Delete><Quiet>true</Quiet></Delete>"


def identity(payload: str = UNSIGNED) -> Identity:
    return Identity(ACCESS, payload, "0" * 64, "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", b"")


def put(body: bytes | BytesBody, **headers: str) -> Request:
    return request("PUT", "/b/k", {"Content-Length": "1", **headers}, body)


def refused(sent: Request, payload: str = UNSIGNED) -> S3Error:
    with pytest.raises(S3Error) as caught:
        payload_source(sent, identity(payload))
    return caught.value


async def test_a_plain_body_goes_straight_into_the_view() -> None:
    found = payload_source(put(b"hello"), identity())
    assert (found.length, set(found.algorithms)) == (5, set())
    view = bytearray(3)
    assert await found.readinto(memoryview(view)) == 3
    assert view == b"hel"
    assert await found.readinto(memoryview(view)) == 2
    assert view == b"lol"
    assert found.verify({}) == {}


async def test_a_signed_hash_is_verified_at_the_end() -> None:
    found = payload_source(put(b"hello"), identity(hashlib.sha256(b"hello").hexdigest()))
    assert set(found.algorithms) == {"sha256"}
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        found.verify({"sha256": hashlib.sha256(b"hellp").digest()})


async def test_a_body_of_unknown_length_has_none() -> None:
    body = BytesBody(b"hello", None)
    found = payload_source(request("PUT", "/b/k", {"Transfer-Encoding": "chunked"}, body), identity())
    assert found.length is None
    assert await found.readinto(memoryview(bytearray(100))) == 5


async def test_an_endless_body_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.s3.payload.MAX_OBJECT", 10)
    found = payload_source(request("PUT", "/b/k", {"Transfer-Encoding": "chunked"}, BytesBody(bytes(100), None)), identity())
    with pytest.raises(S3Error, match="EntityTooLarge"):
        await found.readinto(memoryview(bytearray(100)))


async def test_a_body_that_ends_early_is_the_error_of_the_wire() -> None:
    found = payload_source(put(BytesBody(b"hell", 5)), identity())
    with pytest.raises(IncompleteBody):
        await found.readinto(memoryview(bytearray(5)))


def test_a_length_must_be_announced_in_one_way_or_another() -> None:
    assert refused(request("PUT", "/b/k", {})).code == "MissingContentLength"
    assert refused(put(b"x"), TRAILING).code == "MissingContentLength"
    chunked = request("PUT", "/b/k", {"Transfer-Encoding": "chunked"}, BytesBody(b"", None))
    assert payload_source(chunked, identity(TRAILING)).length is None


@pytest.mark.parametrize("length", ["", "-1", "+1", "1.0", "1e3", "0x1", "x", "1 2", "\u0661"])
def test_a_decoded_length_that_is_none_is_an_invalid_argument(length: str) -> None:
    error = refused(put(b"x", **{"x-amz-decoded-content-length": length}), TRAILING)
    assert (error.code, error.fields["ArgumentValue"]) == ("InvalidArgument", length)


@pytest.mark.parametrize("length", [str(MAX_OBJECT + 1), "9" * 30, "1" + "0" * 5000], ids=len)
def test_more_than_5_gib_is_too_large_before_a_byte_is_read(length: str) -> None:
    assert refused(put(b"x", **{"x-amz-decoded-content-length": length}), TRAILING).code == "EntityTooLarge"
    assert refused(put(BytesBody(b"x", MAX_OBJECT + 1))).code == "EntityTooLarge"


def test_exactly_5_gib_is_not_too_large() -> None:
    assert payload_source(put(BytesBody(b"", MAX_OBJECT)), identity()).length == MAX_OBJECT
    sent = put(b"x", **{"x-amz-decoded-content-length": str(MAX_OBJECT)})
    assert payload_source(sent, identity(TRAILING)).length == MAX_OBJECT


def test_content_md5_is_noticed() -> None:
    assert has_content_md5(put(b"", **{"Content-MD5": "x"}))
    assert not has_content_md5(put(b""))


# ---- documents -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
async def test_a_small_body_is_read_whole(size: int, known: bool) -> None:
    data = bytes(size)
    assert await read_small_body(put(BytesBody(data, size if known else None)), identity(), 200_000) == data


@pytest.mark.parametrize("known", [True, False])
async def test_a_body_over_the_limit_is_too_large(known: bool) -> None:
    body = BytesBody(bytes(200_001), 200_001 if known else None)
    with pytest.raises(S3Error, match="EntityTooLarge"):
        await read_small_body(put(body), identity(), 200_000)
    if known:
        assert body.unread == 200_001


async def test_a_small_body_may_be_chunked() -> None:
    body = unsigned_chunks([DOCUMENT], b"x-amz-checksum-crc32:GYsbSg==\r\n")
    headers = {"x-amz-decoded-content-length": str(len(DOCUMENT)), "x-amz-trailer": "x-amz-checksum-crc32"}
    with pytest.raises(S3Error, match="BadDigest"):
        await read_small_body(put(body, **headers), identity(TRAILING), 1000)


async def test_the_hashes_of_a_small_body_are_verified() -> None:
    right = {
        "Content-MD5": b64encode(hashlib.md5(DOCUMENT).digest()).decode(),
        "x-amz-checksum-sha1": b64encode(hashlib.sha1(DOCUMENT).digest()).decode(),
    }
    payload = hashlib.sha256(DOCUMENT).hexdigest()
    assert await read_small_body(put(DOCUMENT, **right), identity(payload), 1000) == DOCUMENT
    other = DOCUMENT.replace(b"true", b"fals")
    for name, value in right.items():
        with pytest.raises(S3Error, match="BadDigest"):
            await read_small_body(put(other, **{name: value}), identity(), 1000)
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        await read_small_body(put(other), identity(payload), 1000)
    with pytest.raises(S3Error, match="InvalidDigest"):
        await read_small_body(put(DOCUMENT, **{"Content-MD5": "x"}), identity(), 1000)


async def test_checksums_of_the_object_are_not_those_of_the_document() -> None:
    sent = put(DOCUMENT, **{"x-amz-checksum-sha256": "AAAA-2"})
    assert await read_small_body(sent, identity(), 1000, checksums=False) == DOCUMENT


async def test_a_document_becomes_a_tree() -> None:
    assert (await read_xml(put(DOCUMENT), identity(), "Delete", 1000)).text("Quiet") == "true"
    long = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 5000 + b"</Delete>"
    assert len((await read_xml(put(long), identity(), "Delete", len(long))).children) == 5000


@pytest.mark.parametrize("data", [b"<Delete>", b"<Other/>", b"<!DOCTYPE Delete><Delete/>", b"\xff" + b" " * 70_000])
async def test_what_is_no_such_document_is_malformed_xml(data: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        await read_xml(put(data), identity(), "Delete", 100_000)
    assert (caught.value.code, caught.value.status) == ("MalformedXML", 400)


async def test_an_empty_body_is_no_document() -> None:
    with pytest.raises(S3Error, match="MissingRequestBodyError"):
        await read_xml(put(b""), identity(), "Delete", 1000)
