"""System and user metadata: what is kept, what is refused, what comes back."""

from __future__ import annotations

import random
from collections.abc import Callable
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.s3 import metadata
from abixio.s3.errors import S3Error
from abixio.store.record import Record
from abixio.store.types import ObjectInfo


def kept(headers: dict[str, str], meta: dict[str, str] | None = None) -> ObjectInfo:
    return ObjectInfo("k", 0, "e", 0, Record("object", b"", b"k", 1, 1, headers=headers, meta=meta or {}))


def returned(headers: dict[str, str], query: dict[str, str] | None = None) -> dict[str, str]:
    """What a GET gives back of what a PUT sent."""
    found = metadata.read(headers)
    return dict(metadata.answer(kept(found.headers, found.meta), query or {}))


def wire(text: str) -> str:
    """A header value as it arrives: bytes shown as latin-1."""
    return text.encode().decode("latin-1")


def refused(headers: dict[str, str]) -> str:
    with pytest.raises(S3Error) as caught:
        metadata.refuse_unsupported(headers)
    return caught.value.code


def test_all_system_metadata_comes_back() -> None:
    sent = {
        "cache-control": "no-cache", "content-disposition": 'attachment; filename="a"', "content-encoding": "gzip",
        "content-language": "de", "content-type": "text/plain", "expires": "Thu, 01 Dec 1994 16:00:00 GMT",
        "x-amz-storage-class": "STANDARD_IA", "x-amz-website-redirect-location": "/elsewhere",
    }
    assert {name.lower(): value for name, value in returned(sent).items()} == sent


def test_nothing_sent_gives_only_the_default_type() -> None:
    assert returned({}) == {"Content-Type": "binary/octet-stream"}
    assert returned({"content-type": "", "cache-control": ""}) == {"Content-Type": "binary/octet-stream"}


@pytest.mark.parametrize(
    ("sent", "back"),
    [("aws-chunked", None), ("aws-chunked,gzip", "gzip"), ("gzip, aws-chunked", "gzip"), ("AWS-Chunked", None),
     ("gzip,aws-chunked,br", "gzip,br"), ("gzip, br", "gzip, br"), ("", None)],
)
def test_aws_chunked_is_no_content_encoding(sent: str, back: str | None) -> None:
    assert returned({"content-encoding": sent}).get("Content-Encoding") == back


def test_the_standard_class_is_not_shown_in_headers_but_in_listings() -> None:
    assert "x-amz-storage-class" not in returned({"x-amz-storage-class": "STANDARD"})
    assert metadata.storage_class(kept({})) == "STANDARD"
    assert metadata.storage_class(kept({"x-amz-storage-class": "GLACIER"})) == "GLACIER"


def test_unknown_storage_class() -> None:
    with pytest.raises(S3Error) as caught:
        metadata.read({"x-amz-storage-class": "CHEAP"})
    assert caught.value.code == "InvalidStorageClass"


@pytest.mark.parametrize("place", ["elsewhere", "ftp://host/", "/" + "x" * 2048])
def test_a_redirect_is_a_path_or_a_url(place: str) -> None:
    with pytest.raises(S3Error):
        metadata.read({"x-amz-website-redirect-location": place})


# ---- user metadata ---------------------------------------------------------------------------------------------------
def test_user_metadata_comes_back_and_carries_the_fault_tolerance() -> None:
    sent = {"x-amz-meta-a": "1", "x-amz-meta-ec-ftt": "2", "x-amz-meta-empty": ""}
    found = metadata.read(sent)
    assert found.meta == {"a": "1", "ec-ftt": "2", "empty": ""}
    assert found.ftt == "2"
    assert returned(sent) == sent | {"Content-Type": "binary/octet-stream"}


def test_user_metadata_may_hold_two_kibibytes_of_names_and_values() -> None:
    full = {"x-amz-meta-ab": "x" * 2044, "x-amz-meta-c": "1"}
    assert len(metadata.read(full).meta) == 2
    with pytest.raises(S3Error) as caught:
        metadata.read(full | {"x-amz-meta-c": "12"})
    assert caught.value.code == "MetadataTooLarge"
    assert caught.value.fields == {"Size": 2049, "MaxSizeAllowed": 2048}


def test_system_metadata_has_a_limit_too() -> None:
    with pytest.raises(S3Error) as caught:
        metadata.read({"cache-control": "x" * 9000})
    assert caught.value.code == "MetadataTooLarge"


