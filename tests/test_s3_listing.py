"""Listings of objects, of versions and of uploads: every page, token and marker against a simple oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio.s3.errors import S3Error
from abixio.s3.listing import decode_token, encode_token, rolled
from abixio.s3.xml import Node, parse
from tests.s3_fakestore import FakeStore
from tests.s3_harness import Harness

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Harness]:
    """For tests of many examples, each of which takes a store of its own."""
    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def client(shared: Harness) -> S3Client:
    return shared.client()


def fill(s3: Harness, *keys: str) -> None:
    client = s3.client()
    for key in keys:
        client.put_object(Bucket="b01", Key=key, Body=b"x")


def oracle(keys: set[str], prefix: str, delimiter: str) -> list[str]:
    """Keys and common prefixes as one list in order; a common prefix ends with the delimiter and is no stored key's entry."""
    found = set()
    for key in keys:
        if key.startswith(prefix):
            head, cut, _ = key[len(prefix):].partition(delimiter) if delimiter else (key[len(prefix):], "", "")
            found.add(prefix + head + cut)
    return sorted(found, key=str.encode)


def document(s3: Harness, **query: Any) -> Node:
    text = "&".join(f"{name.replace('_', '-')}={quote(str(value), safe='')}" for name, value in query.items())
    answer = s3.ask("GET", f"/b01?{text}")
    assert answer.status == 200, answer.body
    return parse(answer.body)


def entries(page: Node) -> list[str]:
    keys = [unquote_plus(each.text("Key") or "") for name in ("Contents", "Version") for each in page.all(name)]
    prefixes = [unquote_plus(each.text("Prefix") or "") for each in page.all("CommonPrefixes")]
    return sorted(keys + prefixes, key=str.encode)


def begin(s3: Harness, keys: set[str]) -> None:
    """A fresh store with one bucket that holds `keys`."""
    s3.renew(FakeStore())
    s3.ask("PUT", "/b01")
    for key in keys:
        s3.ask("PUT", "/b01/" + quote(key), body=b"x")


KEYS = st.sets(st.text("ab/ü", min_size=1, max_size=5), max_size=12)
PREFIXES = st.sampled_from(["", "a", "a/", "/", "ab", "ü", "b/ü"])
DELIMITERS = st.sampled_from(["", "/", "//", "ü", "b", "a/"])


