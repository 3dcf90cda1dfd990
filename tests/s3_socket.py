"""A running server, asked in the words of `tests.s3_harness.Harness`: the same request over a socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

from tests.s3_harness import Answer, Signer
from tests.server import Server


class Wire(Signer):
    """Each request has a connection of its own, half closed behind it."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.env["ABIXIO_ACCESS_KEY"], server.env["ABIXIO_SECRET_KEY"])
        self._port = server.port

    def send(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1,
    ) -> Answer:
        sent = {"host": "s3.test:9000"} | {name.lower(): value for name, value in (headers or {}).items()}
        if body and "content-length" not in sent:
            sent["content-length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return self.send_bytes(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body, method)

    def send_bytes(self, request: bytes, method: str = "GET") -> Answer:
        """Whatever it is."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
            answer.close()
        return found
