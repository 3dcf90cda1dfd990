"""The AWS SDK for JavaScript, version 3: streams with checksums in trailers, and URLs with a checksum of nothing in them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, CONTROL, ODD, PART, SMALL, TREE, Tool, credentials, fetch, missing, program
from tests.server import Server

pytestmark = pytest.mark.slow

PACKAGES = ("@aws-sdk/client-s3", "@aws-sdk/lib-storage", "@aws-sdk/s3-request-presigner")
DRIVER = Path(__file__).with_name("awssdk.cjs")
Sdk = Callable[..., bytes]


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, which finds the packages where NODE_PATH says."""
    found = program("node")
    needed = "; ".join(f"require.resolve('{package}')" for package in PACKAGES)
    if subprocess.run([found, "-e", needed], capture_output=True, check=False).returncode != 0:
        missing(f"one of the npm packages {', '.join(PACKAGES)} (in a directory that NODE_PATH names)")
    return found


@pytest.fixture
def sdk(node: str, server: Server, store: Store, home: Path) -> Sdk:
    """Does one of the driver's operations in the test's bucket."""

    def do(operation: str, *, stdin: bytes = b"", **arguments: object) -> bytes:
        text = json.dumps({"Bucket": store.bucket, **arguments})
        tool = Tool([node, str(DRIVER)], home, ENDPOINT=server.url, ARGUMENTS=text, **credentials(server))
        return tool(operation, stdin=stdin)

    return do


def test_put_of_a_buffer_and_of_a_stream(sdk: Sdk, store: Store, big: Path) -> None:
    sdk("put", Key="buffer", Metadata={"colour": "green"}, stdin=SMALL)
    assert store.s3.head_object(Bucket=store.bucket, Key="buffer")["Metadata"] == {"colour": "green"}
    sdk("putStream", Key="stream", path=str(big))
    assert (store.get("buffer"), store.get("stream")) == (SMALL, BIG)


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA256"])
def test_put_with_a_checksum(sdk: Sdk, store: Store, big: Path, algorithm: str) -> None:
    sdk("putStream", Key="k", path=str(big), ChecksumAlgorithm=algorithm)
    head = store.s3.head_object(Bucket=store.bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"]  # type: ignore[literal-required]
    assert store.get("k") == BIG


def test_get(sdk: Sdk, store: Store) -> None:
    store.put("k")
    assert sdk("get", Key="k") == SMALL


def test_range(sdk: Sdk, store: Store) -> None:
    store.put("k", BIG)
    assert sdk("get", Key="k", Range="bytes=5-10") == BIG[5:11]


def test_list_with_a_delimiter_page_by_page(sdk: Sdk, store: Store) -> None:
    store.put_tree()
    assert sorted(json.loads(sdk("list", Delimiter="/"))) == ["a", "dir/", "z"]


def test_multipart_of_a_stream(sdk: Sdk, store: Store, big: Path) -> None:
    sdk("upload", Key="k", path=str(big), partSize=PART)
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy(sdk: Sdk, store: Store) -> None:
    store.put("from")
    sdk("copy", Key="to", source=f"{store.bucket}/from")
    assert store.get("to") == SMALL


def test_delete_of_one_and_of_many(sdk: Sdk, store: Store) -> None:
    store.put_tree()
    sdk("delete", Key=TREE[0])
    sdk("deleteMany", keys=TREE[1:])
    assert store.listed() == []


def test_presigned_put_and_get(sdk: Sdk, store: Store) -> None:
    fetch(json.loads(sdk("signPut", Key=ODD["escapes"])), SMALL)
    assert store.get(ODD["escapes"]) == SMALL
    assert fetch(json.loads(sdk("signGet", Key=ODD["escapes"]))) == SMALL


@pytest.mark.parametrize("key", [*ODD.values(), CONTROL], ids=[*ODD, "control"])
def test_odd_keys(sdk: Sdk, store: Store, key: str) -> None:
    sdk("put", Key=key, stdin=SMALL)
    assert store.listed() == [key]
    assert json.loads(sdk("list", EncodingType="url" if key == CONTROL else None)) != []
    assert sdk("get", Key=key) == SMALL
    sdk("copy", Key="copy", source=f"{store.bucket}/{key}")
    sdk("delete", Key=key)
    assert store.listed() == ["copy"]
