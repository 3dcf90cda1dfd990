"""deltalake: tables whose every commit is a PUT that must not replace; the lists of files are read from the log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import MIB, ODD, credentials, library
from tests.server import Server

pytestmark = pytest.mark.slow

ROWS = 1000
WRITERS = 6


@pytest.fixture
def options(server: Server) -> dict[str, str]:
    return {**credentials(server), "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}


@pytest.fixture
def rows() -> Any:
    return library("pyarrow").table({"number": range(ROWS)})


def table(store: Store, options: dict[str, str], name: str = "table") -> Any:
    return library("deltalake").DeltaTable(f"s3://{store.bucket}/{name}", storage_options=options)


def write(store: Store, options: dict[str, str], rows: Any, name: str = "table", **more: Any) -> None:
    library("deltalake").write_deltalake(f"s3://{store.bucket}/{name}", rows, storage_options=options, **more)


def test_put_and_get(store: Store, options: dict[str, str], rows: Any) -> None:
    write(store, options, rows)
    assert "table/_delta_log/00000000000000000000.json" in store.listed()
    assert table(store, options).to_pyarrow_table().equals(rows)


def test_put_by_many_at_once_loses_no_commit(store: Store, options: dict[str, str], rows: Any) -> None:
    write(store, options, rows)
    with ThreadPoolExecutor(WRITERS) as pool:
        for done in [pool.submit(write, store, options, rows, mode="append") for _ in range(2 * WRITERS)]:
            done.result()
    found = table(store, options)
    assert found.version() == 2 * WRITERS
    assert found.to_pyarrow_table().num_rows == (1 + 2 * WRITERS) * ROWS


def test_get_of_an_earlier_version(store: Store, options: dict[str, str], rows: Any) -> None:
    write(store, options, rows)
    write(store, options, rows, mode="append")
    found = table(store, options)
    found.load_as_version(0)
    assert found.to_pyarrow_table().num_rows == ROWS


def test_list_of_the_log_after_a_checkpoint(store: Store, options: dict[str, str], rows: Any) -> None:
    for _ in range(3):
        write(store, options, rows, mode="append")
    table(store, options).create_checkpoint()
    write(store, options, rows, mode="append")
    assert table(store, options).version() == 3


def test_delete_by_vacuum_after_compaction(store: Store, options: dict[str, str], rows: Any) -> None:
    for _ in range(3):
        write(store, options, rows, mode="append")
    found = table(store, options)
    found.optimize.compact()
    removed = found.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert len(removed) == 3
    assert len([key for key in store.listed() if key.endswith(".parquet")]) == 1
    assert table(store, options).to_pyarrow_table().num_rows == 3 * ROWS


def test_range_and_multipart_of_a_large_file(store: Store, options: dict[str, str]) -> None:
    arrow, random = library("pyarrow"), library("random").Random(4)
    rows = arrow.table({"number": range(ROWS), "bytes": [random.randbytes(20 * MIB // ROWS) for _ in range(ROWS)]})
    write(store, options, rows)
    (file,) = [key for key in store.listed() if key.endswith(".parquet")]
    assert store.parts(file) >= 2
    found = table(store, options)
    assert found.to_pyarrow_table(columns=["number"]).equals(rows.select(["number"]))
    assert found.to_pyarrow_table().equals(rows)


def test_odd_keys_of_partitions(store: Store, options: dict[str, str]) -> None:
    values = [value for value in ODD.values() if "//" not in value]
    rows = library("pyarrow").table({"number": range(len(values)), "part": values})
    write(store, options, rows, partition_by=["part"])
    assert table(store, options).to_pyarrow_table().sort_by("number").equals(rows)
