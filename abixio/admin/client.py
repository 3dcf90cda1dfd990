"""Asks a running server: what the commands of the command line talk through. One request, one connection."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from abixio.admin.signing import signed_headers
from abixio.config import MIB
from abixio.credentials import Credentials
from abixio.errors import AbixioError

CONNECT_SECONDS: Final = 10.0
"""To a machine that is there: a lost SYN is sent again after 1, 3 and 7 seconds."""
ANSWER_SECONDS: Final = 900.0
"""Between two packets of an answer. The longest is that of `inspect`, which reads every shard of a key: 5 GiB in each of 16
shards from slow disks. All else is answered at once."""
MAX_ANSWER: Final = 256 * MIB
"""Of an answer: the health of an object of 10,000 parts on 16 volumes is some 30 MiB."""
BASE: Final = "/_admin/v1/"
_ENDPOINT: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)/?", re.IGNORECASE | re.ASCII
)
"""Without a path: a proxy that takes one away would change what is signed."""


class Unreachable(AbixioError):
    """There is no answer, or none from abixio. The text names the endpoint and what to do."""


class Refused(AbixioError):
    """The server's own words, and its code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code = status, code
        super().__init__(f"{message.rstrip('.')} ({code})" + _advice(code))


def _advice(code: str) -> str:
    match code:
        case "InvalidAccessKeyId" | "SignatureDoesNotMatch":
            return "; ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY, or --volumes, must be those of the server"
        case "RequestTimeTooSkewed":
            return "; set the clock of this machine or of the server"
    return ""


class _Problem(msgspec.Struct):
    code: str
    message: str


class Client:
    """One endpoint and the root credential."""

    def __init__(self, endpoint: str, credentials: Credentials, ca_file: str | None = None) -> None:
        """ValueError for an endpoint that is none, or a CA file that cannot be read."""
        found = _ENDPOINT.fullmatch(endpoint)
        if found is None or int(found["port"] or 0) > 65535:
            raise ValueError(f"{endpoint!r} is not an endpoint such as http://127.0.0.1:9000")
        self._host = found["host"]
        self.endpoint = f"{found['scheme'].lower()}://{self._host}"
        self._name = found["name"].strip("[]")
        self._port = int(found["port"]) if found["port"] else None
        self._credentials = credentials
        self._tls = _tls(ca_file) if self.endpoint.startswith("https:") else None

    def get(self, path: str, **params: str) -> Any:
        """What the server says. Unreachable, Refused."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in params.items())
        return self._ask("GET", path + ("?" + query if query else ""), b"")

    def post(self, path: str, content: Mapping[str, Any]) -> Any:
        return self._ask("POST", path, msgspec.json.encode(content))

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path, b"")

    # ---- the rest ----------------------------------------------------------------------------------------------------
    def _ask(self, method: str, path: str, body: bytes) -> Any:
        target = BASE + path
        headers = signed_headers(method, target, self._host, body, self._credentials, time.time())
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
            connection.request(method, target, body, dict(headers))
            with connection.getresponse() as found:
                status, data = found.status, found.read(MAX_ANSWER + 1)
                if found.length and len(data) <= MAX_ANSWER:
                    raise http.client.IncompleteRead(data, found.length)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.endpoint}: {self._why(error)}") from error
        finally:
            connection.close()
        return self._read(status, data)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._name, self._port, timeout=CONNECT_SECONDS)
        return http.client.HTTPSConnection(self._name, self._port, timeout=CONNECT_SECONDS, context=self._tls)

    def _read(self, status: int, data: bytes) -> Any:
        if len(data) > MAX_ANSWER:
            raise Unreachable(f"{self.endpoint}: an answer of more than {MAX_ANSWER // MIB} MiB")
        try:
            if status < 300:
                return msgspec.json.decode(data)
            problem = msgspec.json.decode(data, type=_Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unreachable(
                f"{self.endpoint}: answers with status {status} and not as abixio does; is that the right endpoint?"
            ) from error
        raise Refused(status, problem.code, problem.message)

    def _why(self, error: Exception) -> str:
        """A failed request in words that say what to change."""
        match error:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted ({error.verify_message}); --ca-file names one to trust"
            case ssl.SSLError():
                return f"no TLS connection ({error.reason}); does it serve plain http://?"
            case ConnectionRefusedError():
                return "connection refused; is the server running? --endpoint or ABIXIO_ENDPOINT names another"
            case socket.gaierror():
                return "there is no host of that name; --endpoint or ABIXIO_ENDPOINT names another"
            case TimeoutError():
                return "no answer in time; `abixio status` tells whether the server is there at all"
            case http.client.IncompleteRead():
                return "the answer was cut off; ask again"
            case http.client.HTTPException() | ConnectionResetError() if self._tls is None:
                return "the answer is not HTTP; does it serve https://?"
            case OSError():
                return error.strerror or str(error)
        return str(error) or type(error).__name__


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        why = "is not a PEM certificate" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise ValueError(f"--ca-file {ca_file}: {why}") from error
