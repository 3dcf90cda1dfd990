"""pyarrow's own S3 file system: the AWS SDK for C++."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, SMALL, credentials, library
from tests.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def fs(server: Server) -> Any:
    keys = credentials(server)
    return library("pyarrow.fs").S3FileSystem(
        access_key=keys["AWS_ACCESS_KEY_ID"], secret_key=keys["AWS_SECRET_ACCESS_KEY"], region="us-east-1",
        endpoint_override=server.url.removeprefix("http://"), scheme="http",
    )


def write(fs: Any, name: str, content: bytes) -> None:
    with fs.open_output_stream(name) as file:
        file.write(content)


def read(fs: Any, name: str) -> bytes:
    with fs.open_input_stream(name) as file:
        content: bytes = file.read()
        return content


def test_put(fs: Any, store: Store) -> None:
    write(fs, f"{store.bucket}/k", SMALL)
    assert store.get("k") == SMALL


def test_put_and_get_of_a_partitioned_dataset(fs: Any, store: Store) -> None:
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet")
    table = arrow.table({"number": range(10_000), "third": [number % 3 for number in range(10_000)]})
    parquet.write_to_dataset(table, f"{store.bucket}/set", partition_cols=["third"], filesystem=fs)
    assert [key for key in store.listed() if key.endswith(".parquet")] != []
    found = parquet.read_table(f"{store.bucket}/set", filesystem=fs)
    assert sorted(found["number"].to_pylist()) == list(range(10_000))


def test_get(fs: Any, store: Store) -> None:
    store.put("k", BIG)
    assert read(fs, f"{store.bucket}/k") == BIG


def test_range(fs: Any, store: Store) -> None:
    store.put("k", BIG)
    with fs.open_input_file(f"{store.bucket}/k") as file:
        assert file.read_at(6, 5) == BIG[5:11]


def test_list_of_a_directory(fs: Any, store: Store) -> None:
    store.put_tree()
    found = fs.get_file_info(library("pyarrow.fs").FileSelector(store.bucket))
    assert sorted((item.base_name, item.is_file) for item in found) == [("a", True), ("dir", False), ("z", True)]


def test_multipart(fs: Any, store: Store) -> None:
    write(fs, f"{store.bucket}/k", BIG)
    assert (store.parts("k") >= 1, store.get("k")) == (True, BIG)


def test_copy_and_move(fs: Any, store: Store) -> None:
    store.put("from", BIG)
    fs.copy_file(f"{store.bucket}/from", f"{store.bucket}/to")
    fs.move(f"{store.bucket}/to", f"{store.bucket}/moved")
    assert (store.get("moved"), store.listed()) == (BIG, ["from", "moved"])


def test_delete_of_a_file_and_of_a_directory(fs: Any, store: Store) -> None:
    store.put_tree()
    fs.delete_file(f"{store.bucket}/a")
    fs.delete_dir(f"{store.bucket}/dir")
    assert store.listed() == ["z"]


@pytest.mark.parametrize("name", ["escapes", "printable"])
def test_odd_keys(fs: Any, store: Store, name: str) -> None:
    # It refuses keys with an empty segment by itself.
    key = ODD[name].replace("//", "/")
    write(fs, f"{store.bucket}/{key}", SMALL)
    selector = library("pyarrow.fs").FileSelector(store.bucket, recursive=True)
    assert [item.path for item in fs.get_file_info(selector) if item.is_file] == [f"{store.bucket}/{key}"]
    assert store.listed() == [key]
    assert read(fs, f"{store.bucket}/{key}") == SMALL
