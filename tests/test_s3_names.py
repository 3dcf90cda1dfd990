"""Targets, bucket names and keys."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.s3.errors import S3Error
from abixio.s3.names import check_bucket_name, check_key, decode_path, parse_target, query_pairs


@pytest.mark.parametrize(
    ("target", "bucket", "key"),
    [
        (b"/", "", ""),
        (b"/bucket", "bucket", ""),
        (b"/bucket/", "bucket", ""),
        (b"/bucket/a", "bucket", "a"),
        (b"/bucket/a/", "bucket", "a/"),
        (b"/bucket//a", "bucket", "/a"),
        (b"/bucket/a//b", "bucket", "a//b"),
        (b"/bucket/../a", "bucket", "../a"),
        (b"/bucket/.", "bucket", "."),
        (b"/bucket/..", "bucket", ".."),
        (b"/bucket/a+b", "bucket", "a+b"),
        (b"/bucket/a%20b%2Bc%252F", "bucket", "a b+c%2F"),
        (b"/bucket/a%2fb%2F", "bucket", "a/b/"),
        (b"/bucket%2Fa", "bucket", "a"),
        (b"/bucket/%00%01%7F", "bucket", "\x00\x01\x7f"),
        (b"/bucket/%F0%9F%98%80", "bucket", "\U0001f600"),
        ("/bucket/\u00e9".encode(), "bucket", "\u00e9"),
        (b"/bucket/a?b", "bucket", "a"),
        (b"/bucket/a%3Fb?c", "bucket", "a?b"),
    ],
)
def test_a_path_is_bucket_and_key_as_signed(target: bytes, bucket: str, key: str) -> None:
    found = parse_target(target)
    assert (found.bucket, found.key) == (bucket, key)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_key_comes_back_exactly(key: str) -> None:
    assert parse_target(f"/bucket/{quote(key, safe='/')}".encode()).key == key
    assert decode_path(f"/bucket/{quote(key, safe='')}".encode()) == "/bucket/" + key


@pytest.mark.parametrize(
    "target",
    [b"/bucket/%", b"/bucket/%4", b"/bucket/%zz", b"/bucket/%ff", b"/bucket/\xff", b"/bucket/%ED%A0%80", b"*", b"bucket", b"http://a/b",
     b"/b?prefix=%ff", b"/b?prefix=%4", b"/b?%zz", b""],
)
def test_a_target_that_is_no_uri_of_utf8_is_refused(target: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parse_target(target)
    assert (caught.value.code, caught.value.status) == ("InvalidURI", 400)


def test_a_key_without_a_bucket_is_an_invalid_bucket_name() -> None:
    with pytest.raises(S3Error) as caught:
        parse_target(b"//key")
    assert caught.value.code == "InvalidBucketName"


def test_parameters_are_decoded() -> None:
    found = parse_target(b"/b?uploads&prefix=a+b%2B%20&x=1=2&&=z")
    assert found.params == {"uploads": "", "prefix": "a b+ ", "x": "1=2", "": "z"}
    assert query_pairs(found.query) == [("uploads", ""), ("prefix", "a b+ "), ("x", "1=2"), ("", "z")]


def test_a_parameter_may_be_repeated_but_not_have_two_values() -> None:
    assert parse_target(b"/b?x=1&y&x=%31&y=").params == {"x": "1", "y": ""}
    with pytest.raises(S3Error) as caught:
        parse_target(b"/b?x=1&x=2")
    assert (caught.value.code, caught.value.fields["ArgumentName"]) == ("InvalidArgument", "x")


def test_a_plus_is_a_plus_in_the_path_and_a_space_in_the_query() -> None:
    found = parse_target(b"/b/a+b?prefix=a+b")
    assert (found.key, found.params["prefix"]) == ("a+b", "a b")


@pytest.mark.parametrize("name", ["abc", "a-b", "a.b", "a1.b2-c3", "1ab", "a" * 63, "1.2.3", "1.2.3.4.5", "xn-a"])
def test_bucket_names_of_s3_are_accepted(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 64, "Abc", "a_b", "-ab", "ab-", ".ab", "ab.", "a..b", "192.168.5.4", "a b", "a/b", "abc\n",
     "\u00e9\u00e9\u00e9", "xn--abc", "sthree-abc", "amzn-s3-demo-abc",
     "abc-s3alias", "abc--ol-s3", "abc.mrap", "abc--x-s3", "abc--table-s3"],
)
def test_other_bucket_names_are_refused(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_bucket_name(name)
    assert (caught.value.code, caught.value.fields) == ("InvalidBucketName", {"BucketName": name})


@pytest.mark.parametrize("key", ["a", "a" * 1024, "\u00e9" * 512, "/", "..", "\x00"])
def test_keys_of_up_to_1024_bytes_are_accepted(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize("key", ["a" * 1025, "\u00e9" * 513, "\U0001f600" * 257])
def test_longer_keys_are_too_long(key: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_key(key)
    assert caught.value.code == "KeyTooLongError"
    assert caught.value.fields == {"Size": len(key.encode()), "MaxSizeAllowed": 1024}


def test_an_empty_key_is_none() -> None:
    with pytest.raises(S3Error) as caught:
        check_key("")
    assert caught.value.code == "InvalidArgument"
