"""Listings through a running server: every form of paging, over names of every kind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MANY = 2100

TREE = sorted([
    "a", "a/1", "a/2", "a/b/1", "a/b/2", "a0", "b", "b/", "b//", "b/x", "c→d", "c→e→f", "c→e→g", "ü/1", "ü/2", "z", "🦊/1",
    "🦊/2", "\uffff",
], key=str.encode)


def fill(s3: S3Client, bucket: str, keys: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b""), keys))


@pytest.fixture(scope="module")
def tree(s3: S3Client) -> str:
    s3.create_bucket(Bucket="tree")
    fill(s3, "tree", TREE)
    return "tree"


@pytest.fixture(scope="module")
def many(s3: S3Client) -> str:
    s3.create_bucket(Bucket="many")
    fill(s3, "many", [f"{number % 50:02}/{number:05}" for number in range(MANY)])
    return "many"


def model(keys: list[str], prefix: str = "", delimiter: str = "", after: str = "") -> list[tuple[str, bool]]:
    """What a listing shall show: keys, and common prefixes marked True, in order, each once."""
    shown: list[tuple[str, bool]] = []
    for key in keys:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, False) if cut < 0 else (key[: cut + len(delimiter)], True)
        if key.encode() > after.encode() and not (entry[1] and after.startswith(entry[0])) and entry not in shown:
            shown.append(entry)
    return shown


def entries(page: Any) -> list[tuple[str, bool]]:
    keys = [(item["Key"], False) for item in page.get("Contents", [])]
    prefixes = [(item["Prefix"], True) for item in page.get("CommonPrefixes", [])]
    return sorted(keys + prefixes, key=lambda entry: entry[0].encode())


def pages_v2(s3: S3Client, bucket: str, **asked: Any) -> Iterator[Any]:
    token: dict[str, Any] = {}
    while True:
        page = s3.list_objects_v2(Bucket=bucket, **asked, **token)
        assert page["KeyCount"] == len(entries(page))
        yield page
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def pages_v1(s3: S3Client, bucket: str, **asked: Any) -> Iterator[Any]:
    marker: dict[str, Any] = {}
    while True:
        page = s3.list_objects(Bucket=bucket, **asked, **marker)
        yield page
        if not page["IsTruncated"]:
            return
        # Without a delimiter the marker of the next page is the last key.
        marker = {"Marker": page["NextMarker"] if "NextMarker" in page else page["Contents"][-1]["Key"]}


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "b/", "c→", "ü", "🦊/", "nothing"])
@pytest.mark.parametrize("delimiter", ["", "/", "//", "→", "→e→", "1", "🦊/"])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_prefixes_and_delimiters_of_any_kind(s3: S3Client, tree: str, prefix: str, delimiter: str, size: int) -> None:
    expected = model(TREE, prefix, delimiter)
    for pages in (pages_v1, pages_v2):
        found = [entries(page) for page in pages(s3, tree, Prefix=prefix, Delimiter=delimiter, MaxKeys=size)]
        assert list(itertools.chain.from_iterable(found)) == expected
        assert all(len(page) == size for page in found[:-1])


@pytest.mark.parametrize("after", ["a", "a/", "a/1", "a/b/", "b", "c→e→", "zz", "🦊", "%"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_listings_start_after_any_string(s3: S3Client, tree: str, after: str, delimiter: str) -> None:
    expected = model(TREE, delimiter=delimiter, after=after)
    assert entries(s3.list_objects_v2(Bucket=tree, Delimiter=delimiter, StartAfter=after)) == expected
    assert entries(s3.list_objects(Bucket=tree, Delimiter=delimiter, Marker=after)) == expected


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 5000])
def test_every_page_size_shows_every_key_once(s3: S3Client, many: str, size: int) -> None:
    if size < 2:
        page = s3.list_objects_v2(Bucket=many, MaxKeys=size)
        assert (page["KeyCount"], page["IsTruncated"]) == (size, bool(size))
        return
    expected = sorted(f"{number % 50:02}/{number:05}" for number in range(MANY))
    for pages in (pages_v1, pages_v2):
        found = [[item["Key"] for item in page["Contents"]] for page in pages(s3, many, MaxKeys=size)]
        assert list(itertools.chain.from_iterable(found)) == expected
        assert {len(page) for page in found[:-1]} == {min(size, 1000)}


def test_prefixes_over_many_keys_page_once_each(s3: S3Client, many: str) -> None:
    found = [entries(page) for page in pages_v2(s3, many, Delimiter="/", MaxKeys=7)]
    assert list(itertools.chain.from_iterable(found)) == [(f"{number:02}/", True) for number in range(50)]


def test_paging_is_exact_under_writes_at_the_same_time(s3: S3Client, many: str) -> None:
    """Keys that are there all the time appear exactly once, whatever comes and goes between them."""
    stable = sorted(f"{number % 50:02}/{number:05}" for number in range(MANY))
    done = threading.Event()

    def disturb(number: int) -> None:
        for round in itertools.count():
            if done.is_set():
                return
            key = f"{(round * 7) % 50:02}/{round:05}-{number}"
            s3.put_object(Bucket=many, Key=key, Body=b"")
            s3.delete_object(Bucket=many, Key=key)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(disturb, number) for number in range(3)]
        try:
            for size in (100, 333, 1000):
                found = [item["Key"] for page in pages_v2(s3, many, MaxKeys=size) for item in page["Contents"]]
                assert found == sorted(set(found))
                assert [key for key in found if "-" not in key] == stable
        finally:
            done.set()
        for one in running:
            one.result()


def test_names_that_xml_cannot_hold_are_listed_url_encoded(s3: S3Client, bucket: str) -> None:
    keys = ["\x01/x", "a b", "a+b", "%", "\n"]
    fill(s3, bucket, keys)
    raw = s3.list_objects_v2(Bucket=bucket, EncodingType="url")
    assert [item["Key"] for item in raw["Contents"]] == ["%01/x", "%0A", "%25", "a+b", "a%2Bb"]
    # Without being asked, boto3 asks for the encoding and takes it away again.
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == sorted(keys)


def test_the_owner_is_told_when_asked_for(s3: S3Client, tree: str) -> None:
    assert "Owner" not in s3.list_objects_v2(Bucket=tree)["Contents"][0]
    owner = s3.list_objects_v2(Bucket=tree, FetchOwner=True)["Contents"][0]["Owner"]["ID"]
    assert s3.list_objects(Bucket=tree)["Contents"][0]["Owner"]["ID"] == owner
    assert s3.list_buckets()["Owner"]["ID"] == owner


@pytest.mark.parametrize("asked", [{"MaxKeys": -1}, {"ContinuationToken": "no token"}])
def test_senseless_questions_are_refused(s3: S3Client, tree: str, asked: Any) -> None:
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket=tree, **asked)
    assert error.value.response["Error"]["Code"] == "InvalidArgument"


def test_a_listing_of_no_bucket_is_404(s3: S3Client) -> None:
    for call in (s3.list_objects, s3.list_objects_v2, s3.list_multipart_uploads):
        with pytest.raises(ClientError) as error:
            call(Bucket="no-such-bucket")
        assert error.value.response["Error"]["Code"] == "NoSuchBucket"


# ---- uploads and parts -----------------------------------------------------------------------------------------------
def test_uploads_page_once_each(s3: S3Client, bucket: str) -> None:
    names = ["b", "a/1", "b", "a/2", "ü", "a/1", "b"]
    made = [(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in names]
    expected = sorted(made, key=lambda upload: (upload[0].encode(), made.index(upload)))
    for size in (1, 2, 1000):
        found: list[tuple[str, str]] = []
        marker: dict[str, Any] = {}
        while True:
            page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=size, **marker)
            found += [(item["Key"], item["UploadId"]) for item in page.get("Uploads", [])]
            if not page["IsTruncated"]:
                break
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        assert found == expected
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [item["Prefix"] for item in page["CommonPrefixes"]] == ["a/"]
    assert [item["Key"] for item in page["Uploads"]] == ["b", "b", "b", "ü"]
    assert [item["Key"] for item in s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")["Uploads"]] == ["a/1", "a/1", "a/2"]
    for key, upload in made:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_parts_page_once_each(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    numbers = [7, 1, 10_000, 3, 22]
    etags = {n: s3.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=n, Body=bytes(n))["ETag"] for n in numbers}
    for size in (1, 2, 1000):
        found: list[tuple[int, int, str]] = []
        marker: dict[str, Any] = {}
        while True:
            page = s3.list_parts(Bucket=bucket, Key="key", UploadId=upload, MaxParts=size, **marker)
            found += [(part["PartNumber"], part["Size"], part["ETag"]) for part in page.get("Parts", [])]
            if not page["IsTruncated"]:
                break
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}
        assert found == [(number, number, etags[number]) for number in sorted(numbers)]
    s3.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)
