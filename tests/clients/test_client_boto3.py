"""boto3, with no setting but the endpoint, the region and the credentials."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tests.clients.conftest import Store
from tests.clients.kit import BIG, CONTROL, ODD, PART, SMALL, TREE, credentials, fetch
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


SPANS = [("5-10", BIG[5:11]), (f"{len(BIG) - 3}-", BIG[-3:]), ("-7", BIG[-7:])]


def connect(server: Server, config: Config | None = None) -> S3Client:
    keys = credentials(server)
    return boto3.client(
        "s3", endpoint_url=server.url, region_name="us-east-1", config=config,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[S3Client]:
    client = connect(server)
    yield client
    client.close()


def test_put_keeps_body_type_and_metadata(client: S3Client, store: Store) -> None:
    client.put_object(Bucket=store.bucket, Key="k", Body=SMALL, ContentType="text/x-test", Metadata={"colour": "green"})
    head = store.s3.head_object(Bucket=store.bucket, Key="k")
    assert (head["ContentType"], head["Metadata"]) == ("text/x-test", {"colour": "green"})
    assert store.get("k") == SMALL


def test_put_of_a_stream_without_a_length_in_sight(client: S3Client, store: Store) -> None:
    client.upload_fileobj(io.BytesIO(SMALL), store.bucket, "k")
    assert store.get("k") == SMALL


def test_get(client: S3Client, store: Store) -> None:
    store.put("k")
    with client.get_object(Bucket=store.bucket, Key="k")["Body"] as body:
        assert body.read() == SMALL


def test_get_of_a_large_file_in_parallel_ranges(client: S3Client, store: Store, tmp_path: Path) -> None:
    store.put("k", BIG)
    client.download_file(store.bucket, "k", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == BIG


@pytest.mark.parametrize(("span", "expected"), SPANS, ids=["both", "first", "last"])
def test_range(client: S3Client, store: Store, span: str, expected: bytes) -> None:
    store.put("k", BIG)
    with client.get_object(Bucket=store.bucket, Key="k", Range=f"bytes={span}")["Body"] as body:
        assert body.read() == expected


def test_list_with_a_delimiter_page_by_page(client: S3Client, store: Store) -> None:
    store.put_tree()
    paginator = client.get_paginator("list_objects_v2")
    pages = list(paginator.paginate(Bucket=store.bucket, Delimiter="/", PaginationConfig={"PageSize": 1}))
    assert [item["Key"] for page in pages for item in page.get("Contents", [])] == ["a", "z"]
    assert [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])] == ["dir/"]


def test_multipart_by_the_transfer_manager(client: S3Client, store: Store, big: Path) -> None:
    client.upload_file(str(big), store.bucket, "k", Config=TransferConfig(multipart_threshold=PART, multipart_chunksize=PART))
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy_in_one_request(client: S3Client, store: Store) -> None:
    store.put("from")
    client.copy_object(Bucket=store.bucket, Key="to", CopySource={"Bucket": store.bucket, "Key": "from"})
    assert store.get("to") == SMALL


def test_copy_in_parts(client: S3Client, store: Store) -> None:
    store.put("from", BIG)
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    client.copy({"Bucket": store.bucket, "Key": "from"}, store.bucket, "to", Config=config)
    assert (store.parts("to"), store.get("to")) == (3, BIG)


def test_delete_of_one_and_of_many(client: S3Client, store: Store) -> None:
    store.put_tree()
    client.delete_object(Bucket=store.bucket, Key=TREE[0])
    client.delete_objects(Bucket=store.bucket, Delete={"Objects": [{"Key": key} for key in TREE[1:]]})
    assert store.listed() == []


@pytest.mark.parametrize("version", [None, "s3v4"], ids=["default", "version-4"])
def test_presigned_get_and_put(server: Server, store: Store, version: str | None) -> None:
    client = connect(server, Config(signature_version=version))
    fetch(client.generate_presigned_url("put_object", Params={"Bucket": store.bucket, "Key": ODD["escapes"]}), SMALL)
    assert store.get(ODD["escapes"]) == SMALL
    assert fetch(client.generate_presigned_url("get_object", Params={"Bucket": store.bucket, "Key": ODD["escapes"]})) == SMALL
    client.close()


@pytest.mark.parametrize("key", [*ODD.values(), CONTROL], ids=[*ODD, "control"])
def test_odd_keys(client: S3Client, store: Store, key: str) -> None:
    client.put_object(Bucket=store.bucket, Key=key, Body=SMALL)
    client.copy_object(Bucket=store.bucket, Key=key + ".copy", CopySource={"Bucket": store.bucket, "Key": key})
    listed = [item["Key"] for item in client.list_objects_v2(Bucket=store.bucket)["Contents"]]
    assert listed == sorted([key, key + ".copy"], key=str.encode)
    with client.get_object(Bucket=store.bucket, Key=key + ".copy")["Body"] as body:
        assert body.read() == SMALL
    client.delete_object(Bucket=store.bucket, Key=key)
    assert store.listed() == [key + ".copy"]


@pytest.mark.parametrize("key", ODD.values(), ids=ODD)
def test_odd_keys_deleted_in_a_batch(client: S3Client, store: Store, key: str) -> None:
    store.put(key)
    answer = client.delete_objects(Bucket=store.bucket, Delete={"Objects": [{"Key": key}]})
    assert [item["Key"] for item in answer["Deleted"]] == [key]
    assert store.listed() == []
