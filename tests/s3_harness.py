"""S3Service without a socket: boto3 talks to it through botocore's `before-send` event, raw requests are signed by botocore."""

from __future__ import annotations

import asyncio
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config as BotoConfig
from botocore.credentials import Credentials

from abixio.config import Config
from abixio.keys import KeyRing, complete
from abixio.message import Request, Response, finished
from abixio.s3.service import S3Service
from tests.s3_fakestore import FakeStore
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET, BytesBody

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ENDPOINT = "http://s3.test:9000"


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes

    @property
    def code(self) -> str:
        """Of an error document; empty when there is none."""
        found = re.search(rb"<Code>([\w.]+)</Code>", self.body)
        return found[1].decode() if found else ""

KEYS = complete(KeyRing([]), [])


class RawBody:
    """What botocore reads a streaming answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, amount: int | None = None) -> bytes:
        return self._data.read(amount)

    def stream(self, **_: Any) -> Any:
        yield self._data.read()

    def close(self) -> None: ...

    def release_conn(self) -> None: ...


class Signer(ABC):
    """Signs requests with botocore and sends them, wherever that is."""

    def __init__(self, access: str = ACCESS, secret: str = SECRET) -> None:
        self.access, self.secret = access, secret

    @abstractmethod
    def send(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1,
    ) -> Answer:
        """One raw request, exactly as given. `length`: what a body without Content-Length says its length is."""

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1,
        region: str = "us-east-1",
    ) -> Answer:
        """One request, signed in its headers. `length` is the Content-Length, by default that of the body; None: without."""
        request = AWSRequest(method, ENDPOINT + target, headers=dict(headers or {}), data=body)
        S3SigV4Auth(Credentials(self.access, self.secret), "s3", region).add_auth(request)
        sent = {name: str(value) for name, value in request.headers.items()}
        if length == -1:
            length = len(body)
        if length is not None and (length or method in ("PUT", "POST")):
            sent["content-length"] = str(length)
        return self.send(method, target, sent, body, length or 0)

    def presigned(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request by a presigned URL."""
        request = AWSRequest(method, ENDPOINT + target)
        S3SigV4QueryAuth(Credentials(self.access, self.secret), "s3", "us-east-1", expires=60).add_auth(request)
        split = urlsplit(request.url)
        sent = dict(headers or {}) | ({"content-length": str(len(body))} if body or method == "PUT" else {})
        return self.send(method, f"{split.path}?{split.query}", sent, body)


class Harness(Signer):
    """A service over a store in memory, and two ways to ask it."""

    def __init__(self, store: FakeStore | None = None, **settings: Any) -> None:
        super().__init__()
        self.config = Config(**settings)
        self.renew(store or FakeStore())
        self.last: Answer | None = None
        self.unread = 0
        """Bytes of the last request's body that nobody read."""
        self._loop = asyncio.new_event_loop()

    def renew(self, store: FakeStore) -> None:
        """Go on with another store: much cheaper than another harness with its own boto3 clients."""
        self.store = store
        self.service = S3Service(store, CREDENTIALS, self.config, KEYS)

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def send(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1,
    ) -> Answer:
        """One raw request, exactly as given."""
        return self.send_raw(method, target.encode(), headers, body, length)

    def send_raw(
        self, method: str, target: bytes, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1,
    ) -> Answer:
        """The same with a target of any bytes."""
        sent = {"host": "s3.test:9000"} | {name.lower(): value for name, value in (headers or {}).items()}
        stream = BytesBody(body, len(body) if length == -1 else length)
        request = Request(method, target, sent, stream, "0123456789ABCDEF", "127.0.0.1")
        self.last = self._loop.run_until_complete(self._ask(request))
        self.unread = stream.unread
        return self.last

    def client(self, **settings: Any) -> S3Client:
        """boto3 as people use it, but every request goes to the service."""
        config = BotoConfig(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **settings)
        client = boto3.client(
            "s3", endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
            config=config,
        )
        client.meta.events.register("before-send.s3", self._before_send)
        return client

    def _before_send(self, request: Any, **_: Any) -> AWSResponse:
        split = urlsplit(request.url)
        headers = {"host": split.netloc} | {
            name: value.decode("latin-1") if isinstance(value, bytes) else str(value) for name, value in request.headers.items()
        }
        body = request.body or b""
        data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else body.read()
        length = int(headers["Content-Length"]) if "Content-Length" in headers else None if data else 0
        target = split.path + (f"?{split.query}" if split.query else "")
        answer = self.send(request.method, target, headers, data, length)
        return AWSResponse(request.url, answer.status, answer.headers, RawBody(answer.body))

    async def _ask(self, request: Request) -> Answer:
        answer = self.service(request)
        if isinstance(answer, asyncio.Future):
            await request.body.readinto(memoryview(bytearray(request.body.length or 0)))
        return await read(await finished(answer))


async def read(response: Response) -> Answer:
    """What would go over the wire."""
    body = response.body
    if not isinstance(body, bytes):
        stream, data = body, b""
        try:
            async for piece in stream:
                data += piece
        finally:
            await stream.aclose()
        assert len(data) == stream.length
        body = data
    headers = {name.lower(): value for name, value in response.headers}
    headers.setdefault("content-length", str(len(body)))
    for name, value in response.headers:
        assert "\n" not in name + value
        assert "\r" not in name + value
        (name + value).encode("latin-1")
    return Answer(response.status, headers, body)
