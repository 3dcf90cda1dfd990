"""The server of the client matrix: four volumes and default flags, checked on by a boto3 that no test of a client uses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.kit import BIG, SMALL, TREE
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Store:
    """What is really in a bucket."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket

    def put(self, key: str, body: bytes = SMALL) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def put_tree(self) -> None:
        for key in TREE:
            self.put(key)

    def get(self, key: str) -> bytes:
        with self.s3.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            return body.read()

    def parts(self, key: str) -> int:
        """How many parts an object was uploaded in; 0 when it was a single PUT."""
        return self.s3.head_object(Bucket=self.bucket, Key=key, PartNumber=1).get("PartsCount", 0)

    def listed(self) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("clients")
    server = Server([home / f"v{number}" for number in range(4)], home / "stderr").start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3(server: Server) -> Iterator[S3Client]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def bucket_numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def store(s3: S3Client, bucket_numbers: Iterator[int]) -> Store:
    """A bucket of the test's own."""
    bucket = f"clients-{next(bucket_numbers)}"
    s3.create_bucket(Bucket=bucket)
    return Store(s3, bucket)


@pytest.fixture
def bucket(store: Store) -> str:
    return store.bucket


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the program under test."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "small"
    path.write_bytes(SMALL)
    return path


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "big"
    path.write_bytes(BIG)
    return path
