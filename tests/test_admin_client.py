"""The admin client: what it signs is accepted, and every way in which there is no answer is one line that says what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from abixio.admin import client as module
from abixio.admin.client import Client, Refused, Unreachable
from abixio.admin.signing import signed_headers
from abixio.credentials import Credentials
from abixio.s3.names import parse_target
from abixio.s3.sigv4 import authenticate
from tests.certificates import make_certificate
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET, request

ROOT = Credentials(ACCESS, SECRET)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

@contextmanager
def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says that to whatever comes; its endpoint, and what came."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    talk = connection if tls is None else tls.wrap_socket(connection, server_side=True)
                    heard.append(talk.recv(65536))
                    talk.sendall(answer)
                    talk.close()
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

def why(endpoint: str, ca_file: str | None = None) -> str:
    with pytest.raises(Unreachable) as raised:
        Client(endpoint, ROOT, ca_file).get("status")
    text = str(raised.value)
    assert text.startswith(endpoint + ": ")
    assert SECRET not in text
    return text

# ---- what it sends ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["127.0.0.1:9000", "[::1]:9000", "s3.example.com"])
@pytest.mark.parametrize("target", ["/_admin/v1/status", "/_admin/v1/inspect?bucket=b&key=a%2F%20%2B%25%C3%A9~"])
@pytest.mark.parametrize("region", [None, "us-east-1"])
def test_what_it_signs_is_accepted(host: str, target: str, region: str | None) -> None:
    now = 1_770_000_000.0
    headers = signed_headers("POST", target, host, b"{}", ROOT, now)
    asked = request("POST", target, headers, b"{}")
    assert authenticate(asked, parse_target(target.encode()), CREDENTIALS, region, now).access_key == ACCESS
    asked.method = "DELETE"
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        authenticate(asked, parse_target(target.encode()), CREDENTIALS, region, now)

def test_any_key_can_be_asked_for() -> None:
    with answering(OK) as (endpoint, heard):
        assert Client(endpoint, ROOT).get("inspect", bucket="b", key="a/../b c?&=#%+é\n") == {}
    assert heard[0].startswith(b"GET /_admin/v1/inspect?bucket=b&key=a%2F..%2Fb%20c%3F%26%3D%23%25%2B%C3%A9%0A HTTP/1.1\r\n")

def test_a_change_carries_json_and_its_hash() -> None:
    with answering(OK) as (endpoint, heard):
        Client(endpoint + "/", ROOT).post("heal", {"all": True})
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert body in (b"", b'{"all":true}')
    assert b"x-amz-content-sha256: " in head
    assert SECRET.encode() not in heard[0]

def test_tls_is_verified_against_the_given_certificate(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with answering(OK, context) as (endpoint, _):
        assert Client(endpoint, ROOT, str(cert)).get("status") == {}
    with answering(OK, context) as (endpoint, heard):
        assert "not trusted (self-signed certificate); --ca-file names one" in why(endpoint)
        assert heard in ([], [b""])

# ---- what it does not take -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "endpoint",
    [
        "", "127.0.0.1:9000", "ftp://127.0.0.1", "http://", "http://:9000", "http://a/b", "http://a?x=1", "http://u:p@a",
        "http://a#x", "s3://bucket", "http://a:port", "http://a:99999", "http://[::1", "http://a b", "http://ü\n",
    ],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is not an endpoint such as"):
        Client(endpoint, ROOT)

def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        Client("https://a", ROOT, str(tmp_path / "none"))
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="is not a PEM certificate"):
        Client("https://a", ROOT, str(tmp_path / "empty"))

# ---- no answer -------------------------------------------------------------------------------------------------------
def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "connection refused; is the server running? --endpoint or ABIXIO_ENDPOINT" in why(f"http://127.0.0.1:{port}")

def test_no_such_host() -> None:
    assert "no host of that name" in why("http://nothing.invalid")

@pytest.mark.parametrize("answer", [b"", b"\x15\x03\x03\x00\x02\x02\x46", b"SSH-2.0-x\r\n"])
def test_something_else_than_http_listens(answer: bytes) -> None:
    with answering(answer) as (endpoint, _):
        assert "not HTTP" in why(endpoint)

def test_a_server_without_tls_is_asked_by_tls() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (endpoint, _):
        assert "http://?" in why(endpoint.replace("http:", "https:"))

def test_an_answer_that_does_not_come_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert "no answer in time" in why(f"http://127.0.0.1:{listener.getsockname()[1]}")

@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_another_kind_of_server_answers(answer: bytes) -> None:
    with answering(answer) as (endpoint, _):
        assert "is that the right endpoint?" in why(endpoint)

def test_an_answer_that_is_cut_is_no_answer() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}") as (endpoint, _):
        why(endpoint)

def test_an_endless_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    with answering(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 5000) as (endpoint, _):
        assert "an answer of more than" in why(endpoint)

# ---- a refusal -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "advice"),
    [("NoSuchKey", ""), ("InvalidAccessKeyId", "ABIXIO_ACCESS_KEY"), ("RequestTimeTooSkewed", "clock")],
)
def test_a_refusal_is_told_in_the_server_s_words_with_advice(code: str, advice: str) -> None:
    body = f'{{"code": "{code}", "message": "It was so.", "request_id": "x"}}'.encode()
    with answering(b"HTTP/1.1 403 F\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as (endpoint, _):
        with pytest.raises(Refused) as raised:
            Client(endpoint, ROOT).get("status")
    assert str(raised.value).startswith(f"It was so ({code})")
    assert advice in str(raised.value)

Make = Callable[[], Client]
