"""s3fs: S3 as an fsspec file system, which is how pandas, dask and many others reach it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, CONTROL, MIB, ODD, PART, SMALL, credentials, fetch, library
from tests.server import Server

pytestmark = pytest.mark.slow  # Its dependencies hold botocore back, and pip is long about it.


@pytest.fixture
def fs(server: Server) -> Any:
    keys = credentials(server)
    return library("s3fs").S3FileSystem(
        key=keys["AWS_ACCESS_KEY_ID"], secret=keys["AWS_SECRET_ACCESS_KEY"], endpoint_url=server.url,
        use_listings_cache=False, skip_instance_cache=True,
    )


def test_put(fs: Any, store: Store) -> None:
    fs.pipe(f"{store.bucket}/k", SMALL)
    assert store.get("k") == SMALL


def test_put_that_must_not_replace(fs: Any, store: Store) -> None:
    fs.pipe_file(f"{store.bucket}/k", SMALL, mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{store.bucket}/k", b"other", mode="create")
    assert store.get("k") == SMALL


def test_get(fs: Any, store: Store) -> None:
    store.put("k", BIG)
    assert fs.cat(f"{store.bucket}/k") == BIG


def test_range_by_offsets_and_by_seeking(fs: Any, store: Store) -> None:
    store.put("k", BIG)
    assert fs.cat_file(f"{store.bucket}/k", start=5, end=11) == BIG[5:11]
    with fs.open(f"{store.bucket}/k") as file:
        file.seek(-7, 2)
        assert file.read() == BIG[-7:]


def test_list_of_a_directory_and_of_a_tree(fs: Any, store: Store) -> None:
    store.put_tree()
    root = store.bucket + "/"
    assert sorted(fs.ls(root)) == [root + "a", root + "dir", root + "z"]
    assert sorted(fs.find(root)) == [root + "a", root + "dir/x", root + "dir/y", root + "z"]


def test_multipart_by_a_file_that_is_written_and_appended_to(fs: Any, store: Store) -> None:
    with fs.open(f"{store.bucket}/k", "wb", block_size=PART) as file:
        for start in range(0, len(BIG), MIB):
            file.write(BIG[start : start + MIB])
    assert (store.parts("k"), store.get("k")) == (3, BIG)
    with fs.open(f"{store.bucket}/k", "ab", block_size=PART) as file:
        file.write(SMALL)
    assert store.get("k") == BIG + SMALL


def test_copy_and_move(fs: Any, store: Store) -> None:
    store.put("from", BIG)
    fs.copy(f"{store.bucket}/from", f"{store.bucket}/to")
    fs.mv(f"{store.bucket}/to", f"{store.bucket}/moved")
    assert (store.get("moved"), store.listed()) == (BIG, ["from", "moved"])


def test_delete_of_a_directory_and_of_a_bucket(fs: Any, store: Store) -> None:
    store.put_tree()
    fs.rm(f"{store.bucket}/dir", recursive=True)
    assert store.listed() == ["a", "z"]
    fs.rm(store.bucket, recursive=True)
    assert store.bucket not in [found["Name"] for found in store.s3.list_buckets()["Buckets"]]


def test_presigned(fs: Any, store: Store) -> None:
    store.put(ODD["escapes"])
    assert fetch(fs.sign(f"{store.bucket}/{ODD['escapes']}")) == SMALL


@pytest.mark.parametrize("key", [*ODD.values(), CONTROL], ids=[*ODD, "control"])
def test_odd_keys(fs: Any, store: Store, key: str) -> None:
    name = f"{store.bucket}/{key}"
    fs.pipe_file(name, SMALL)
    assert store.listed() == [key]
    assert fs.cat_file(name) == SMALL
    fs.rm_file(name)
    assert store.listed() == []