def test_non_ascii_is_read_as_utf8_and_returned_as_rfc_2047() -> None:
    assert metadata.read({"x-amz-meta-name": wire("Grüße €")}).meta == {"name": "Grüße €"}
    assert returned({"x-amz-meta-name": wire("ÄMÄZÕÑ S3")})["x-amz-meta-name"] == "=?UTF-8?B?w4RNw4Raw5XDkSBTMw==?="


def test_what_is_not_utf8_is_read_as_latin_1() -> None:
    assert metadata.read({"x-amz-meta-name": "Gr\xfc\xdfe"}).meta == {"name": "Grüße"}


def test_an_encoded_word_that_was_sent_stays_as_it_is() -> None:
    word = "=?UTF-8?B?w4RNw4Raw5XDkSBTMw==?="
    assert returned({"x-amz-meta-name": word})["x-amz-meta-name"] == word


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=200))
def test_any_text_survives_and_its_words_are_short_enough(text: str) -> None:
    back = returned({"x-amz-meta-t": wire(text)})["x-amz-meta-t"]
    assert back.isascii()
    if text.isascii():
        assert back == text
    else:
        assert all(len(word) <= 75 for word in back.split(" "))
        assert str(make_header(decode_header(back))) == text


# ---- overrides -------------------------------------------------------------------------------------------------------
def test_overrides_replace_what_is_stored() -> None:
    names = ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires")
    query = {"response-" + name: "new " + name for name in names}
    back = returned({"content-type": "text/plain", "cache-control": "old"}, query)
    assert {name.lower(): value for name, value in back.items()} == {name: "new " + name for name in names}


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\x00b", "\x7f", "☃"])
def test_an_override_cannot_forge_a_header(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        returned({}, {"response-content-type": value})
    assert caught.value.code == "InvalidArgument"
    assert caught.value.fields["ArgumentName"] == "response-content-type"


# ---- broken promises -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-copy-source-server-side-encryption-customer-key", "x"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00Z"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-bucket-object-lock-enabled", "true"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-write-offset-bytes", "5"),
        ("x-amz-if-match-size", "5"),
    ],
)
def test_headers_that_promise_what_is_not_there_are_refused(name: str, value: str) -> None:
    assert refused({name: value}) == "NotImplemented"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-acl", "public-read", "AccessControlListNotSupported"), ("x-amz-acl", "nonsense", "InvalidArgument"),
        ("x-amz-grant-read", 'id="x"', "AccessControlListNotSupported"),
        ("x-amz-grant-full-control", 'id="x"', "AccessControlListNotSupported"),
    ],
)
def test_rules_of_access_are_refused_as_s3_refuses_them_by_default(name: str, value: str, code: str) -> None:
    assert refused({name: value}) == code


def test_harmless_headers_pass() -> None:
    metadata.refuse_unsupported({
        "x-amz-acl": "private", "x-amz-tagging": "", "x-amz-meta-acl": "public-read", "x-amz-date": "", "host": "h",
        "x-amz-bucket-object-lock-enabled": "false", "x-amz-server-side-encryption-bucket-key-enabled": "false",
    })
    metadata.refuse_unsupported({"x-amz-acl": "bucket-owner-full-control"})


def outcome(function: Callable[[dict[str, str]], object], headers: dict[str, str]) -> object:
    try:
        return function(headers)
    except S3Error as error:
        return error.code, error.message, error.fields


def test_one_more_header_that_means_nothing_changes_nothing() -> None:
    """The usual ones, decided about all at once, are decided about as all others."""
    chance = random.Random(8)
    unusual = ["cache-control", "content-disposition", "content-language", "expires", "content-encoding",
               metadata.STORAGE_CLASS, metadata.REDIRECT, "x-amz-meta-a", "x-amz-acl",
               "x-amz-tagging", "x-amz-grant-read", "x-amz-server-side-encryption",
               "x-amz-object-lock-mode", "x-amz-write-offset-bytes", "x-amz-if-match-size"]
    values = ["", "a", "private", "false", "GLACIER", "/a", "public-read", "a, aws-chunked", "\xe4"]
    told = set()
    for _ in range(3000):
        names = chance.sample(sorted(metadata.USUAL), chance.randrange(len(metadata.USUAL)))
        names += chance.sample(unusual, chance.choice([0, 0, 1, 2]))
        headers = {name: chance.choice(values) for name in names}
        if chance.random() < 0.3:
            headers["content-type"] = "x" * (metadata.MAX_SYSTEM - chance.choice([0, 11, 12, 13, 8000]))
        for function in (metadata.read, metadata.refuse_unsupported):
            found = outcome(function, headers)
            assert found == outcome(function, headers | {"x-other": ""}), headers
            told.add(str(found)[:30])
    assert len(told) == 12
