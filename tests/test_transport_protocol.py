"""One connection, without sockets: what it answers and when it ends. The steps decide in how many pieces bytes arrive."""

from __future__ import annotations

import asyncio
import re

import pytest

from abixio.errors import (
    BadRequest,
    HeadTooLarge,
    IncompleteBody,
    Overloaded,
    UnsupportedExpectation,
)
from abixio.http.limits import Limits
from abixio.message import Request, Response
from tests.transport_kit import CHUNKED, GET, App, Slices, Wire, echoed, parse_answers, put, read_all

STEPS = pytest.mark.parametrize("step", [1, 5, 1 << 16])


# ---- requests and answers --------------------------------------------------------------------------------------------
@STEPS
async def test_answers_a_get_and_waits_for_the_next(step: int) -> None:
    wire = Wire(App(), step=step)
    await wire.send(GET)
    assert [(status, headers["x-target"], body) for status, headers, body in wire.answers] == [(200, "/a", echoed(b""))]
    assert "connection" not in wire.answers[0][1]
    assert not wire.closing
    await wire.send(GET)
    assert len(wire.answers) == 2
    await wire.disconnect()
    wire.assert_clean()


@STEPS
async def test_answers_pipelined_requests_in_order_each_with_its_own_body(step: int) -> None:
    wire = Wire(App(), step=step)
    await wire.send(put(b"one", target="/1") + GET + put(b"", target="/2") + b"\r\n" + put(b"three" * 50, target="/3") + GET)
    assert [(headers["x-target"], body) for _, headers, body in wire.answers] == [
        ("/1", echoed(b"one")), ("/a", echoed(b"")), ("/2", echoed(b"")), ("/3", echoed(b"three" * 50)), ("/a", echoed(b"")),
    ]  # fmt: skip
    await wire.disconnect()
    wire.assert_clean()


@STEPS
async def test_reads_a_chunked_body_and_the_request_behind_it(step: int) -> None:
    wire = Wire(App(), step=step)
    await wire.send(CHUNKED + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nt: v\r\n\r\n" + GET)
    assert [body for _, _, body in wire.answers] == [echoed(b"hello world"), echoed(b"")]
    assert wire.app.requests[0].body.length is None
    await wire.disconnect()
    wire.assert_clean()


async def test_tells_the_handler_all_that_it_knows() -> None:
    wire = Wire(App(), secure=True)
    await wire.send(b"PUT /b/k?x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX-A: 1\r\n\r\nabc" + GET)
    first, second = wire.app.requests
    assert (first.method, first.target, first.peer, first.secure, first.body.length) == ("PUT", b"/b/k?x", "192.0.2.7", True, 3)
    assert first.headers == {"host": "h", "content-length": "3", "x-a": "1"}
    assert second.body.length == 0
    assert all(re.fullmatch("[0-9A-F]{16}", request.id) for request in (first, second))
    assert first.id != second.id
    await wire.disconnect()


async def test_http_1_0_closes_unless_asked_and_promises_to_stay_when_asked() -> None:
    wire = Wire(App())
    await wire.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert wire.answers[0][1]["connection"] == "keep-alive"
    assert not wire.closing
    await wire.send(b"GET /a HTTP/1.0\r\n\r\n")
    assert wire.answers[1][1]["connection"] == "close"
    wire.assert_clean()


@STEPS
async def test_closes_when_the_client_asks_for_it(step: int) -> None:
    wire = Wire(App(), step=step)
    await wire.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert wire.answers[0][1]["connection"] == "close"
    assert not wire.aborted
    wire.assert_clean()


async def test_closes_when_the_handler_asks_for_it() -> None:
    async def handler(request: Request) -> Response:
        return Response(403, [], b"no", close=True)

    wire = Wire(App(handler))
    await wire.send(GET + GET)
    assert [(status, headers["connection"]) for status, headers, _ in wire.answers] == [(403, "close")]
    assert len(wire.app.requests) == 1


async def test_head_204_and_304_have_no_body_and_the_connection_stays_in_step() -> None:
    async def handler(request: Request) -> Response:
        match request.target:
            case b"/head":
                return Response(200, [("Content-Length", "1234")], Slices([b"x" * 1234]))
            case b"/204":
                return Response(204, [], b"")
            case b"/304":
                return Response(304, [("ETag", "e")], b"")
        return Response(200, [], b"end")

    wire = Wire(App(handler))
    for target in (b"/head", b"/204", b"/304", b"/end"):
        method = b"HEAD" if target == b"/head" else b"GET"
        await wire.send(method + b" " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    head, empty, unchanged, end = parse_answers(bytes(wire.received), heads=[0])
    assert head[1]["content-length"] == "1234"
    assert "content-length" not in empty[1]
    assert "content-length" not in unchanged[1]
    assert end[2] == b"end"
    await wire.disconnect()
    wire.assert_clean()


# ---- 100-continue ----------------------------------------------------------------------------------------------------
async def test_sends_100_continue_at_the_first_read_and_only_then() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], await read_all(request))

    wire = Wire(App(handler))
    await wire.send(put(b"", "Expect: 100-continue", length=5))
    assert wire.received == b""
    gate.set()
    await wire.settle()
    assert wire.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(b"hello")
    assert wire.received.count(b"100 Continue") == 1
    assert wire.answers[0][2] == b"hello"
    await wire.send(GET)
    assert len(wire.answers) == 2
    await wire.disconnect()


