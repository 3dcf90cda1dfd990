"""s3cmd, whose signed URLs are of Signature Version 2 and which compares MD5s with ETags."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, PART, SMALL, TREE, Tool, credentials, fetch, program
from tests.server import Server


@pytest.fixture(scope="module")
def s3cmd(server: Server, home: Path) -> Tool:
    host = server.url.removeprefix("http://")
    config = home / "s3cfg"
    keys = credentials(server)
    config.write_text(
        f"[default]\naccess_key = {keys['AWS_ACCESS_KEY_ID']}\nsecret_key = {keys['AWS_SECRET_ACCESS_KEY']}\n"
        f"host_base = {host}\nhost_bucket = {host}\nuse_https = False\n"
    )
    return Tool([program("s3cmd"), "-c", str(config), "--no-progress"], home)


def test_put(s3cmd: Tool, store: Store, small: Path) -> None:
    s3cmd("put", small, f"s3://{store.bucket}/k")
    assert store.get("k") == SMALL


def test_get(s3cmd: Tool, store: Store, home: Path) -> None:
    store.put("k", BIG)
    s3cmd("get", f"s3://{store.bucket}/k", home / "got")
    assert (home / "got").read_bytes() == BIG


def test_range_to_continue_a_download(s3cmd: Tool, store: Store, home: Path) -> None:
    store.put("k", BIG)
    (home / "half").write_bytes(BIG[:PART])
    s3cmd("get", "--continue", f"s3://{store.bucket}/k", home / "half")
    assert (home / "half").read_bytes() == BIG


def test_list_of_a_directory(s3cmd: Tool, store: Store) -> None:
    store.put_tree()
    lines = s3cmd("ls", f"s3://{store.bucket}/").decode().splitlines()
    root = f"s3://{store.bucket}/"
    assert sorted(line.split()[-2:] for line in lines) == [["1000", root + "a"], ["1000", root + "z"], ["DIR", root + "dir/"]]


def test_multipart(s3cmd: Tool, store: Store, big: Path) -> None:
    s3cmd("put", "--multipart-chunk-size-mb=5", big, f"s3://{store.bucket}/k")
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy(s3cmd: Tool, store: Store) -> None:
    store.put("from", BIG)
    s3cmd("cp", f"s3://{store.bucket}/from", f"s3://{store.bucket}/to")
    assert store.get("to") == BIG


def test_delete_of_one_and_of_a_tree(s3cmd: Tool, store: Store) -> None:
    store.put_tree()
    s3cmd("del", f"s3://{store.bucket}/a")
    s3cmd("del", "--recursive", f"s3://{store.bucket}/dir/")
    assert store.listed() == ["z"]


def test_presigned(s3cmd: Tool, store: Store) -> None:
    store.put(ODD["escapes"])
    assert fetch(s3cmd("signurl", f"s3://{store.bucket}/{ODD['escapes']}", "+600").decode().strip()) == SMALL


@pytest.mark.parametrize("key", ODD.values(), ids=ODD)
def test_odd_keys(s3cmd: Tool, store: Store, small: Path, home: Path, key: str) -> None:
    name = f"s3://{store.bucket}/{key}"
    s3cmd("put", small, name)
    assert store.listed() == [key]
    assert name in s3cmd("ls", "-r", f"s3://{store.bucket}").decode()
    s3cmd("get", "--force", name, home / "got")
    assert (home / "got").read_bytes() == SMALL
    if "*" in key:
        return  # In a copy or a deletion it takes that for a pattern.
    s3cmd("cp", name, f"s3://{store.bucket}/copy")
    s3cmd("del", name)
    assert store.listed() == ["copy"]


def test_sync_moves_nothing_the_second_time(s3cmd: Tool, store: Store, home: Path) -> None:
    for key in TREE:
        path = home / "tree" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
    (home / "tree" / "big").write_bytes(BIG)
    s3cmd("sync", "tree/", f"s3://{store.bucket}/")
    assert sorted(store.listed()) == sorted([*TREE, "big"])
    assert b"upload" not in s3cmd("sync", "tree/", f"s3://{store.bucket}/")
    s3cmd("sync", f"s3://{store.bucket}/", "back/")
    assert (home / "back" / "big").read_bytes() == BIG
