"""s5cmd: the AWS SDK for Go, version 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, SMALL, Tool, credentials, fetch, program
from tests.server import Server


@pytest.fixture(scope="module")
def s5cmd(server: Server, home: Path) -> Tool:
    return Tool([program("s5cmd"), "--endpoint-url", server.url], home, **credentials(server))


def test_put_and_put_from_standard_input(s5cmd: Tool, store: Store, small: Path) -> None:
    s5cmd("cp", small, f"s3://{store.bucket}/file")
    s5cmd("pipe", f"s3://{store.bucket}/stream", stdin=SMALL)
    assert store.get("file") == store.get("stream") == SMALL


def test_get_to_standard_output(s5cmd: Tool, store: Store) -> None:
    store.put("k")
    assert s5cmd("cat", f"s3://{store.bucket}/k") == SMALL


def test_range_by_range_of_a_large_file(s5cmd: Tool, store: Store, home: Path) -> None:
    store.put("k", BIG)
    s5cmd("cp", "--part-size", "5", f"s3://{store.bucket}/k", home / "got")
    assert (home / "got").read_bytes() == BIG


def test_list_of_a_directory(s5cmd: Tool, store: Store) -> None:
    store.put_tree()
    lines = s5cmd("ls", f"s3://{store.bucket}/").decode().splitlines()
    assert sorted(line.split()[-2:] for line in lines) == [["1000", "a"], ["1000", "z"], ["DIR", "dir/"]]


def test_multipart(s5cmd: Tool, store: Store, big: Path) -> None:
    s5cmd("cp", "--part-size", "5", big, f"s3://{store.bucket}/k")
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy(s5cmd: Tool, store: Store) -> None:
    store.put("from")
    s5cmd("cp", f"s3://{store.bucket}/from", f"s3://{store.bucket}/to")
    assert store.get("to") == SMALL


def test_delete_of_all_that_match(s5cmd: Tool, store: Store) -> None:
    store.put_tree()
    s5cmd("rm", f"s3://{store.bucket}/dir/*")
    assert store.listed() == ["a", "z"]


def test_presigned(s5cmd: Tool, store: Store) -> None:
    store.put(ODD["escapes"])
    assert fetch(s5cmd("presign", f"s3://{store.bucket}/{ODD['escapes']}").decode().strip()) == SMALL


@pytest.mark.parametrize("key", ODD.values(), ids=ODD)
def test_odd_keys(s5cmd: Tool, store: Store, small: Path, key: str) -> None:
    name = f"s3://{store.bucket}/{key}"
    s5cmd("cp", "--raw", small, name)
    assert store.listed() == [key]
    assert key in s5cmd("ls", f"s3://{store.bucket}/*").decode()
    s5cmd("cp", "--raw", name, f"s3://{store.bucket}/copy")
    assert store.get("copy") == SMALL
    s5cmd("rm", "--raw", name)
    assert store.listed() == ["copy"]