async def test_a_refused_upload_that_waits_for_100_gets_the_answer_and_the_end() -> None:
    async def handler(request: Request) -> Response:
        return Response(403, [], b"denied")

    wire = Wire(App(handler))
    await wire.send(put(b"", "Expect: 100-continue", length=5))
    assert b"100 Continue" not in wire.received
    assert [(status, headers["connection"]) for status, headers, _ in wire.answers] == [(403, "close")]
    assert wire.shut
    await wire.end()
    wire.assert_clean()


async def test_sends_no_100_when_the_body_is_there_already() -> None:
    wire = Wire(App())
    await wire.send(put(b"hello", "Expect: 100-continue"))
    assert b"100 Continue" not in wire.received
    assert wire.answers[0][2] == echoed(b"hello")
    await wire.disconnect()


# ---- what is no request ----------------------------------------------------------------------------------------------
@STEPS
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (put(b"hello", "Content-Length: 5"), BadRequest),
        (put(b"hello", "Transfer-Encoding: chunked"), BadRequest),
        (b"GET / HTTP/1.1\r\nHost: h\r\nx: 1\r\n y\r\n\r\n", BadRequest),
        (b"GET / HTTP/1.1\r\n\r\n", BadRequest),
        (put(b"hello", "Expect: wonders"), UnsupportedExpectation),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", BadRequest),
        (b"hello\r\n\r\n", BadRequest),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 300 + b"\r\n", HeadTooLarge),
        (b"GET / HTTP/1.1\r\nHost: h\r\nx: " + b"y" * 40_000, HeadTooLarge),
    ],
)
async def test_refuses_what_is_no_request_and_closes(data: bytes, error: type[Exception], step: int) -> None:
    wire = Wire(App(), step=step)
    await wire.send(data + GET)
    assert wire.app.requests == []
    assert [type(refused) for refused in wire.app.refused] == [error]
    assert [(status, headers["connection"]) for status, headers, _ in wire.answers] == [
        (417 if error is UnsupportedExpectation else 400, "close")
    ]
    assert wire.shut
    assert not wire.closing, "a client that is sending still must be heard out, or it loses the answer"
    await wire.end()
    wire.assert_clean()


async def test_a_request_hidden_behind_a_refused_one_is_never_served() -> None:
    wire = Wire(App())
    await wire.send(put(b"", "Transfer-Encoding: chunked", length=4) + b"0\r\n\r\n" + GET)
    await wire.send(GET)
    assert wire.app.requests == []
    await wire.disconnect()


async def test_broken_chunks_fail_the_read_and_end_the_connection() -> None:
    wire = Wire(App())
    await wire.send(CHUNKED + b"5\r\nhelloX\r\n" + GET)
    assert [type(error) for error in wire.app.raised] == [IncompleteBody]
    assert [(status, headers["connection"]) for status, headers, _ in wire.answers] == [(400, "close")]
    assert len(wire.app.requests) == 1
    await wire.disconnect()


