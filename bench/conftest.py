"""Options and fixtures of all layers' benchmarks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import Payload

MIB = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gib", action="store_true", help="also measure bodies of 1 GiB")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gib: moves bodies of 1 GiB; runs with --gib only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--gib"):
        for item in items:
            if item.get_closest_marker("gib"):
                item.add_marker(pytest.mark.skip(reason="--gib was not given"))


@pytest.fixture(scope="session")
def payload(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payload]:
    """Random bytes in a file, as many as the largest body needs, and gone afterwards."""
    path = tmp_path_factory.mktemp("payload") / "random"
    size = 1024 * MIB if request.config.getoption("--gib") else 256 * MIB
    with open(path, "wb") as file:
        for _ in range(size // (16 * MIB)):
            file.write(os.urandom(16 * MIB))
    yield Payload(path)
    Path(path).unlink()
