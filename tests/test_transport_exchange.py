"""Answers that fail, and bodies that nobody reads, without sockets."""

from __future__ import annotations

import pytest

from abixio.message import Request, Response
from tests.transport_kit import CHUNKED, GET, App, Slices, Wire, deny, put

STEPS = pytest.mark.parametrize("step", [1, 5, 1 << 16])


# ---- handlers that fail ----------------------------------------------------------------------------------------------
async def test_a_defect_in_a_handler_is_logged_and_answered_and_the_connection_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        if request.target.startswith(b"/bad"):
            raise KeyError("secret")
        return Response(200, [], b"ok")

    wire = Wire(App(handler))
    await wire.send(b"GET /bad?X-Amz-Signature=abc HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    assert [status for status, _, _ in wire.answers] == [500, 200]
    record = caplog.records[-1]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert wire.app.requests[0].id in record.getMessage()
    assert "Signature" not in record.getMessage()
    await wire.disconnect()
    wire.assert_clean()


@pytest.mark.parametrize(
    "response",
    [
        Response(200, [("x", "a\r\nb")], b""), Response(101, [], b""), Response(200, [("Content-Length", "9")], b"abc"),
        Response(200, [], Slices([ValueError("at once")])), Response(200, [], Slices([b"toolong"], length=3)),
        Response(200, [], Slices([], length=3)), Response(200, [("x", "\n")], Slices([b"abc"])),
    ],
)  # fmt: skip
async def test_a_response_that_cannot_be_sent_becomes_a_500(response: Response) -> None:
    async def handler(request: Request) -> Response:
        return response

    wire = Wire(App(handler))
    await wire.send(GET)
    assert [status for status, _, _ in wire.answers] == [500]
    if isinstance(response.body, Slices):
        assert response.body.closed == 1
    await wire.disconnect()
    wire.assert_clean()


@pytest.mark.parametrize("slices", [[b"abc", ValueError("later")], [b"abc", b"defgh"], [b"abc"]])
async def test_a_stream_that_breaks_after_the_head_cuts_the_connection(slices: list[bytes | Exception]) -> None:
    stream = Slices(slices, length=6)

    async def handler(request: Request) -> Response:
        return Response(200, [], stream)

    wire = Wire(App(handler))
    await wire.send(GET + GET)
    assert wire.received.endswith(b"\r\n\r\nabc")
    assert wire.aborted
    assert stream.closed == 1
    wire.assert_clean()


async def test_an_application_that_cannot_even_refuse_loses_the_connection_only() -> None:
    class Mute(App):
        def refuse(self, error: Exception, request_id: str) -> Response:
            raise RuntimeError("no words")

    wire = Wire(Mute())
    await wire.send(b"nonsense\r\n\r\n")
    assert wire.received == b""
    wire.assert_clean()


# ---- bodies nobody reads ---------------------------------------------------------------------------------------------
@STEPS
async def test_a_small_unread_rest_is_dropped_and_the_connection_lives_on(step: int) -> None:
    wire = Wire(App(deny), step=step)
    await wire.send(put(b"", length=1000))
    assert [(status, headers.get("connection")) for status, headers, _ in wire.answers] == [(403, None)]
    await wire.send(b"x" * 999)
    assert len(wire.answers) == 1
    await wire.send(b"x" + GET + GET)
    assert len(wire.answers) == 3
    await wire.disconnect()
    wire.assert_clean()


@pytest.mark.parametrize("head", [put(b"", length=10**9), CHUNKED + b"5\r\nab"])
async def test_a_large_unread_rest_is_heard_for_a_while_so_that_the_answer_arrives(head: bytes) -> None:
    wire = Wire(App(deny))
    await wire.send(head)
    assert [(status, headers["connection"]) for status, headers, _ in wire.answers] == [(403, "close")]
    assert wire.shut
    await wire.send(b"x" * 1_000_000 + GET)
    assert not wire.outgoing, "everything is taken"
    assert not wire.closing
    assert len(wire.app.requests) == 1
    await wire.pass_time(9.9)
    assert not wire.closing
    await wire.pass_time(0.2)
    wire.assert_clean()


async def test_an_unread_chunked_body_that_is_there_whole_costs_no_connection() -> None:
    wire = Wire(App(deny))
    await wire.send(CHUNKED + b"2\r\nab\r\n0\r\n\r\n" + GET)
    assert [status for status, _, _ in wire.answers] == [403, 403]
    await wire.disconnect()


async def test_a_lingering_connection_ends_when_the_client_does() -> None:
    wire = Wire(App(deny))
    await wire.send(put(b"", length=10**9))
    await wire.end()
    assert not wire.aborted
    wire.assert_clean()
