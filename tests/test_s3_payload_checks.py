"""Digests that a request announces, and what is said when they are wrong."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping

import pytest

from abixio.codec.digest import Digests
from abixio.s3.errors import S3Error
from abixio.s3.payload_checks import SIZES, Checks, decode_digest

DATA = b"hello, payload"
RUNNING = Digests(["md5", *SIZES])
RUNNING.update(DATA)
ALL = RUNNING.digests()
B64 = {name: b64encode(value).decode() for name, value in ALL.items()}
TRAILING = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def refused(headers: Mapping[str, str], payload: str = "UNSIGNED-PAYLOAD") -> S3Error:
    with pytest.raises(S3Error) as caught:
        Checks(headers, payload)
    return caught.value


@pytest.mark.parametrize("name", SIZES)
def test_a_right_checksum_is_kept_and_a_wrong_one_refused(name: str) -> None:
    checks = Checks({f"x-amz-checksum-{name}": B64[name]}, "UNSIGNED-PAYLOAD")
    assert checks.algorithms == {name}
    assert checks.verify(ALL) == {name: B64[name]}
    with pytest.raises(S3Error) as caught:
        checks.verify({name: bytes(SIZES[name])})
    assert caught.value.code == "BadDigest"
    assert caught.value.message == f"The {name.upper()} you specified did not match the calculated checksum."


def test_a_wrong_md5_is_a_bad_digest() -> None:
    checks = Checks({"content-md5": B64["md5"]}, "UNSIGNED-PAYLOAD")
    assert checks.algorithms == {"md5"}
    assert checks.verify(ALL) == {}
    with pytest.raises(S3Error) as caught:
        checks.verify({"md5": bytes(16)})
    assert caught.value.code == "BadDigest"
    assert caught.value.fields == {"ExpectedDigest": B64["md5"], "CalculatedDigest": "A" * 22 + "=="}


@pytest.mark.parametrize("upper", [False, True])
def test_a_wrong_payload_hash_is_a_mismatch(upper: bool) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    checks = Checks({}, digest.upper() if upper else digest)
    assert checks.algorithms == {"sha256"}
    assert checks.verify(ALL) == {}
    with pytest.raises(S3Error) as caught:
        checks.verify({"sha256": bytes(32)})
    assert (caught.value.code, caught.value.status) == ("XAmzContentSHA256Mismatch", 400)
    assert caught.value.fields == {"ClientComputedContentSHA256": digest, "S3ComputedContentSHA256": "0" * 64}


def test_everything_announced_is_checked() -> None:
    headers = {"content-md5": B64["md5"], "x-amz-checksum-sha256": B64["sha256"], "x-amz-sdk-checksum-algorithm": "SHA256"}
    checks = Checks(headers, hashlib.sha256(DATA).hexdigest())
    assert checks.algorithms == {"md5", "sha256"}
    assert checks.verify(ALL) == {"sha256": B64["sha256"]}
    for name in ("md5", "sha256"):
        with pytest.raises(S3Error):
            checks.verify({**ALL, name: bytes(len(ALL[name]))})


def test_without_digests_there_is_nothing_to_compute() -> None:
    checks = Checks({"x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "FULL_OBJECT"}, "UNSIGNED-PAYLOAD")
    assert not checks.algorithms
    assert checks.verify({}) == {}


@pytest.mark.parametrize(
    "value", ["", "x", "a" * 24, B64["crc32"], B64["sha256"], B64["md5"] + "\n", "\u00e9" * 24, B64["md5"] + "===="]
)
def test_a_malformed_md5_is_an_invalid_digest(value: str) -> None:
    error = refused({"content-md5": value})
    assert (error.code, error.status, error.fields) == ("InvalidDigest", 400, {"Content-MD5": value})


@pytest.mark.parametrize("value", ["", "x", "====", "AAAA", B64["sha256"], "AAAAA===", "AAA AA=="])
def test_a_malformed_checksum_is_an_invalid_request(value: str) -> None:
    error = refused({"x-amz-checksum-crc32": value})
    assert (error.code, error.message) == ("InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid.")


def test_more_than_one_checksum_is_an_invalid_request() -> None:
    for headers in (
        {"x-amz-checksum-crc32": B64["crc32"], "x-amz-checksum-sha1": B64["sha1"]},
        {"x-amz-checksum-crc32": B64["crc32"], "x-amz-trailer": "x-amz-checksum-crc32"},
    ):
        error = refused(headers, TRAILING)
        assert error.code == "InvalidRequest"
        assert "Expecting a single x-amz-checksum- header" in error.message


def test_an_unknown_algorithm_is_an_invalid_request() -> None:
    assert "algorithm type you specified" in refused({"x-amz-checksum-md4": "AAAA"}).message


@pytest.mark.parametrize(
    ("algorithm", "headers", "message"),
    [
        ("CRC32", {}, "no corresponding x-amz-checksum-* or x-amz-trailer headers were found."),
        ("SHA1", {"x-amz-checksum-crc32": B64["crc32"]}, "Value for x-amz-sdk-checksum-algorithm header is invalid."),
        ("NONE", {"x-amz-checksum-crc32": B64["crc32"]}, "Value for x-amz-sdk-checksum-algorithm header is invalid."),
        ("", {}, "Value for x-amz-sdk-checksum-algorithm header is invalid."),
        ("SHA1", {"x-amz-trailer": "x-amz-checksum-crc32"}, "Value for x-amz-sdk-checksum-algorithm header is invalid."),
    ],
)
def test_the_announced_algorithm_must_be_the_one_that_is_sent(algorithm: str, headers: dict[str, str], message: str) -> None:
    error = refused({"x-amz-sdk-checksum-algorithm": algorithm, **headers}, TRAILING)
    assert error.code == "InvalidRequest"
    assert error.message.endswith(message)


@pytest.mark.parametrize(
    "trailer", ["", "x-amz-checksum-md4", "content-md5", "x-amz-checksum-", "x-amz-checksum-crc32,x-amz-checksum-sha1"]
)
def test_an_unknown_trailer_is_an_invalid_request(trailer: str) -> None:
    error = refused({"x-amz-trailer": trailer}, TRAILING)
    assert (error.code, error.message) == ("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", "0" * 64, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
def test_a_trailer_that_cannot_come_is_refused(payload: str) -> None:
    assert refused({"x-amz-trailer": "x-amz-checksum-crc32"}, payload).code == "InvalidRequest"


def test_a_trailer_brings_its_checksum_later() -> None:
    checks = Checks({"x-amz-trailer": " X-Amz-Checksum-CRC32 "}, TRAILING)
    assert checks.algorithms == {"crc32"}
    checks.take_trailers({"x-amz-checksum-crc32": B64["crc32"]})
    assert checks.verify(ALL) == {"crc32": B64["crc32"]}
    checks.take_trailers({"x-amz-checksum-crc32": "AAAAAA=="})
    with pytest.raises(S3Error, match="BadDigest"):
        checks.verify(ALL)


@pytest.mark.parametrize("found", [{}, {"x-amz-checksum-sha1": "x"}, {"x-amz-checksum-crc32": "AAAAAA==", "other": "x"}])
def test_other_trailers_than_declared_are_malformed(found: dict[str, str]) -> None:
    checks = Checks({"x-amz-trailer": "x-amz-checksum-crc32"}, TRAILING)
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        checks.take_trailers(found)


def test_a_trailer_that_nobody_declared_is_malformed() -> None:
    checks = Checks({}, TRAILING)
    checks.take_trailers({})
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        checks.take_trailers({"x-amz-checksum-crc32": "AAAAAA=="})


def test_a_trailing_checksum_that_is_none_is_an_invalid_request() -> None:
    checks = Checks({"x-amz-trailer": "x-amz-checksum-crc32"}, TRAILING)
    with pytest.raises(S3Error, match="Value for x-amz-checksum-crc32 trailing header is invalid"):
        checks.take_trailers({"x-amz-checksum-crc32": "nonsense"})


def test_checksum_headers_of_something_else_are_left_alone() -> None:
    headers = {"x-amz-checksum-sha256": "AAAA-3", "x-amz-checksum-crc32": "x", "x-amz-sdk-checksum-algorithm": "SHA512"}
    assert not Checks(headers, "UNSIGNED-PAYLOAD", checksums=False).algorithms


@pytest.mark.parametrize(("value", "size"), [("AAAAAA==", 4), ("////", 3)])
def test_digests_are_strict_base64_of_their_size(value: str, size: int) -> None:
    assert len(decode_digest(value, size) or b"") == size
    assert decode_digest(value, size + 1) is None
    assert decode_digest("AAAAAB==", 4) is None or decode_digest("AAAAAB==", 4) == bytes(4)
