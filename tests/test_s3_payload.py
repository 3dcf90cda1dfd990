"""Payloads as a whole: which form a request has."""

from __future__ import annotations

import hashlib

import pytest

from abixio.config import MAX_OBJECT
from abixio.errors import IncompleteBody
from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.payload import has_content_md5, payload_source
from abixio.s3.sigv4 import Identity
from tests.s3_wire import ACCESS, BytesBody, request

UNSIGNED = "UNSIGNED-PAYLOAD"
TRAILING = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


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
