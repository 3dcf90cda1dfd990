"""A thin S3 client for the tests that hammer a server: one connection, one signed request at a time, no retries, no guessing.

boto3 costs several milliseconds a call and hides what a killed server looks like. Here a call has one of three outcomes:
an `Answer`; `Refused`, when the request never left; `Unknown`, when it left and no whole answer came.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import time
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import quote, urlencode

from tests.server import ACCESS, SECRET

REGION = "us-east-1"
UNSIGNED = "UNSIGNED-PAYLOAD"


class Refused(Exception):
    """Nobody listens: the request was not sent."""


class Unknown(Exception):
    """The request was sent, at least in part, and no whole answer came back: it may have been done or not."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes

    @property
    def code(self) -> str:
        """Of an error document; empty when there is none."""
        found = re.search(rb"<Code>(\w+)</Code>", self.body) if self.status >= 300 else None
        return found[1].decode() if found else ""

    @property
    def etag(self) -> str:
        """Without quotes."""
        return self.headers.get("etag", "").strip('"')

    def element(self, name: str) -> str:
        """The text of the first element of that name."""
        found = re.search(rf"<{name}>([^<]*)</{name}>".encode(), self.body)
        return found[1].decode() if found else ""


class RawClient:
    """One client of one server. Not for several threads at once."""

    def __init__(self, port: int, timeout: float = 30.0, access: str = ACCESS) -> None:
        """`access`: a key of the server's own, where it is killed and another server may get its port meanwhile."""
        self.port = port
        self._access = access
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._keys: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def connect(self) -> None:
        """Refused when nobody listens. `call` does it too."""
        self._connected()

    def call(
        self, method: str, bucket: str = "", key: str = "", query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, body: bytes = b"",
    ) -> Answer:
        """One request and its answer. Refused, Unknown."""
        path, signed = self._request(method, bucket, key, query, headers, body)
        connection = self._connected()
        try:
            connection.request(method, path, body or None, signed)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unknown(f"{method} {path}: {error!r}") from error
        if answer.will_close:
            self.close()
        found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
        if found.code == "InvalidAccessKeyId":
            self.close()
            raise Refused("another server has that port now")
        return found

    def send_and_leave(self, method: str, bucket: str, key: str = "") -> None:
        """One request whose sender does not stay for the answer. Refused."""
        path, signed = self._request(method, bucket, key, None, None, b"")
        self._connected().request(method, path, None, signed)
        self.close()

    # ---- the connection ----------------------------------------------------------------------------------------------
    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self._timeout)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise Refused(str(error)) from error
            self._connection = connection
        return self._connection

    # ---- the signature (version 4) -----------------------------------------------------------------------------------
    def _request(
        self, method: str, bucket: str, key: str, query: Mapping[str, str] | None, headers: Mapping[str, str] | None, body: bytes
    ) -> tuple[str, dict[str, str]]:
        """Its target, and its headers with the signature."""
        path = "/" + bucket + ("/" + quote(key, safe="/-_.~") if key else "")
        search = urlencode(sorted((query or {}).items()), quote_via=quote, safe="-_.~")
        # The admin surface wants the body signed, too; for S3 that would be the test's time, not the server's.
        payload = hashlib.sha256(body).hexdigest() if bucket.startswith("_admin") else UNSIGNED
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        signed = self._sign(method, path, search, lower, payload)
        return path + ("?" + search if search else ""), signed

    def _sign(self, method: str, path: str, search: str, headers: dict[str, str], payload: str) -> dict[str, str]:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers |= {"host": f"127.0.0.1:{self.port}", "x-amz-date": now, "x-amz-content-sha256": payload}
        names = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join((method, path, search, listed, names, payload))
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        signature = hmac.new(self._key(scope), text.encode(), hashlib.sha256).hexdigest()
        credential = f"AWS4-HMAC-SHA256 Credential={self._access}/{scope}, SignedHeaders={names}, Signature={signature}"
        return headers | {"authorization": credential}

    def _key(self, scope: str) -> bytes:
        if scope not in self._keys:
            key = ("AWS4" + SECRET).encode()
            for part in scope.split("/"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self._keys = {scope: key}
        return self._keys[scope]
