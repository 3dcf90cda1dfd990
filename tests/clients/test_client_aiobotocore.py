"""aiobotocore: botocore over aiohttp, with a body writer and a chunking of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, CONTROL, ODD, PART, SMALL, TREE, credentials, fetch, library
from tests.server import Server

pytestmark = pytest.mark.slow  # Its dependencies hold botocore back, and pip is long about it.


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    keys = credentials(server)
    session = library("aiobotocore.session").get_session()
    async with session.create_client(
        "s3", endpoint_url=server.url, region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    ) as client:
        yield client


async def read(client: Any, store: Store, key: str, **more: str) -> bytes:
    answer = await client.get_object(Bucket=store.bucket, Key=key, **more)
    async with answer["Body"] as body:
        content: bytes = await body.read()
        return content


async def test_put(client: Any, store: Store) -> None:
    await client.put_object(Bucket=store.bucket, Key="k", Body=SMALL, Metadata={"colour": "green"})
    assert store.get("k") == SMALL
    assert store.s3.head_object(Bucket=store.bucket, Key="k")["Metadata"] == {"colour": "green"}


async def test_get(client: Any, store: Store) -> None:
    store.put("k", BIG)
    assert await read(client, store, "k") == BIG


async def test_range(client: Any, store: Store) -> None:
    store.put("k", BIG)
    assert await read(client, store, "k", Range="bytes=5-10") == BIG[5:11]


async def test_list_with_a_delimiter(client: Any, store: Store) -> None:
    store.put_tree()
    pages = [page async for page in client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Delimiter="/")]
    assert [item["Key"] for page in pages for item in page.get("Contents", [])] == ["a", "z"]
    assert [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])] == ["dir/"]


async def test_multipart(client: Any, store: Store) -> None:
    place = {"Bucket": store.bucket, "Key": "k"}
    upload = {**place, "UploadId": (await client.create_multipart_upload(**place))["UploadId"]}
    parts = []
    for number, start in enumerate(range(0, len(BIG), PART), 1):
        answer = await client.upload_part(**upload, PartNumber=number, Body=BIG[start : start + PART])
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert (store.parts("k"), store.get("k")) == (3, BIG)


async def test_copy(client: Any, store: Store) -> None:
    store.put("from")
    await client.copy_object(Bucket=store.bucket, Key="to", CopySource={"Bucket": store.bucket, "Key": "from"})
    assert store.get("to") == SMALL


async def test_delete_of_one_and_of_many(client: Any, store: Store) -> None:
    store.put_tree()
    await client.delete_object(Bucket=store.bucket, Key=TREE[0])
    await client.delete_objects(Bucket=store.bucket, Delete={"Objects": [{"Key": key} for key in TREE[1:]]})
    assert store.listed() == []


async def test_presigned(client: Any, store: Store) -> None:
    store.put(ODD["escapes"])
    assert fetch(await client.generate_presigned_url("get_object", {"Bucket": store.bucket, "Key": ODD["escapes"]})) == SMALL


@pytest.mark.parametrize("key", [*ODD.values(), CONTROL], ids=[*ODD, "control"])
async def test_odd_keys(client: Any, store: Store, key: str) -> None:
    await client.put_object(Bucket=store.bucket, Key=key, Body=SMALL)
    listed = await client.list_objects_v2(Bucket=store.bucket)
    assert [item["Key"] for item in listed["Contents"]] == store.listed() == [key]
    assert await read(client, store, key) == SMALL
    await client.delete_object(Bucket=store.bucket, Key=key)
    assert store.listed() == []