@settings(max_examples=120, deadline=None)
@given(KEYS, PREFIXES, DELIMITERS, st.integers(1, 4))
def test_pages_of_every_kind_are_the_whole_listing_once(
    shared: Harness, keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    begin(shared, keys)
    query: dict[str, Any] = {"prefix": prefix, "delimiter": delimiter, "max_keys": limit, "encoding_type": "url"}
    expected = oracle(keys, prefix, delimiter)
    assert walk_v2(shared, query, limit) == expected
    assert walk_v1(shared, query, limit) == expected
    assert walk_versions(shared, query, limit) == expected


def walk_v2(s3: Harness, query: dict[str, Any], limit: int) -> list[str]:
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = document(s3, list_type=2, **query, **more)
        part = entries(page)
        assert len(part) <= limit
        assert page.text("KeyCount") == str(len(part))
        found += part
        if page.text("IsTruncated") == "false":
            assert page.find("NextContinuationToken") is None
            return found
        assert len(part) == limit
        more = {"continuation_token": page.text("NextContinuationToken")}


def walk_v1(s3: Harness, query: dict[str, Any], limit: int) -> list[str]:
    """As clients do: NextMarker when it is there, which is so exactly with a delimiter, else the last key."""
    found: list[str] = []
    marker = ""
    while True:
        page = document(s3, **query, marker=marker)
        part = entries(page)
        found += part
        following = page.text("NextMarker")
        if page.text("IsTruncated") == "false":
            assert following is None
            return found
        assert len(part) == limit
        assert (following is not None) == bool(query["delimiter"])
        marker = unquote_plus(following) if following is not None else part[-1]


def walk_versions(s3: Harness, query: dict[str, Any], limit: int) -> list[str]:
    """As clients do: both markers are sent back as they came."""
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = document(s3, versions="", **query, **more)
        part = entries(page)
        found += part
        key, version = page.text("NextKeyMarker"), page.text("NextVersionIdMarker")
        if page.text("IsTruncated") == "false":
            assert key is version is None
            return found
        assert len(part) == limit
        more = {"key_marker": unquote_plus(key or "")} | ({} if version is None else {"version_id_marker": version})


@settings(max_examples=120, deadline=None)
@given(KEYS, PREFIXES, DELIMITERS, st.text("ab/ü", max_size=4))
def test_start_after_shows_what_is_greater(shared: Harness, keys: set[str], prefix: str, delimiter: str, start: str) -> None:
    begin(shared, keys)
    page = document(shared, list_type=2, prefix=prefix, delimiter=delimiter, start_after=start, encoding_type="url")
    # A common prefix that is not greater than the marker is left out, and with it all its keys.
    assert entries(page) == [each for each in oracle(keys, prefix, delimiter) if each.encode() > start.encode()]


def test_order_is_that_of_utf8_bytes(s3: Harness) -> None:
    keys = ["Z", "a", "é", "\uffff", "😀", "~", "aa", "a/"]
    fill(s3, *keys)
    listed = [each["Key"] for each in s3.client().list_objects_v2(Bucket="b01")["Contents"]]
    assert listed == sorted(keys, key=str.encode)


# ---- sizes of pages --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [{}, {"list_type": 2}])
def test_max_keys(s3: Harness, version: dict[str, Any]) -> None:
    fill(s3, "a", "b", "c")
    for limit, shown, cut, echoed in ((0, [], "false", 0), (1, ["a"], "true", 1), (3, ["a", "b", "c"], "false", 3),
                                      (999, ["a", "b", "c"], "false", 999), (1000, ["a", "b", "c"], "false", 1000),
                                      (5000, ["a", "b", "c"], "false", 1000), (2**31 - 1, ["a", "b", "c"], "false", 1000)):
        page = document(s3, max_keys=limit, **version)
        assert (entries(page), page.text("IsTruncated"), page.text("MaxKeys")) == (shown, cut, str(echoed))


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "2147483648", "9" * 5000, "1e3", "%D9%A3", "0x10"])
@pytest.mark.parametrize("target", ["/b01?max-keys=", "/b01?list-type=2&max-keys=", "/b01?uploads&max-uploads="])
def test_a_page_size_that_is_no_number(s3: Harness, target: str, value: str) -> None:
    assert s3.ask("GET", target + value).code == "InvalidArgument"


def test_no_page_size_is_a_thousand(s3: Harness) -> None:
    assert document(s3).text("MaxKeys") == "1000"
    assert document(s3, max_keys="").text("MaxKeys") == "1000"


def test_a_thousand_and_one_keys_are_two_pages(s3: Harness) -> None:
    client = s3.client()
    for number in range(1001):
        s3.ask("PUT", f"/b01/{number:04}", body=b"")
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket="b01"))
    assert [len(page["Contents"]) for page in pages] == [1000, 1]
    pages_v1 = list(client.get_paginator("list_objects").paginate(Bucket="b01", PaginationConfig={"PageSize": 400}))
    assert [len(page["Contents"]) for page in pages_v1] == [400, 400, 201]