# ---- the end of input ------------------------------------------------------------------------------------------------
@STEPS
async def test_a_client_that_shuts_its_side_after_its_requests_gets_all_answers(step: int) -> None:
    gate = asyncio.Event()

    async def slow(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], request.target)

    wire = Wire(App(slow), step=step)
    await wire.send(GET + GET + GET)
    await wire.end()
    gate.set()
    await wire.settle()
    assert [status for status, _, _ in wire.answers] == [200] * 3
    assert not wire.aborted
    wire.assert_clean()


async def test_a_body_that_ends_early_is_incomplete_and_says_so() -> None:
    wire = Wire(App())
    await wire.send(put(b"abc", length=10))
    await wire.end()
    assert [type(error) for error in wire.app.raised] == [IncompleteBody]
    assert [(status, body) for status, _, body in wire.answers] == [(400, b"IncompleteBody")]
    wire.assert_clean()


async def test_a_client_that_goes_in_the_middle_of_a_head_is_dropped_silently() -> None:
    wire = Wire(App())
    await wire.send(GET[:10])
    await wire.end()
    assert wire.received == b""
    assert wire.app.refused == []
    wire.assert_clean()


async def test_a_lost_connection_ends_a_body_read() -> None:
    wire = Wire(App())
    await wire.send(put(b"abc", length=10))
    await wire.disconnect()
    assert [type(error).__name__ for error in wire.app.raised] == ["ClientDisconnected"]
    assert wire.app.refused == []
    wire.assert_clean()


async def test_a_lost_connection_does_not_cancel_a_handler_at_work() -> None:
    gate, done = asyncio.Event(), list[str]()

    async def commit(request: Request) -> Response:
        await gate.wait()
        done.append("committed")
        return Response(200, [], Slices([b"x"]))

    wire = Wire(App(commit))
    await wire.send(GET)
    await wire.disconnect()
    assert wire.shared.connections
    gate.set()
    await wire.settle()
    assert done == ["committed"]
    assert wire.app.raised == []
    wire.assert_clean()


async def test_a_lost_connection_ends_a_stream_and_closes_it_once() -> None:
    stream = Slices([b"x" * 1000] * 1000)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    wire = Wire(App(handler), Limits(write_high=1500), room=5000)
    await wire.send(GET)
    assert stream.given < 10_000
    assert stream.closed == 0
    await wire.disconnect()
    assert stream.closed == 1
    assert stream.given < 10_000
    wire.assert_clean()


# ---- drain and crowd -------------------------------------------------------------------------------------------------
async def test_draining_closes_after_the_running_request() -> None:
    gate = asyncio.Event()

    async def slow(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], b"done")

    wire = Wire(App(slow))
    await wire.send(GET + GET)
    wire.shared.draining = True
    wire.connection.drain()
    assert wire.connection.serving
    gate.set()
    await wire.settle()
    assert [(status, headers["connection"]) for status, headers, _ in wire.answers] == [(200, "close")]
    assert len(wire.app.requests) == 1
    await wire.end()
    wire.assert_clean()


@pytest.mark.parametrize("sent", [b"", GET[:9]])
async def test_draining_closes_an_idle_connection_at_once(sent: bytes) -> None:
    wire = Wire(App())
    await wire.send(sent)
    wire.shared.draining = True
    wire.connection.drain()
    await wire.settle()
    wire.assert_clean()


async def test_cutting_cancels_the_handler() -> None:
    wire = Wire(App(lambda request: asyncio.sleep(3600)))  # type: ignore[arg-type, return-value]
    await wire.send(GET)
    wire.connection.cut()
    await wire.settle()
    assert [type(error) for error in wire.app.raised] == [asyncio.CancelledError]
    wire.assert_clean()


async def test_one_connection_too_many_is_told_so() -> None:
    wire = Wire(App(), Limits(connections=0))
    await wire.settle()
    assert [type(error) for error in wire.app.refused] == [Overloaded]
    assert wire.answers[0][1]["connection"] == "close"
    wire.assert_clean()
