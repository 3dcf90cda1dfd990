"""curl, which signs by itself. Versions before 8 leave x-amz-content-sha256, which S3 demands, to the user."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, CONTROL, ODD, PART, SMALL, TREE, Tool, credentials, program
from tests.server import Server


@pytest.fixture(scope="module")
def curl(server: Server, home: Path) -> Tool:
    keys = credentials(server)
    user = f"{keys['AWS_ACCESS_KEY_ID']}:{keys['AWS_SECRET_ACCESS_KEY']}"
    common = ["--disable", "--silent", "--show-error", "--fail-with-body", "--path-as-is"]
    signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", user, "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    return Tool([program("curl"), *common, *signing], home)


@pytest.fixture
def url(server: Server, store: Store) -> Callable[[str], str]:
    return lambda key: f"{server.url}/{store.bucket}/{quote(key)}"


def test_put_of_a_file_and_of_a_stream(curl: Tool, store: Store, url: Callable[[str], str], small: Path) -> None:
    curl("--upload-file", small, url("file"))
    curl("--upload-file", "-", url("stream"), stdin=SMALL)
    assert store.get("file") == store.get("stream") == SMALL


def test_get(curl: Tool, store: Store, url: Callable[[str], str]) -> None:
    store.put("k", BIG)
    assert curl(url("k")) == BIG


@pytest.mark.parametrize(("span", "expected"), [("5-10", BIG[5:11]), ("-7", BIG[-7:])], ids=["both", "last"])
def test_range(curl: Tool, store: Store, url: Callable[[str], str], span: str, expected: bytes) -> None:
    store.put("k", BIG)
    assert curl("--range", span, url("k")) == expected


def test_list_with_a_delimiter(curl: Tool, store: Store, server: Server) -> None:
    store.put_tree()
    page = curl(f"{server.url}/{store.bucket}?delimiter=%2F&list-type=2").decode()
    assert re.findall("<Key>(.*?)</Key>", page) == ["a", "z"]
    assert re.findall("<CommonPrefixes><Prefix>(.*?)</Prefix>", page) == ["dir/"]


def test_multipart(curl: Tool, store: Store, url: Callable[[str], str]) -> None:
    found = re.search("<UploadId>(.*)</UploadId>", curl("--request", "POST", url("k") + "?uploads=").decode())
    assert found is not None
    parts = ""
    for number, start in enumerate(range(0, len(BIG), PART), 1):
        place = f"{url('k')}?partNumber={number}&uploadId={found[1]}"
        head = curl("--dump-header", "-", "--upload-file", "-", place, stdin=BIG[start : start + PART]).decode()
        etag = re.search('(?i)^etag: "(.*)"', head, re.MULTILINE)
        assert etag is not None
        parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag[1]}</ETag></Part>"
    whole = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    curl("--data", whole, "--header", "Content-Type: application/xml", f"{url('k')}?uploadId={found[1]}")
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy(curl: Tool, store: Store, url: Callable[[str], str]) -> None:
    store.put("from")
    curl("--request", "PUT", "--header", f"x-amz-copy-source: /{store.bucket}/from", url("to"))
    assert store.get("to") == SMALL


def test_delete(curl: Tool, store: Store, url: Callable[[str], str]) -> None:
    store.put_tree()
    curl("--request", "DELETE", url("dir/x"))
    assert store.listed() == [key for key in TREE if key != "dir/x"]


def test_presigned_by_somebody_else(store: Store, home: Path) -> None:
    store.put(ODD["escapes"])
    url = store.s3.generate_presigned_url("get_object", Params={"Bucket": store.bucket, "Key": ODD["escapes"]})
    assert Tool([program("curl"), "--disable", "--silent", "--fail", "--path-as-is"], home)(url) == SMALL


@pytest.mark.parametrize("key", [*ODD.values(), CONTROL], ids=[*ODD, "control"])
def test_odd_keys(curl: Tool, store: Store, url: Callable[[str], str], small: Path, key: str) -> None:
    curl("--upload-file", small, url(key))
    assert store.listed() == [key]
    assert curl(url(key)) == SMALL
    curl("--request", "DELETE", url(key))
    assert store.listed() == []
