"""Fixtures for the end-to-end tests: servers over directories of their own, and boto3 clients for them."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MakeServer = Callable[..., Server]


LONGEST: Final = (
    "test_soak.py", "test_crash_matrix.py", "test_crash_guards.py", "test_model_s3.py", "test_store_model.py", "test_e2e_harm.py",
    "test_e2e_crash.py", "test_store_refill_model.py", "test_project_package.py", "test_e2e_repair.py", "test_e2e_faults.py",
)
"""Files that take longest, longest first: one of them begun last would leave the other cores idle. (By itself pytest-xdist begins
with the files that have most tests.)"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; the order within a file stays."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def factory(root: Path) -> Iterator[MakeServer]:
    started: list[Server] = []
    numbers = itertools.count()

    def make(volumes: int = 4, *flags: str, start: bool = True, env: dict[str, str] | None = None) -> Server:
        """A server over `volumes` fresh directories."""
        home = root / f"server{next(numbers)}"
        home.mkdir()
        server = Server([home / f"v{number}" for number in range(volumes)], home / "stderr", flags, env)
        started.append(server)
        return server.start() if start else server

    yield make
    for server in started:
        if server.process is not None:
            server.kill()
        for volume in server.volumes:
            shutil.rmtree(volume, ignore_errors=True)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers that live for one test: for those that stop them or hurt their volumes."""
    yield from factory(tmp_path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server over four volumes for all tests that only use it."""
    for make in factory(tmp_path_factory.mktemp("shared")):
        yield make(4, "--durability", "page-cache")


@pytest.fixture(scope="session")
def s3(server: Server) -> Iterator[S3Client]:
    client = server.client()
    yield client
    client.close()


_bucket_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Client) -> str:
    """A bucket of the test's own on the shared server."""
    name = f"bucket-{next(_bucket_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


def _required(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        message = f"{tool} is not installed"
        pytest.fail(message + ", and CI installs it") if os.environ.get("CI") else pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def curl() -> str:
    return _required("curl")
