"""Answers that are there at once: sent in the call that brought the request, one write each, in order with all others."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from abixio.http.limits import Limits
from abixio.http.response import render_again, render_head
from abixio.message import Answer, Repeated, Request, Response, Template
from tests.transport_kit import GET, App, Wire

TEMPLATE = Template(200, [("a", "b"), ("c", "ü")], 1)


class AtOnce(App):
    """Calls a function in place of a handler; where it gives None, waits and says so."""

    def __init__(self, answer: Callable[[Request], Answer | None]) -> None:
        super().__init__()
        self.answer = answer

    def __call__(self, request: Request) -> Answer | Coroutine[Any, Any, Response]:  # type: ignore[override]
        self.requests.append(request)
        return self.answer(request) or self.later()

    async def later(self) -> Response:
        return Response(200, [], b"later")


def ready(request: Request) -> Answer:
    return Response(200, [("x", "y")], b"at once")


def again(request: Request) -> Answer:
    return Repeated(TEMPLATE, "ID", b"again")


def ask(target: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: h\r\n{more}\r\n".encode()


class Writes(Wire):
    """Counts writes."""

    writes = 0

    def write(self, data: Any) -> None:
        self.writes += 1
        super().write(data)


@pytest.mark.parametrize("step", [1, 1 << 16])
@pytest.mark.parametrize(("answer", "body"), [(ready, b"at once"), (again, b"again")])
async def test_it_is_one_write_and_the_connection_lives_on(answer: Any, body: bytes, step: int) -> None:
    wire = Writes(AtOnce(answer), step=step)
    for count in (1, 2, 3):
        await wire.send(GET)
        assert wire.writes == count
    assert [(status, data) for status, _, data in wire.answers] == [(200, body)] * 3
    await wire.pass_time(Limits().idle_seconds - 1)
    assert not wire.closing
    await wire.pass_time(2)
    assert wire.lost
    wire.assert_clean()


async def test_pipelined_answers_come_in_order_whether_at_once_or_later() -> None:
    wire = Wire(AtOnce(lambda request: {b"/now": ready, b"/again": again, b"/wait": lambda _: None}[request.target](request)))
    targets = ["/now", "/wait", "/again", "/again", "/wait", "/now"] * 50
    await wire.send(b"".join(map(ask, targets)))
    bodies = {"/now": b"at once", "/again": b"again", "/wait": b"later"}
    assert [data for _, _, data in wire.answers] == [bodies[target] for target in targets]
    await wire.disconnect()
    wire.assert_clean()


@pytest.mark.parametrize("answer", [ready, again, lambda _: Response(200, [], b"", close=True)])
async def test_the_connection_ends_when_the_client_the_answer_or_the_server_says_so(answer: Any) -> None:
    wire = Wire(AtOnce(answer))
    await wire.send(ask("/", "Connection: close\r\n"))
    assert wire.lost
    assert wire.answers[0][1]["connection"] == "close"
    wire.assert_clean()
    wire = Wire(AtOnce(answer))
    wire.shared.draining = True
    await wire.send(GET)
    assert (wire.lost, wire.answers[0][1]["connection"]) == (True, "close")
    wire.assert_clean()


async def test_http_1_0_is_told_that_the_connection_stays() -> None:
    wire = Wire(AtOnce(again))
    await wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
    assert [headers["connection"] for _, headers, _ in wire.answers] == ["keep-alive"] * 2
    await wire.disconnect()


async def test_a_client_that_does_not_read_is_waited_for_before_its_next_answer() -> None:
    wire = Wire(AtOnce(again), room=10)
    await wire.send(GET)
    await wire.send(GET)
    await wire.send(GET)
    assert len(wire.received) == 10
    await wire.read(10_000)
    assert [data for _, _, data in wire.answers] == [b"again"] * 3
    await wire.disconnect()
    wire.assert_clean()


async def test_an_answer_beyond_the_write_buffer_goes_the_long_way() -> None:
    wire = Wire(AtOnce(lambda _: Response(200, [], bytes(5000))), Limits(write_high=2000), room=100)
    await wire.send(GET)
    await wire.pass_time(Limits().write_seconds + 1)
    assert wire.lost  # as a client that takes nothing
    wire.assert_clean()


async def test_what_fails_at_once_is_answered_and_logged_as_what_fails_later(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Request) -> Answer:
        raise KeyError("secret")

    wire = Wire(AtOnce(fail))
    await wire.send(GET)
    assert [status for status, _, _ in wire.answers] == [500]
    assert caplog.records[-1].levelname == "ERROR"
    wire = Wire(AtOnce(lambda _: Response(200, [("x", "a\nb")], b"")))
    await wire.send(GET)
    assert [status for status, _, _ in wire.answers] == [500]


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("headers", [[("a", "b"), ("c", "ü")], [("Content-Length", "9"), ("x", "€")], []])
def test_the_head_of_a_repeated_answer_is_that_of_the_answer_made_out(
    headers: list[tuple[str, str]], keep: bool, close: bool
) -> None:
    for place in range(len(headers) + 1):
        template = Template(200, headers, place)
        for id in ("A", "B"):
            answer = Repeated(template, id, b"body")
            length = None if ("Content-Length", "9") in headers else 4
            assert render_again(answer, close=close, keep=keep) == render_head(
                200, answer.response().headers, length, close=close, keep=keep
            )