# ---- parameters ------------------------------------------------------------------------------------------------------
def test_what_was_asked_is_repeated(s3: Harness) -> None:
    fill(s3, "p/a b")
    v2 = document(s3, list_type=2, prefix="p/a ", delimiter="+", start_after="p/", encoding_type="url", fetch_owner="true")
    for name, value in {"Name": "b01", "Prefix": "p/a+", "Delimiter": "%2B", "StartAfter": "p/", "EncodingType": "url",
                        "KeyCount": "1"}.items():
        assert v2.text(name) == value
    v1 = document(s3, prefix="p/", delimiter="/", marker="p/")
    for name, value in {"Name": "b01", "Prefix": "p/", "Delimiter": "/", "Marker": "p/"}.items():
        assert v1.text(name) == value
    bare = document(s3, list_type=2)
    assert bare.text("Prefix") == ""
    assert all(bare.find(name) is None for name in ("Delimiter", "StartAfter", "EncodingType", "ContinuationToken"))


def test_the_owner_is_shown_in_v1_and_when_asked_for_in_v2(s3: Harness) -> None:
    fill(s3, "a")

    def owned(page: Node) -> bool:
        (contents,) = page.all("Contents")
        return contents.find("Owner") is not None

    assert owned(document(s3))
    assert not owned(document(s3, list_type=2))
    assert not owned(document(s3, list_type=2, fetch_owner="false"))
    assert owned(document(s3, list_type=2, fetch_owner="true"))


def test_what_an_entry_says(s3: Harness) -> None:
    s3.store.now = 784_123_200_999
    fill(s3, "a")
    (entry,) = document(s3).all("Contents")
    assert entry.text("LastModified") == "1994-11-06T12:00:00.000Z"
    assert entry.text("ETag") == '"9dd4e461268c8034f5c8564e155c67a6"'
    assert (entry.text("Size"), entry.text("StorageClass")) == ("1", "STANDARD")


def test_every_object_is_its_own_only_version(s3: Harness) -> None:
    client = s3.client()
    s3.store.now = 784_123_200_999
    client.put_object(Bucket="b01", Key="a", Body=b"x", ChecksumAlgorithm="CRC32", StorageClass="GLACIER")
    (version,) = client.list_object_versions(Bucket="b01")["Versions"]
    (entry,) = client.list_objects_v2(Bucket="b01", FetchOwner=True)["Contents"]
    assert (version.pop("VersionId"), version.pop("IsLatest")) == ("null", True)  # type: ignore[misc]
    assert version == entry


@pytest.mark.parametrize(
    ("query", "message"),
    [("version-id-marker=null", b"without a key marker"), ("version-id-marker=", b"without a key marker"),
     ("key-marker=a&version-id-marker=x", b"Invalid version id"), ("key-marker=a&version-id-marker=", b"Invalid version id"),
     ("max-keys=x", b"max-keys"), ("encoding-type=x", b"Encoding Method")],
)
def test_markers_of_versions(s3: Harness, query: str, message: bytes) -> None:
    answer = s3.ask("GET", f"/b01?versions&{query}")
    assert (answer.code, message in answer.body) == ("InvalidArgument", True)


def test_keys_that_xml_cannot_carry_are_listed_by_url_encoding(s3: Harness) -> None:
    fill(s3, "a\x01b/\x02", "c\nd")
    page = document(s3, encoding_type="url", delimiter="/")
    assert entries(page) == ["a\x01b/", "c\nd"]


@pytest.mark.parametrize(
    "query", ["encoding-type=xml", "list-type=2&encoding-type=x", "list-type=1", "list-type=2&continuation-token=",
              "list-type=2&continuation-token=zzz", "uploads&encoding-type=x"],
)
def test_parameters_that_mean_nothing(s3: Harness, query: str) -> None:
    assert s3.ask("GET", f"/b01?{query}").code == "InvalidArgument"


def test_listing_a_missing_bucket(s3: Harness) -> None:
    for query in ("", "?list-type=2", "?max-keys=0", "?uploads", "?versions"):
        assert s3.ask("GET", f"/none{query}").code == "NoSuchBucket"


# ---- tokens ----------------------------------------------------------------------------------------------------------
@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40))
def test_a_token_leads_back_to_its_key(key: str) -> None:
    assert decode_token(encode_token(key)) == key
    assert encode_token(key).isascii()


