"""The AWS CLI, curl, boto3 with wrong signatures, and bare sockets against a running server."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.server import ACCESS, SECRET, Server, environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20


# ---- the AWS CLI -----------------------------------------------------------------------------------------------------
class Aws:
    def __init__(self, server: Server, home: Path) -> None:
        self.home = home
        self._command = [sys.executable, "-m", "awscli", "--endpoint-url", server.url]
        self._env = environment(
            HOME=str(home), AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1"
        )

    def __call__(self, *arguments: str, input: bytes | None = None) -> bytes:
        done = subprocess.run(
            [*self._command, *arguments], cwd=self.home, env=self._env, input=input, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture
def aws(server: Server, tmp_path: Path) -> Aws:
    return Aws(server, tmp_path)


def test_the_aws_cli_goes_round(aws: Aws, bucket: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, size in (("empty", 0), ("a b/ü.txt", 1000), ("large.bin", 20 * MIB)):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    aws("s3", "sync", "tree", f"s3://{bucket}/copy")
    assert b"copy/a b/\xc3\xbc.txt" in aws("s3", "ls", "--recursive", f"s3://{bucket}")
    aws("s3", "sync", f"s3://{bucket}/copy", "back")
    for path in tree.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(tree)).read_bytes() == path.read_bytes()
    assert aws("s3", "sync", "tree", f"s3://{bucket}/copy") == b""
    aws("s3", "mv", f"s3://{bucket}/copy/empty", f"s3://{bucket}/moved")
    aws("s3", "rm", "--recursive", f"s3://{bucket}/copy")
    assert aws("s3", "ls", "--recursive", f"s3://{bucket}").split()[-1] == b"moved"
    aws("s3", "rb", "--force", f"s3://{bucket}")
    assert bucket.encode() not in aws("s3", "ls")


def test_the_aws_cli_streams(aws: Aws, bucket: str) -> None:
    body = os.urandom(12 * MIB)
    aws("s3", "cp", "-", f"s3://{bucket}/stream", input=body)
    assert aws("s3", "cp", f"s3://{bucket}/stream", "-") == body
    assert aws("s3api", "head-object", "--bucket", bucket, "--key", "stream", "--query", "ContentLength") == b"%d\n" % len(body)


# ---- curl ------------------------------------------------------------------------------------------------------------
def run_curl(curl: str, *arguments: str) -> bytes:
    done = subprocess.run(
        [curl, "--silent", "--show-error", "--max-time", "60", *arguments], env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_curl_puts_and_gets_by_presigned_urls(curl: str, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    body = os.urandom(5 * MIB)
    (tmp_path / "body").write_bytes(body)
    name = {"Bucket": bucket, "Key": "a key/ü?&"}
    put = s3.generate_presigned_url("put_object", Params=name)
    get = s3.generate_presigned_url("get_object", Params=name)
    answer = run_curl(curl, "--upload-file", str(tmp_path / "body"), "--write-out", "%{http_code}", put)
    assert answer == b"200"
    assert run_curl(curl, get) == body
    assert run_curl(curl, "--range", "100-299", get) == body[100:300]
    head = run_curl(curl, "--head", s3.generate_presigned_url("head_object", Params=name))
    assert f"Content-Length: {len(body)}".encode().lower() in head.lower()
    delete = s3.generate_presigned_url("delete_object", Params=name)
    assert run_curl(curl, "--request", "DELETE", "--write-out", "%{http_code}", delete) == b"204"
    assert b"<Code>NoSuchKey</Code>" in run_curl(curl, get)


def test_curl_signs_for_itself(curl: str, server: Server, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"for curl")
    sign = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{ACCESS}:{SECRET}"]
    assert run_curl(curl, *sign, f"{server.url}/{bucket}/key") == b"for curl"
    assert b"SignatureDoesNotMatch" in run_curl(curl, *sign[:-1], f"{ACCESS}:wrong-secret", f"{server.url}/{bucket}/key")


def test_curl_uploads_without_a_length_by_chunks(curl: str, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"chunk" * 100_000)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    with (tmp_path / "body").open("rb") as body:
        done = subprocess.run(
            [curl, "--silent", "--upload-file", "-", "--write-out", "%{http_code}", url], stdin=body, capture_output=True, check=True
        )
    # S3 wants a length, and says so; taking it all the same would be no error either.
    assert done.stdout[-3:] in (b"200", b"411")


# ---- who may ---------------------------------------------------------------------------------------------------------
def code(call: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_without_a_signature_nothing_is_served(server: Server, bucket: str) -> None:
    requests = [("GET", "/"), ("GET", f"/{bucket}"), ("PUT", f"/{bucket}/key"), ("DELETE", f"/{bucket}"), ("GET", "/no/such")]
    for method, target in requests:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request(method, target, b"" if method == "PUT" else None)
        answer = connection.getresponse()
        assert answer.status == 403
        assert b"<Code>AccessDenied</Code>" in answer.read()
        connection.close()


@pytest.mark.parametrize(
    ("access", "secret", "expected"),
    [(ACCESS, "wrong-secret", "SignatureDoesNotMatch"), ("nobody", SECRET, "InvalidAccessKeyId")],
)
def test_wrong_keys_are_refused(server: Server, access: str, secret: str, expected: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id=access, aws_secret_access_key=secret
    )
    assert code(client.list_buckets) == (403, expected)
    client.close()


def altered(server: Server, change: Any, **settings: Any) -> S3Client:
    """A client whose requests are changed after they were signed."""
    client = server.client(**settings)
    client.meta.events.register("before-send.s3", change)
    return client


def test_a_request_that_was_changed_on_the_way_is_refused(server: Server, bucket: str) -> None:
    def header(request: Any, **_: Any) -> None:
        request.headers["x-amz-date"] = request.headers["X-Amz-Date"].decode()[:-2] + "1Z"

    def added(request: Any, **_: Any) -> None:
        request.headers["x-amz-meta-more"] = "x"

    def path(request: Any, **_: Any) -> None:
        request.url = request.url.replace("/key", "/other")

    def query(request: Any, **_: Any) -> None:
        request.url += ("&" if "?" in request.url else "?") + "x=1"

    for change in (header, added, path, query):
        client = altered(server, change)
        answer = code(lambda client=client: client.put_object(Bucket=bucket, Key="key", Body=b"x"))  # type: ignore[misc]
        assert answer[0] == 403, change.__name__
        client.close()
    client = server.client()
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    client.close()


def test_a_body_that_was_changed_on_the_way_is_refused(server: Server, bucket: str) -> None:
    def body(request: Any, **_: Any) -> None:
        request.body = b"other"

    client = altered(server, body, s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
    assert code(lambda: client.put_object(Bucket=bucket, Key="key", Body=b"right")) == (400, "XAmzContentSHA256Mismatch")
    client.close()


def test_a_clock_that_is_far_off_is_refused(server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.auth
    import botocore.compat

    off = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: off.replace(tzinfo=None))
    client = server.client()
    assert code(lambda: client.list_objects_v2(Bucket=bucket)) == (403, "RequestTimeTooSkewed")
    client.close()


def test_a_presigned_url_ends(server: Server, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"}, ExpiresIn=1)
    assert get(server, url)[0] == 200
    time.sleep(2.1)
    status, body = get(server, url)
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body
    assert get(server, url.replace("X-Amz-Expires=1", "X-Amz-Expires=1000"))[0] == 403


def get(server: Server, url: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", url.removeprefix(server.url))
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


@pytest.mark.parametrize("signing", [True, False])
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("size", [0, 1000, 3 * MIB])
def test_every_form_of_payload_that_boto3_has(server: Server, bucket: str, signing: bool, checksums: Any, size: int) -> None:
    """Signed hash, unsigned with a trailer, with and without checksums."""
    client = server.client(s3={"payload_signing_enabled": signing}, request_checksum_calculation=checksums)
    body = os.urandom(size)
    client.put_object(Bucket=bucket, Key="key", Body=body)
    with client.get_object(Bucket=bucket, Key="key")["Body"] as back:
        assert back.read() == body
    client.close()


# ---- bare sockets ----------------------------------------------------------------------------------------------------
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
def test_requests_that_are_none_are_refused_and_the_connection_ends(server: Server, target: dict[str, bytes], head: bytes) -> None:
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
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
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
