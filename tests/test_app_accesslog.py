"""The access log: one line for each request, no secret in it, and nothing that a client sends can forge a line."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from abixio import accesslog
from abixio.accesslog import AccessLog, Line, line_of, masked
from abixio.errors import ClientDisconnected, StartupError
from abixio.logged import Logged
from abixio.message import Buffer, Request, Response
from abixio.volume.files import Files
from tests.s3_wire import request
from tests.server import ACCESS, SECRET

if TYPE_CHECKING:
    from tests.conftest import MakeServer


def write(path: Path, *lines: Line, as_json: bool = False) -> str:
    log = AccessLog(str(path), as_json)
    for line in lines:
        log.add(line)
    log.close(5)
    return path.read_text()


def soon(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- a line ----------------------------------------------------------------------------------------------------------
def test_a_line_says_who_asked_for_what_and_what_became_of_it(tmp_path: Path) -> None:
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAX/20260101/r/s3/aws4_request, x"}
    asked = request("GET", "/bucket/key%20x?list-type=2", signed)
    line = line_of(asked, time.time() - 0.25, 206, 1234)
    when, peer, key, method, target, status, sent, ms, number = write(tmp_path / "log", line).split()
    assert abs(datetime.fromisoformat(when).timestamp() - line.time) < 0.01
    assert (peer, key, method, target) == ("127.0.0.1", "AKIAX", "GET", "/bucket/key%20x?list-type=2")
    assert (status, sent, number) == ("206", "1234", "0123456789ABCDEF")
    assert 250 <= float(ms) < 5000


def test_a_line_can_be_json(tmp_path: Path) -> None:
    content = json.loads(write(tmp_path / "log", line_of(request("PUT", "/b/k"), time.time(), 200, 0), as_json=True))
    assert (content["method"], content["target"], content["status"], content["access_key"]) == ("PUT", "/b/k", 200, "")
    assert content["time"].endswith("Z")


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/b/k?X-Amz-Signature=abc&x-id=GetObject", "/b/k?X-Amz-Signature=***&x-id=GetObject"),
        (b"/b/k?x=1&x-amz-signature=abc", "/b/k?x=1&x-amz-signature=***"),
        (b"/b/k?X-Amz-%53ign%61ture=abc", "/b/k?X-Amz-%53ign%61ture=***"),
        (b"/b/k?AWSAccessKeyId=AKIA&Signature=a%2Bb&Expires=1", "/b/k?AWSAccessKeyId=AKIA&Signature=***&Expires=1"),
        (b"/b/k?X-Amz-Security-Token=abc", "/b/k?X-Amz-Security-Token=***"),
        (b"/b/k?x-amz-server-side-encryption-customer-key=abc", "/b/k?x-amz-server-side-encryption-customer-key=***"),
        (b"/b/signature=abc", "/b/signature=abc"),
        (b"/b/k?prefix=signature", "/b/k?prefix=signature"),
        (b'/b/"k"\\\xff\x1b\n', "/b/%22k%22%5C%FF%1B%0A"),
    ],
)
def test_what_signs_a_url_is_masked_and_nothing_ends_the_word(target: bytes, shown: str) -> None:
    assert masked(target) == shown


@pytest.mark.parametrize(
    ("headers", "target", "key"),
    [
        ({"Authorization": "AWS4-HMAC-SHA256 SignedHeaders=host, Credential=AKIAX/20260101/r/s3/aws4_request"}, "/", "AKIAX"),
        ({"Authorization": "AWS AKIAY:c2lnbmF0dXJl"}, "/", "AKIAY"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, "/", ""),
        ({"Authorization": 'AWS4-HMAC-SHA256 Credential=a"b\x1b/x'}, "/", "a%22b%1B"),
        ({}, "/?X-Amz-Credential=AKIAZ%2F20260101", "AKIAZ"),
        ({}, "/?AWSAccessKeyId=AKIAV&Signature=x", "AKIAV"),
        ({}, "/", ""),
    ],
)
def test_the_access_key_is_the_one_that_the_request_names(headers: dict[str, str], target: str, key: str) -> None:
    assert line_of(request("GET", target, headers), time.time(), 403, 0).access_key == key


# ---- an application in it --------------------------------------------------------------------------------------------
class Lines:
    """Takes the lines."""

    def __init__(self) -> None:
        self.found: list[Line] = []

    def add(self, line: Line) -> None:
        self.found.append(line)


class Slices:
    """A stream of three slices."""

    length = 6

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for piece in (b"ab", b"cd", b"ef"):
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class App:
    """Gives what it is told."""

    def __init__(self, outcome: Response | BaseException) -> None:
        self.outcome = outcome

    async def __call__(self, request: Request) -> Response:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def refuse(self, error: Exception, request_id: str) -> Response:
        return Response(500, [], b"sorry")


def logged(outcome: Response | BaseException) -> tuple[Logged, list[Line]]:
    lines = Lines()
    return Logged(App(outcome), lines), lines.found  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "sent"), [("GET", 5), ("HEAD", 0)])
async def test_an_answer_that_is_there_is_told_at_once(method: str, sent: int) -> None:
    app, lines = logged(Response(404, [], b"sorry"))
    await app(request(method, "/"))
    assert [(line.status, line.bytes) for line in lines] == [(404, sent)]


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_a_stream_is_told_when_it_ends_with_what_was_sent_of_it(read: int) -> None:
    stream = Slices()
    app, lines = logged(Response(200, [], stream))
    body: Any = (await app(request("GET", "/"))).body
    assert (lines, body.length) == ([], 6)
    slices = aiter(body)
    assert [bytes(await anext(slices)) for _ in range(read)] == [b"ab", b"cd", b"ef"][:read]
    if read == 3:
        with pytest.raises(StopAsyncIteration):
            await anext(slices)
    await body.aclose()
    assert [(line.status, line.bytes) for line in lines] == [(200, 2 * read)]
    assert stream.closed


async def test_a_defect_is_one_line_though_it_is_answered_by_refuse() -> None:
    error = RuntimeError()
    app, lines = logged(error)
    with pytest.raises(RuntimeError):
        await app(request("GET", "/x"))
    assert app.refuse(error, "id").status == 500
    assert [(line.status, line.target) for line in lines] == [(500, "/x")]


@pytest.mark.parametrize("error", [ClientDisconnected(), asyncio.CancelledError()])
async def test_a_client_that_did_not_wait_is_told_as_gone(error: BaseException) -> None:
    app, lines = logged(error)
    with pytest.raises(type(error)):
        await app(request("GET", "/x"))
    assert [line.status for line in lines] == [499]


def test_what_is_no_request_has_a_line_too() -> None:
    app, lines = logged(Response(200))
    app.refuse(RuntimeError(), "ABC")
    assert [(line.method, line.status, line.request_id) for line in lines] == [("-", 500, "ABC")]


# ---- the file --------------------------------------------------------------------------------------------------------
def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"--access-log '.*/no/log': cannot be written: No such file"):
        AccessLog(str(tmp_path / "no" / "log"), False)


def test_lines_are_added_to_what_is_there_and_others_may_not_read_it(tmp_path: Path) -> None:
    line = line_of(request(), time.time(), 200, 0)
    write(tmp_path / "log", line)
    assert write(tmp_path / "log", line).count("\n") == 2
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_a_full_disk_is_said_once_and_costs_only_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accesslog, "FLUSH_SECONDS", 0.001)
    full, tried = threading.Event(), []

    class Full(Files):
        def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
            tried.append(1)
            if full.is_set():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().writev(fd, buffers)

    log = AccessLog(str(tmp_path / "log"), False, Full())
    full.set()
    for number in range(3):
        log.add(line_of(request("GET", "/lost"), time.time(), 200, 0))
        soon(lambda: len(tried) > number)  # noqa: B023
    full.clear()
    log.add(line_of(request("GET", "/kept"), time.time(), 200, 0))
    log.close(5)
    assert [line.split()[4] for line in (tmp_path / "log").read_text().splitlines()] == ["/kept"]
    assert caplog.text.count("loses lines") == 1


def test_lines_that_nobody_takes_are_counted_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accesslog, "FLUSH_SECONDS", 60)
    monkeypatch.setattr(accesslog, "MAX_LINES", 10)
    line = line_of(request(), time.time(), 200, 0)
    assert write(tmp_path / "log", *[line] * 25).count("\n") == 10
    assert "lost 15 lines" in caplog.text


def test_a_reader_that_stopped_reading_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(tmp_path / "pipe"), False)
    line = line_of(request("GET", "/" + "x" * 1000), time.time(), 200, 0)
    started = time.monotonic()
    for _ in range(1000):
        log.add(line)
    log.close(0.3)
    assert time.monotonic() - started < 5
    os.close(reader)


# ---- the server ------------------------------------------------------------------------------------------------------
def test_the_server_writes_a_line_for_each_request_and_follows_a_rotation(make_server: MakeServer, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    server = make_server(1, "--access-log", str(log))
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="key", Body=b"x" * 3_000_000)
    client.get_object(Bucket="bucket", Key="key")["Body"].read()
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "nothing"})
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(f"GET {url.removeprefix(server.url)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        raw.recv(65536)
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"GARBAGE\r\n\r\n")
        raw.recv(65536)
    soon(lambda: log.exists() and log.read_text().count("\n") == 5)
    log.rename(tmp_path / "access.log.1")
    server.send_signal(signal.SIGHUP)
    soon(log.exists)
    client.list_buckets()
    client.close()
    assert server.stop() == 0
    lines = [line.split() for line in (tmp_path / "access.log.1").read_text().splitlines()]
    assert [(line[3], line[4].split("?")[0], line[5]) for line in lines] == [
        ("PUT", "/bucket", "200"), ("PUT", "/bucket/key", "200"), ("GET", "/bucket/key", "200"),
        ("GET", "/bucket/nothing", "404"), ("-", "-", "400"),
    ]
    assert [line[2] for line in lines[:4]] == [ACCESS] * 4
    assert lines[2][6] == "3000000"
    assert "X-Amz-Signature=***" in lines[3][4]
    assert [line.split()[3:5] for line in log.read_text().splitlines()] == [["GET", "/"]]
    assert SECRET not in log.read_text() + (tmp_path / "access.log.1").read_text()
