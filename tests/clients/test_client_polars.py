"""polars: Parquet and CSV by its own copy of Rust's object_store."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import ODD, PART, credentials, library
from tests.server import Server

pytestmark = pytest.mark.slow

ROWS = 200_000


@pytest.fixture(scope="module")
def pl() -> Iterator[Any]:
    """With parts of the least size: otherwise they are of 64 MiB. It reads that once, when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLARS_UPLOAD_CHUNK_SIZE", str(PART))
        yield library("polars")


@pytest.fixture
def options(server: Server) -> dict[str, dict[str, str]]:
    keys = credentials(server)
    return {
        "storage_options": {
            "aws_access_key_id": keys["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": keys["AWS_SECRET_ACCESS_KEY"],
            "aws_region": "us-east-1",
            "aws_endpoint_url": server.url,
            "aws_allow_http": "true",
        }
    }


@pytest.fixture(scope="module")
def frame(pl: Any) -> Any:
    return pl.DataFrame({"number": range(ROWS), "text": [f"{number:x}" * 5 for number in range(ROWS)]})


def put(store: Store, key: str, frame: Any) -> None:
    content = io.BytesIO()
    frame.write_parquet(content)
    store.put(key, content.getvalue())


def test_put_of_parquet_and_csv(pl: Any, store: Store, frame: Any, options: Any) -> None:
    frame.write_parquet(f"s3://{store.bucket}/p", **options)
    frame.write_csv(f"s3://{store.bucket}/c", **options)
    assert pl.read_parquet(store.get("p")).equals(frame)
    assert pl.read_csv(store.get("c"), schema=frame.schema).equals(frame)


def test_get(pl: Any, store: Store, frame: Any, options: Any) -> None:
    put(store, "p", frame)
    assert pl.read_parquet(f"s3://{store.bucket}/p", **options).equals(frame)


def test_range_of_one_column(pl: Any, store: Store, frame: Any, options: Any) -> None:
    put(store, "p", frame)
    found = pl.scan_parquet(f"s3://{store.bucket}/p", **options).select("number").filter(pl.col("number") >= ROWS - 3).collect()
    assert found["number"].to_list() == [ROWS - 3, ROWS - 2, ROWS - 1]


def test_list_for_a_pattern(pl: Any, store: Store, frame: Any, options: Any) -> None:
    for key in ("dir/1.parquet", "dir/2.parquet", "other/3.parquet"):
        put(store, key, frame.head(10))
    assert pl.scan_parquet(f"s3://{store.bucket}/dir/*.parquet", **options).collect().height == 20


def test_multipart_of_a_sink(pl: Any, store: Store, options: Any) -> None:
    random = library("random").Random(3)
    frame = pl.DataFrame({"bytes": [random.randbytes(1 << 16) for _ in range(4 * PART >> 16)]})
    frame.lazy().sink_parquet(f"s3://{store.bucket}/p", compression="uncompressed", **options)
    assert (store.parts("p") >= 2, pl.read_parquet(store.get("p")).equals(frame)) == (True, True)


@pytest.mark.parametrize("name", ["escapes", "printable"])
def test_odd_keys(pl: Any, store: Store, frame: Any, options: Any, name: str) -> None:
    key = ODD[name].replace("//", "/")
    frame.write_parquet(f"s3://{store.bucket}/{key}", **options)
    assert store.listed() == [key]
    assert pl.read_parquet(f"s3://{store.bucket}/{key}", glob=False, **options).equals(frame)
