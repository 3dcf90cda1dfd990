"""Bare sockets against a running server: HTTP as no library sends it, and clients that are many, slow or gone."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from calendar import timegm
from typing import TYPE_CHECKING

import pytest

from tests.e2e import MIB, get
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Wire:
    """A connection, and the answers on it."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if status < 200 or head_only:
            return status, headers, b""
        return status, headers, self.file.read(int(headers.get("content-length", "0")))

    def closed(self) -> bool:
        return self.file.read(1) == b""


@pytest.fixture
def target(s3: S3Client, server: Server, bucket: str) -> dict[str, bytes]:
    """Presigned targets for the object `key`, by method."""
    operations = {"GET": "get_object", "PUT": "put_object", "HEAD": "head_object", "DELETE": "delete_object"}
    return {
        method: s3.generate_presigned_url(operation, Params={"Bucket": bucket, "Key": "key"}).removeprefix(server.url).encode()
        for method, operation in operations.items()
    }


def request(server: Server, method: str, target: dict[str, bytes], *headers: bytes, body: bytes = b"") -> bytes:
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target[method]), b"Host: 127.0.0.1:%d" % server.port, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_requests_in_one_go_are_answered_in_order(server: Server, target: dict[str, bytes]) -> None:
    with Wire(server) as wire:
        wire.send(
            request(server, "PUT", target, b"Content-Length: 5", body=b"hello")
            + request(server, "GET", target) + request(server, "HEAD", target) + request(server, "DELETE", target)
            + request(server, "GET", target)
        )
        assert wire.answer()[0] == 200
        assert wire.answer()[::2] == (200, b"hello")
        status, headers, _ = wire.answer(head_only=True)
        assert (status, headers["content-length"]) == (200, "5")
        assert wire.answer()[0] == 204
        assert wire.answer()[0] == 404


def test_a_client_that_waits_for_100_continue_gets_it(server: Server, target: dict[str, bytes]) -> None:
    with Wire(server) as wire:
        wire.send(request(server, "PUT", target, b"Content-Length: 5", b"Expect: 100-continue"))
        assert wire.answer()[0] == 100
        wire.send(b"hello")
        assert wire.answer()[0] == 200


def test_an_empty_upload_that_waits_for_100_continue_ends_its_connection(server: Server, target: dict[str, bytes]) -> None:
    """The AWS CLI would take its answer for that to the next request as well."""
    with Wire(server) as wire:
        wire.send(request(server, "PUT", target, b"Content-Length: 0", b"Expect: 100-continue"))
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert wire.closed()


def test_a_refused_upload_costs_no_transfer(server: Server, target: dict[str, bytes]) -> None:
    wrong = {"PUT": target["PUT"].replace(b"X-Amz-Signature=", b"X-Amz-Signature=0")}
    with Wire(server) as wire:
        wire.send(request(server, "PUT", wrong, b"Content-Length: 5000000000", b"Expect: 100-continue"))
        assert wire.answer()[0] == 403


def test_every_answer_has_a_request_id_and_errors_are_xml(server: Server, target: dict[str, bytes]) -> None:
    with Wire(server) as wire:
        wire.send(request(server, "GET", target))
        status, headers, body = wire.answer()
        assert status == 404
        assert re.fullmatch(r"[0-9A-F]{16}", headers["x-amz-request-id"])
        assert headers["content-type"] == "application/xml"
        assert f"<RequestId>{headers['x-amz-request-id']}</RequestId>".encode() in body


@pytest.mark.parametrize(
    "head",
    [
        b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET %s HTTP/1.1\r\nHost: x\r\nX: a\r\n folded: b\r\n\r\n",
        b"GET %s HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET %s HTTP/1.1\r\n\r\n",
        b"GET %s HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET %s\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03%s\r\n\r\n",
        b"GET %s HTTP/1.1\r\nHost: x\r\nX: " + b"x" * MIB + b"\r\n\r\n",
        b"GET %s HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    ],
    ids=range(15),
)
def test_what_is_no_request_is_refused_and_the_connection_ends(server: Server, target: dict[str, bytes], head: bytes) -> None:
    method = "PUT" if head.startswith(b"PUT") else "GET"
    with Wire(server) as wire:
        try:
            wire.send(head.replace(b"%s", target[method]) + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
            status = wire.answer()[0]
            # One answer, then the end: nothing behind it may be taken for a request.
            assert 400 <= status < 600
            assert wire.closed()
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused while it was still being sent
        except IndexError:
            pytest.fail("closed without an answer")
    assert get(server, server.url + target["GET"].decode())[0] == 404


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"f" * 30 + b"\r\n"]
)
def test_bad_chunks_store_nothing(server: Server, target: dict[str, bytes], chunks: bytes) -> None:
    with Wire(server) as wire:
        wire.send(request(server, "PUT", target, b"Transfer-Encoding: chunked", b"x-amz-decoded-content-length: 5", body=chunks))
        assert 400 <= wire.answer()[0] < 500
        assert wire.closed()
    assert get(server, server.url + target["GET"].decode())[0] == 404


def test_many_idle_connections_hinder_nobody(server: Server, s3: S3Client, bucket: str) -> None:
    sockets = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(300)]
    try:
        s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    finally:
        for one in sockets:
            one.close()


