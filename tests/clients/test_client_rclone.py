"""rclone: the AWS SDK for Go, version 2; it compares MD5s with ETags and keeps times in the metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, SMALL, TREE, Tool, credentials, fetch, program
from tests.server import Server


@pytest.fixture(scope="module")
def rclone(server: Server, home: Path) -> Tool:
    (home / "rclone.conf").touch()
    remote = {
        "RCLONE_CONFIG": str(home / "rclone.conf"),
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENV_AUTH": "true",
        "RCLONE_CONFIG_S3_ENDPOINT": server.url,
    }
    return Tool([program("rclone")], home, **remote, **credentials(server))


def make_tree(home: Path) -> None:
    for key in TREE:
        path = home / "tree" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())


def test_put_and_put_from_standard_input(rclone: Tool, store: Store, small: Path) -> None:
    rclone("copyto", small, f"s3:{store.bucket}/file")
    rclone("rcat", f"s3:{store.bucket}/stream", stdin=SMALL)
    assert store.get("file") == store.get("stream") == SMALL


def test_get(rclone: Tool, store: Store) -> None:
    store.put("k", BIG)
    assert rclone("cat", f"s3:{store.bucket}/k") == BIG


def test_range(rclone: Tool, store: Store) -> None:
    store.put("k", BIG)
    assert rclone("cat", "--offset", "5", "--count", "6", f"s3:{store.bucket}/k") == BIG[5:11]


def test_list_of_a_directory(rclone: Tool, store: Store) -> None:
    store.put_tree()
    assert sorted(rclone("lsf", f"s3:{store.bucket}").decode().split()) == ["a", "dir/", "z"]


def test_multipart(rclone: Tool, store: Store, big: Path) -> None:
    rclone("copyto", "--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi", big, f"s3:{store.bucket}/k")
    assert (store.parts("k"), store.get("k")) == (3, BIG)


@pytest.mark.parametrize("cutoff", ["5Gi", "5Mi"], ids=["at-once", "in-parts"])
def test_copy_by_the_server(rclone: Tool, store: Store, cutoff: str) -> None:
    store.put("from", BIG)
    rclone("copyto", "--s3-copy-cutoff", cutoff, f"s3:{store.bucket}/from", f"s3:{store.bucket}/to")
    assert store.get("to") == BIG


def test_delete_of_a_file_and_of_a_bucket(rclone: Tool, store: Store) -> None:
    store.put_tree()
    rclone("deletefile", f"s3:{store.bucket}/a")
    assert store.listed() == ["dir/x", "dir/y", "z"]
    rclone("purge", f"s3:{store.bucket}")
    assert store.bucket not in [found["Name"] for found in store.s3.list_buckets()["Buckets"]]


def test_presigned(rclone: Tool, store: Store) -> None:
    store.put(ODD["escapes"])
    assert fetch(rclone("link", f"s3:{store.bucket}/{ODD['escapes']}").decode().strip()) == SMALL


@pytest.mark.parametrize("name", ["escapes", "printable"])
def test_odd_keys(rclone: Tool, store: Store, small: Path, name: str) -> None:
    # rclone takes a key for a path: what is between two slashes needs a name, and `..` goes up.
    key = ODD[name].replace("//", "/")
    rclone("copyto", small, f"s3:{store.bucket}/{key}")
    assert store.listed() == [key]
    assert rclone("lsf", "-R", "--files-only", f"s3:{store.bucket}").decode() == key + "\n"
    assert rclone("cat", f"s3:{store.bucket}/{key}") == SMALL
    rclone("copyto", f"s3:{store.bucket}/{key}", f"s3:{store.bucket}/copy")
    rclone("deletefile", f"s3:{store.bucket}/{key}")
    assert store.listed() == ["copy"]


def test_sync_moves_nothing_the_second_time_and_check_agrees(rclone: Tool, store: Store, home: Path) -> None:
    make_tree(home)
    rclone("sync", "tree", f"s3:{store.bucket}")
    assert sorted(store.listed()) == sorted(TREE)
    dates = [item["LastModified"] for item in store.s3.list_objects_v2(Bucket=store.bucket)["Contents"]]
    rclone("sync", "tree", f"s3:{store.bucket}")
    assert [item["LastModified"] for item in store.s3.list_objects_v2(Bucket=store.bucket)["Contents"]] == dates
    rclone("check", "tree", f"s3:{store.bucket}")
    rclone("check", "--download", "tree", f"s3:{store.bucket}")


def test_an_etag_that_is_no_md5_is_not_taken_for_one(rclone: Tool, store: Store, big: Path) -> None:
    # A single PUT of more than a stripe: rclone finds the MD5 that it keeps in the metadata, or none, never a wrong one.
    rclone("copyto", "--s3-upload-cutoff", "100Mi", big, f"s3:{store.bucket}/big")
    rclone("check", big.parent, f"s3:{store.bucket}")
    store.put("other", BIG)
    listed = {item["Path"]: item for item in json.loads(rclone("lsjson", "--hash", f"s3:{store.bucket}"))}
    assert listed["big"]["Hashes"]["md5"]
    assert not listed["other"].get("Hashes", {}).get("md5")
