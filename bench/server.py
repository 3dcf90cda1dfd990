"""An S3 server to measure, and requests for it that are signed beforehand, so that load clients need not know S3."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.load import CONNECTIONS, TIMEOUT, LoadFailed, Rate, tool
from tests.server import ACCESS, SECRET, Server

BUCKET: Final = "bench"
REGION: Final = "us-east-1"
SCRIPT: Final = Path(__file__).with_name("requests.lua")
NOTHING: Final = hashlib.sha256(b"").hexdigest()


@contextmanager
def running(home: Path, volumes: int = 1) -> Iterator[Server]:
    """A server in mode page-cache, on fresh directories below `home`, with a bucket. It has to end well and silently."""
    paths = [home / f"v{number}" for number in range(volumes)]
    server = Server(paths, home / "stderr", ["--durability", "page-cache", "--log-level", "error"]).start()
    try:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield server
        if server.stop() != 0 or server.stderr():
            raise LoadFailed(f"the server did not end well: {server.stderr()[-4000:]}")
    finally:
        if server.process is not None:
            server.kill()
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)


# ---- signing -----------------------------------------------------------------------------------------------------------
def presigned(server: Server, method: str, *keys: str) -> list[str]:
    """A URL for each key that carries its signature; the payload is not signed."""
    client = server.client()
    operation = f"{method.lower()}_object"
    urls = [client.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": key}) for key in keys]
    client.close()
    return urls


class Signable(Protocol):
    """What requests are for."""

    @property
    def url(self) -> str: ...


class _Signer(S3SigV4Auth):
    """Signs for a payload whose hash is known already."""

    def __init__(self, sha256: str, access: str, secret: str) -> None:
        super().__init__(Credentials(access, secret), "s3", REGION)
        self._sha256 = sha256

    def payload(self, request: AWSRequest) -> str:
        return self._sha256


def signed(
    server: Signable, method: str, key: str, sha256: str = NOTHING, access: str = ACCESS, secret: str = SECRET
) -> tuple[str, dict[str, str]]:
    """URL and headers of a request that is signed with its payload, good for a quarter of an hour."""
    url = f"{server.url}/{BUCKET}/{key}"
    request = AWSRequest(method, url)
    _Signer(sha256, access, secret).add_auth(request)
    return url, dict(request.headers.items())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- many different requests -------------------------------------------------------------------------------------------
def raw_request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """As it goes over the wire. As with wrk and SDKs, nothing is said of a body where there can be none."""
    parts = urlsplit(url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    length = {"Content-Length": str(len(body))} if body or method in ("PUT", "POST") else {}
    lines = {"Host": parts.netloc, **length, **headers}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode("ascii") + b"\r\n" + body


def wrk_in_turn(url: str, requests: Sequence[bytes], seconds: int, connections: int = CONNECTIONS) -> Rate:
    """What `load.wrk` does, with the requests of a list in turn: PUTs of one key would wait for each other."""
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        for request in requests:
            file.write(b"%d\n" % len(request) + request)
        file.flush()
        command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
        command += [url, "--", file.name]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    found = re.search(r"total (\d+) us, (\d+) requests, (\d+) failed\nlatency (\d+) (\d+) (\d+) us", result.stdout)
    if result.returncode or found is None or int(found[3]) or not int(found[2]):
        raise LoadFailed(f"wrk {url}\n{result.stdout}{result.stderr}")
    return Rate(int(found[2]), int(found[1]) / 1e6, tuple(int(found[number]) / 1e6 for number in (4, 5, 6)))