def test_hundreds_of_uploads_at_once_are_all_right(server: Server, bucket: str) -> None:
    """Slow ones too: all heads first, then all bodies."""
    client = server.client()
    body = os.urandom(100_000)
    wires = []
    for number in range(200):
        url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": f"{number}"})
        wire = Wire(server)
        wires.append(wire)
        target = {"PUT": url.removeprefix(server.url).encode()}
        wire.send(request(server, "PUT", target, b"Content-Length: 100000", body=body[:50_000]))
    statuses = []
    for wire in wires:
        with wire:
            wire.send(body[50_000:])
            statuses.append(wire.answer()[0])
    assert statuses == [200] * 200
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 200
    client.close()


def test_an_answer_to_a_reader_that_is_slow_is_whole(server: Server, s3: S3Client, bucket: str, target: dict[str, bytes]) -> None:
    body = os.urandom(16 * MIB)
    s3.put_object(Bucket=bucket, Key="key", Body=body)
    with Wire(server) as wire:
        wire.send(request(server, "GET", target))
        time.sleep(1)
        status, _, got = wire.answer()
        assert status == 200
        assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


def test_a_client_that_leaves_in_the_middle_of_a_download_hurts_nobody(
    server: Server, s3: S3Client, bucket: str, target: dict[str, bytes]
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=os.urandom(16 * MIB))

    def leave() -> None:
        with Wire(server) as wire:
            wire.send(request(server, "GET", target))
            wire.file.read(1000)

    threads = [threading.Thread(target=leave) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s3.head_object(Bucket=bucket, Key="key")["ContentLength"] == 16 * MIB


# ---- answers as HTTP has them ----------------------------------------------------------------------------------------
def test_http_1_0_and_connection_close_end_the_connection(
    server: Server, s3: S3Client, bucket: str, target: dict[str, bytes]
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"data")
    host = b"Host: 127.0.0.1:%d\r\n" % server.port
    for head, kept in (
        (b"HTTP/1.0\r\n" + host, False), (b"HTTP/1.0\r\nConnection: keep-alive\r\n" + host, True),
        (b"HTTP/1.1\r\nConnection: close\r\n" + host, False), (b"HTTP/1.1\r\n" + host, True),
    ):
        with Wire(server) as wire:
            wire.send(b"GET %s %s\r\n" % (target["GET"], head))
            status, headers, body = wire.answer()
            assert (status, body, "connection" in headers) == (200, b"data", b"1.0" in head or not kept)
            if kept:
                wire.send(b"GET %s %s\r\n" % (target["GET"], head))
                assert wire.answer()[0] == 200
            else:
                assert headers["connection"] == "close"
                assert wire.closed()


def test_what_has_no_body_has_none(server: Server, s3: S3Client, bucket: str, target: dict[str, bytes]) -> None:
    with Wire(server) as wire:
        wire.send(request(server, "HEAD", target))
        status, headers, _ = wire.answer(head_only=True)
        assert (status, "x-amz-request-id" in headers, "x-amz-id-2" in headers) == (404, True, True)
        etag = s3.put_object(Bucket=bucket, Key="key", Body=b"data", CacheControl="no-cache")["ETag"]
        wire.send(request(server, "GET", target, b"If-None-Match: " + etag.encode()))
        status, headers, _ = wire.answer(head_only=True)
        assert (status, headers["etag"], headers["cache-control"]) == (304, etag, "no-cache")
        wire.send(request(server, "HEAD", target, b"If-Match: \"x\""))
        assert wire.answer(head_only=True)[0] == 412
        wire.send(request(server, "HEAD", target))
        assert wire.answer(head_only=True)[1]["content-length"] == "4"
        wire.send(request(server, "DELETE", target))
        status, headers, _ = wire.answer(head_only=True)
        assert (status, "content-length" in headers) == (204, False)
        wire.send(request(server, "GET", target))  # in step after all of them
        assert wire.answer()[0] == 404


def test_options_needs_no_signature_and_tells_nothing(server: Server, bucket: str) -> None:
    asked = b"Origin: http://a\r\nAccess-Control-Request-Method: PUT\r\n"
    with Wire(server) as wire:
        for path in (bucket.encode(), b"no-such-bucket"):
            wire.send(b"OPTIONS /%s/key HTTP/1.1\r\nHost: h\r\n%s\r\n" % (path, asked))
            status, _, body = wire.answer()
            assert (status, b"<Code>AccessForbidden</Code>" in body) == (403, True)
        wire.send(b"OPTIONS /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert wire.answer()[0] == 400


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
def test_dates_come_in_one_form_and_are_read_in_three(
    server: Server, s3: S3Client, bucket: str, target: dict[str, bytes], form: str
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"data")
    with Wire(server) as wire:
        wire.send(request(server, "GET", target))
        headers = wire.answer()[1]
        modified, now = (time.strptime(headers[name], "%a, %d %b %Y %H:%M:%S GMT") for name in ("last-modified", "date"))
        assert 0 <= timegm(now) - timegm(modified) < 60
        for later, status in ((0, 304), (-60, 200)):
            since = time.strftime(form, time.gmtime(timegm(modified) + later)).encode()
            wire.send(request(server, "GET", target, b"If-Modified-Since: " + since))
            assert wire.answer(head_only=status == 304)[0] == status
