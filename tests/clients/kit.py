"""What the tests of the client matrix share: the data, the odd keys, and how a client is found, run or missed."""

from __future__ import annotations

import http.client
import importlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import pytest

from tests.server import Server, environment

OPERATIONS: Final = ("put", "get", "range", "list", "multipart", "copy", "delete", "presigned", "odd_keys")
"""The columns of the matrix. A test belongs to the column whose name it starts with, behind `test_`."""

MIB: Final = 1 << 20
PART: Final = 5 * MIB
"""The smallest part that S3 lets be followed by another."""
SMALL: Final = random.Random(1).randbytes(1000)
BIG: Final = random.Random(2).randbytes(2 * PART + 12345)
"""Three parts of the least size; above the 8 MiB from which the AWS CLI makes parts by itself."""

ODD: Final = {
    "escapes": "a b+c%25/ü/..%2F.",
    "printable": "".join(map(chr, range(0x20, 0x7F))) + "é😀",
    "path": "a//b/../c/./d",
}
"""Keys that a client or a server likes to change on the way."""
CONTROL: Final = "tab\tline\r\nbell\x07delete\x7f"
"""No XML 1.0 can hold it; S3 lists it only to those who ask for encoding-type=url."""

TREE: Final = ("a", "dir/x", "dir/y", "z")
"""Of which a listing with the delimiter / has two keys and one prefix."""


def missing(what: str) -> NoReturn:
    """A client that is not there: CI installs all that it runs, others may do without."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI installs it")
    pytest.skip(f"{what} is not installed")


def library(name: str) -> Any:
    """A client that is imported."""
    try:
        module: ModuleType = importlib.import_module(name)
    except ModuleNotFoundError:
        missing(f"the Python package {name}")
    return module


def program(name: str) -> str:
    """A client that is run: beside this Python, where pip puts it, or else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or missing(name)


def credentials(server: Server) -> dict[str, str]:
    """As the environment of most clients has them."""
    return {
        "AWS_ACCESS_KEY_ID": server.env["ABIXIO_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": server.env["ABIXIO_SECRET_KEY"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }


class Tool:
    """A program with its first arguments, in a home of its own, where nobody's configuration waits for it."""

    def __init__(self, command: Sequence[str], home: Path, **env: str) -> None:
        self.command = list(command)
        self.home = home
        self.env = environment(HOME=str(home), XDG_CACHE_HOME=str(home / "cache"), LC_ALL="C.UTF-8", **env)

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> bytes:
        """Its standard output, once it has ended well."""
        command = [*self.command, *map(str, arguments)]
        result = subprocess.run(command, input=stdin, env=self.env, cwd=self.home, capture_output=True, timeout=120, check=False)
        assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]!r}\n{result.stderr.decode(errors='replace')[-4000:]}"
        return result.stdout


def fetch(url: str, body: bytes | None = None) -> bytes:
    """What a presigned URL gives to one who has nothing but it; with a body, PUT."""
    # urllib would send a Content-Type of its own, which Signature Version 2 covers.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    with closing(connection):
        connection.request("GET" if body is None else "PUT", f"{parts.path}?{parts.query}", body)
        answer = connection.getresponse()
        content = answer.read()
    assert answer.status == 200, (answer.status, content)
    return content