@given(st.text(max_size=20))
def test_what_is_no_token_is_refused(text: str) -> None:
    try:
        last = decode_token(text)
    except S3Error:
        return
    assert encode_token(last) == text or text == ""


def test_the_prefix_that_a_marker_lies_in() -> None:
    assert rolled("", "/", "a/b/c") == "a/"
    assert rolled("a/", "/", "a/b/c") == "a/b/"
    assert rolled("a/", "/", "a/") is None
    assert rolled("x", "/", "a/b") is None
    assert rolled("", "", "a/b") is None


# ---- uploads ---------------------------------------------------------------------------------------------------------
@settings(max_examples=80, deadline=None)
@given(st.lists(st.text("ab/", min_size=1, max_size=4), max_size=10), st.sampled_from(["", "a", "a/"]),
       st.sampled_from(["", "/", "b"]), st.integers(1, 3))
def test_pages_of_uploads_are_all_of_them_once(
    shared: Harness, client: S3Client, keys: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    begin(shared, set())
    opened = [(key, client.create_multipart_upload(Bucket="b01", Key=key)["UploadId"]) for key in keys]
    uploads: list[tuple[str, str]] = []
    prefixes: list[str] = []
    query: dict[str, Any] = {"Prefix": prefix, "MaxUploads": limit, **({"Delimiter": delimiter} if delimiter else {})}
    more = True
    while more:
        page = client.list_multipart_uploads(Bucket="b01", **query)
        found = [(each["Key"], each["UploadId"]) for each in page.get("Uploads", [])]
        groups = [each["Prefix"] for each in page.get("CommonPrefixes", [])]
        assert len(found) + len(groups) <= limit
        uploads += found
        prefixes += groups
        more = page["IsTruncated"]
        query |= {"KeyMarker": page.get("NextKeyMarker", ""), "UploadIdMarker": page.get("NextUploadIdMarker", "")}
    grouped = {each for each in oracle(set(keys), prefix, delimiter) if delimiter and each[len(prefix):].endswith(delimiter)}
    assert prefixes == sorted(grouped)
    inside = [(key, id) for key, id in opened if key.startswith(prefix) and not any(key.startswith(each) for each in grouped)]
    assert uploads == sorted(inside)


def test_an_upload_in_a_listing(s3: Harness) -> None:
    client = s3.client()
    id = client.create_multipart_upload(Bucket="b01", Key="k", ChecksumAlgorithm="SHA256", StorageClass="GLACIER")["UploadId"]
    (upload,) = client.list_multipart_uploads(Bucket="b01")["Uploads"]
    assert (upload["Key"], upload["UploadId"], upload["StorageClass"]) == ("k", id, "GLACIER")
    assert (upload["ChecksumAlgorithm"], upload["ChecksumType"]) == ("SHA256", "COMPOSITE")
    assert upload["Owner"] == upload["Initiator"]


def test_markers_of_uploads(s3: Harness) -> None:
    client = s3.client()
    ids = [client.create_multipart_upload(Bucket="b01", Key=key)["UploadId"] for key in ("a", "a", "b")]
    after = client.list_multipart_uploads(Bucket="b01", KeyMarker="a", UploadIdMarker=ids[0])["Uploads"]
    assert [each["UploadId"] for each in after] == ids[1:]
    after = client.list_multipart_uploads(Bucket="b01", KeyMarker="a")["Uploads"]
    assert [each["UploadId"] for each in after] == ids[2:]
    after = client.list_multipart_uploads(Bucket="b01", UploadIdMarker=ids[2])["Uploads"]
    assert [each["UploadId"] for each in after] == ids
    assert s3.ask("GET", "/b01?uploads&key-marker=a&upload-id-marker=nonsense").code == "InvalidArgument"
    assert "Uploads" not in client.list_multipart_uploads(Bucket="b01", MaxUploads=0)
