"""minio, the Python SDK: the listing in pages of its own, and objects composed of others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, PART, SMALL, TREE, credentials, fetch, library
from tests.server import Server


@pytest.fixture(scope="module")
def minio(server: Server) -> Any:
    keys = credentials(server)
    host = server.url.removeprefix("http://")
    return library("minio").Minio(host, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], secure=False)


def read(minio: Any, store: Store, key: str, **more: int) -> bytes:
    answer = minio.get_object(store.bucket, key, **more)
    try:
        content: bytes = answer.read()
        return content
    finally:
        answer.close()
        answer.release_conn()


def test_put(minio: Any, store: Store) -> None:
    minio.put_object(store.bucket, "k", io.BytesIO(SMALL), len(SMALL), content_type="text/x-test", metadata={"colour": "green"})
    head = store.s3.head_object(Bucket=store.bucket, Key="k")
    assert (head["ContentType"], head["Metadata"]) == ("text/x-test", {"colour": "green"})
    assert store.get("k") == SMALL


def test_get_and_get_to_a_file(minio: Any, store: Store, tmp_path: Path) -> None:
    store.put("k", BIG)
    assert read(minio, store, "k") == BIG
    minio.fget_object(store.bucket, "k", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == BIG


def test_range(minio: Any, store: Store) -> None:
    store.put("k", BIG)
    assert read(minio, store, "k", offset=5, length=6) == BIG[5:11]


@pytest.mark.parametrize("version_1", [False, True], ids=["version-2", "version-1"])
def test_list_with_a_delimiter(minio: Any, store: Store, version_1: bool) -> None:
    store.put_tree()
    found = [(item.object_name, item.is_dir) for item in minio.list_objects(store.bucket, use_api_v1=version_1)]
    assert sorted(found) == [("a", False), ("dir/", True), ("z", False)]


def test_multipart_of_a_stream_of_unknown_length(minio: Any, store: Store) -> None:
    minio.put_object(store.bucket, "k", io.BytesIO(BIG), -1, part_size=PART)
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy(minio: Any, store: Store) -> None:
    store.put("from")
    minio.copy_object(store.bucket, "to", library("minio.commonconfig").CopySource(store.bucket, "from"))
    assert store.get("to") == SMALL


def test_copy_that_composes_one_object_of_two(minio: Any, store: Store) -> None:
    store.put("first", BIG)
    store.put("second")
    source = library("minio.commonconfig").ComposeSource
    minio.compose_object(store.bucket, "both", [source(store.bucket, "first"), source(store.bucket, "second")])
    assert store.get("both") == BIG + SMALL


def test_delete_of_one_and_of_many(minio: Any, store: Store) -> None:
    store.put_tree()
    minio.remove_object(store.bucket, TREE[0])
    item = library("minio.deleteobjects").DeleteObject
    assert list(minio.remove_objects(store.bucket, [item(key) for key in TREE[1:]])) == []
    assert store.listed() == []


def test_presigned_put_and_get(minio: Any, store: Store) -> None:
    fetch(minio.presigned_put_object(store.bucket, ODD["escapes"]), SMALL)
    assert store.get(ODD["escapes"]) == SMALL
    assert fetch(minio.presigned_get_object(store.bucket, ODD["escapes"])) == SMALL


@pytest.mark.parametrize("key", [ODD["escapes"], ODD["printable"], "a//b/c"], ids=ODD)
def test_odd_keys(minio: Any, store: Store, key: str) -> None:
    # It refuses keys with a segment `.` or `..` by itself.
    minio.put_object(store.bucket, key, io.BytesIO(SMALL), len(SMALL))
    assert [item.object_name for item in minio.list_objects(store.bucket, recursive=True)] == store.listed() == [key]
    assert read(minio, store, key) == SMALL
    minio.copy_object(store.bucket, "copy", library("minio.commonconfig").CopySource(store.bucket, key))
    minio.remove_object(store.bucket, key)
    assert store.listed() == ["copy"]
