"""The AWS CLI: `aws s3`, and `aws s3api` for what it lacks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, SMALL, TREE, Tool, credentials, fetch, program
from tests.server import Server


@pytest.fixture(scope="module")
def aws(server: Server, home: Path) -> Tool:
    return Tool([program("aws"), "--endpoint-url", server.url], home, **credentials(server))


def test_put_from_standard_input(aws: Tool, store: Store) -> None:
    aws("s3", "cp", "-", f"s3://{store.bucket}/k", stdin=SMALL)
    assert store.get("k") == SMALL


def test_get_to_standard_output(aws: Tool, store: Store) -> None:
    store.put("k", BIG)
    assert aws("s3", "cp", f"s3://{store.bucket}/k", "-") == BIG


def test_range(aws: Tool, store: Store, tmp_path: Path) -> None:
    store.put("k", BIG)
    aws("s3api", "get-object", "--bucket", store.bucket, "--key", "k", "--range", "bytes=5-10", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BIG[5:11]


def test_list_of_a_directory(aws: Tool, store: Store) -> None:
    store.put_tree()
    lines = aws("s3", "ls", f"s3://{store.bucket}/").decode().splitlines()
    assert [line.split()[-2:] for line in lines] == [["PRE", "dir/"], ["1000", "a"], ["1000", "z"]]


def test_multipart(aws: Tool, store: Store, big: Path) -> None:
    aws("s3", "cp", "--no-progress", big, f"s3://{store.bucket}/k")
    assert (store.parts("k"), store.get("k")) == (2, BIG)


@pytest.mark.parametrize("content", [SMALL, BIG], ids=["at-once", "in-parts"])
def test_copy(aws: Tool, store: Store, content: bytes) -> None:
    store.put("from", content)
    aws("s3", "cp", f"s3://{store.bucket}/from", f"s3://{store.bucket}/to")
    assert store.get("to") == content


def test_delete_of_a_tree(aws: Tool, store: Store) -> None:
    store.put_tree()
    aws("s3", "rm", "--recursive", f"s3://{store.bucket}/dir")
    assert store.listed() == ["a", "z"]


def test_presigned(aws: Tool, store: Store) -> None:
    store.put(ODD["escapes"])
    assert fetch(aws("s3", "presign", f"s3://{store.bucket}/{ODD['escapes']}").decode().strip()) == SMALL


def test_odd_keys(aws: Tool, store: Store) -> None:
    for key in ODD.values():
        aws("s3", "cp", "-", f"s3://{store.bucket}/{key}", stdin=key.encode())
    assert store.listed() == sorted(ODD.values(), key=str.encode)
    listed = aws("s3", "ls", "--recursive", f"s3://{store.bucket}").decode().splitlines()
    assert [line[len("2000-01-01 00:00:00 1234567890 ") :] for line in listed] == store.listed()
    for key in ODD.values():
        assert aws("s3", "cp", f"s3://{store.bucket}/{key}", "-") == key.encode()


def test_sync_there_changes_nothing_the_second_time_and_back_brings_all(aws: Tool, store: Store, home: Path) -> None:
    for key in TREE:
        path = home / "tree" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
        # It compares times, and S3's are cut to seconds: what is put in the second it was written in seems older.
        os.utime(path, (time.time() - 10,) * 2)
    assert aws("s3", "sync", "tree", f"s3://{store.bucket}").count(b"upload: ") == len(TREE)
    assert aws("s3", "sync", "tree", f"s3://{store.bucket}") == b""
    aws("s3", "sync", f"s3://{store.bucket}", "back")
    assert [(home / "back" / key).read_bytes() for key in TREE] == [key.encode() for key in TREE]
