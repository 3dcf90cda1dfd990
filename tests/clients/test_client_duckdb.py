"""duckdb with its extension httpfs, which it would fetch by itself; here a package brings it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import ODD, credentials, library
from tests.server import Server

pytestmark = pytest.mark.slow

ROWS = 300_000


@pytest.fixture(scope="module")
def sql(server: Server) -> Any:
    """Runs a statement and returns its rows."""
    duckdb = library("duckdb")
    library("duckdb_extension_httpfs")
    library("duckdb_extensions").import_extension("httpfs")
    keys = credentials(server)
    connection = duckdb.connect()
    connection.execute("load httpfs")
    connection.execute(
        f"create secret (type s3, key_id '{keys['AWS_ACCESS_KEY_ID']}', secret '{keys['AWS_SECRET_ACCESS_KEY']}', "
        f"region 'us-east-1', endpoint '{server.url.removeprefix('http://')}', use_ssl false, url_style 'path')"
    )
    return lambda text: connection.execute(text).fetchall()


def test_put_and_get(sql: Any, store: Store) -> None:
    sql(f"copy (select range as number from range({ROWS})) to 's3://{store.bucket}/k.parquet'")
    assert store.listed() == ["k.parquet"]
    assert sql(f"select count(*), sum(number) from 's3://{store.bucket}/k.parquet'") == [(ROWS, ROWS * (ROWS - 1) // 2)]


def test_get_of_csv(sql: Any, store: Store) -> None:
    store.put("k.csv", "name,number\nü,1\nx,2\n".encode())
    assert sql(f"select * from 's3://{store.bucket}/k.csv'") == [("ü", 1), ("x", 2)]


def test_range_of_one_column(sql: Any, store: Store) -> None:
    sql(f"copy (select range as number, repeat(range::text, 9) as text from range({ROWS})) to 's3://{store.bucket}/k.parquet'")
    assert sql(f"select max(number) from 's3://{store.bucket}/k.parquet' where number > {ROWS - 9}") == [(ROWS - 1,)]


def test_list_for_a_pattern(sql: Any, store: Store) -> None:
    store.put_tree()
    assert sql(f"select file from glob('s3://{store.bucket}/dir/*') order by 1") == [
        (f"s3://{store.bucket}/dir/x",),
        (f"s3://{store.bucket}/dir/y",),
    ]


def test_multipart(sql: Any, store: Store) -> None:
    sql("set s3_uploader_max_filesize = '50GB'")  # A ten-thousandth of it is the size of a part.
    sql(f"copy (select range, repeat('x', 50) from range({ROWS})) to 's3://{store.bucket}/k.csv'")
    assert store.parts("k.csv") >= 2
    assert sql(f"select count(*) from 's3://{store.bucket}/k.csv'") == [(ROWS,)]


def test_odd_keys(sql: Any, store: Store) -> None:
    # Its URLs give no way to write `?`, and `*` and `[` are patterns.
    key = ODD["escapes"] + "é😀&=;:@$,!()~"
    sql(f"copy (select 42 as answer) to 's3://{store.bucket}/{key}' (format parquet)")
    assert store.listed() == [key]
    assert sql(f"select * from read_parquet('s3://{store.bucket}/{key}')") == [(42,)]
