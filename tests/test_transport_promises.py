"""Small bodies that are waited for with their head; and answers that are promised, and kept to whom they belong, or to nobody."""

from __future__ import annotations

import asyncio
import random
from asyncio import Future

import pytest

from abixio.accesslog import Line
from abixio.http.limits import Limits
from abixio.logged import Logged
from abixio.message import Request, Response
from abixio.transport.protocol import Stage
from tests.transport_kit import CHUNKED, DIRECT, GET, App, Slices, Wire, echo, echoed, put

SMALL = Limits().gather_bytes
GATHER = Limits().gather_seconds


class Promising(App):
    """Promises an answer to every request whose body is at hand; the test keeps it. Others are read, and echoed."""

    def __init__(self) -> None:
        super().__init__(echo)
        self.promised: list[Future[Response]] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: Request):  # type: ignore[no-untyped-def,override]
        data = request.body.at_hand()
        if data is None:
            return super().__call__(request)
        self.requests.append(request)
        self.bodies.append(data)
        self.promised.append(asyncio.get_running_loop().create_future())
        return self.promised[-1]

    def keep(self, answer: bytes | Response | Exception = b"kept") -> None:
        """The promise that was made last."""
        if isinstance(answer, Exception):
            self.promised[-1].set_exception(answer)
        else:
            self.promised[-1].set_result(Response(200, [], answer) if isinstance(answer, bytes) else answer)


class Writes(Wire):
    """Counts writes."""

    app: Promising
    writes = 0

    def write(self, data: object) -> None:
        self.writes += 1
        super().write(data)


def promising(limits: Limits | None = None, step: int = 1 << 16, room: int = 1 << 40, secure: bool = False) -> Writes:
    return Writes(Promising(), limits or Limits(), step, room, secure)


def said(wire: Wire) -> list[tuple[int, bytes]]:
    return [(status, body) for status, _, body in wire.answers]


# ---- promises --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("step", [1, 1 << 16])
async def test_a_promise_is_kept_in_one_write_and_the_connection_lives_on(step: int, secure: bool) -> None:
    wire = promising(step=step, secure=secure)
    for count, body in enumerate((b"first", b"", b"third"), 1):
        await wire.send(put(body))
        assert wire.writes == count - 1 and wire.app.bodies[-1] == body
        await wire.pass_time(1000)  # a commit has deadlines of its own
        wire.app.keep(b"to " + body)
        await wire.settle()
        assert wire.writes == count
    assert said(wire) == [(200, b"to first"), (200, b"to "), (200, b"to third")]
    await wire.pass_time(Limits().idle_seconds + 1)
    wire.assert_clean()


async def test_a_promise_that_is_kept_already_is_no_less_one() -> None:
    class Kept(Promising):
        def __call__(self, request: Request):  # type: ignore[no-untyped-def,override]
            answer = super().__call__(request)
            self.keep()
            return answer

    wire = Wire(Kept(), Limits())
    await wire.send(put(b"a") + GET + put(b"b"))
    assert said(wire) == [(200, b"kept")] * 3
    await wire.disconnect()
    wire.assert_clean()


async def test_pipelined_requests_wait_for_the_promise_before_them() -> None:
    wire = promising()
    await wire.send(put(b"a") + put(b"bb") + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + put(b"ccc") + GET)
    for body in (b"a", b"bb", b"ccc", b""):
        assert wire.app.bodies[-1] == body
        wire.app.keep(body)
        await wire.settle()
    assert said(wire) == [(200, b"a"), (200, b"bb"), (200, echoed(b"x")), (200, b"ccc"), (200, b"")]
    await wire.disconnect()
    wire.assert_clean()


async def test_what_comes_while_a_promise_is_open_is_not_read_without_end() -> None:
    wire = promising()
    await wire.send(put(b"a"))
    await wire.send(put(b"b" * 1000) * 1000)
    assert not wire.reading and len(wire.connection.ahead) <= 2 * Limits().ahead_bytes
    while wire.app.promised and not wire.app.promised[-1].done():
        wire.app.keep(b"x")
        await wire.settle()
    assert said(wire) == [(200, b"x")] * 1001 and wire.reading
    await wire.disconnect()
    wire.assert_clean()


async def test_each_connection_gets_its_own_answer() -> None:
    wires = [promising() for _ in range(20)]
    for number, wire in enumerate(wires):
        await wire.send(put(b"%d" % number))
    for wire in random.Random(1).sample(wires, len(wires)):
        wire.app.keep(wire.app.bodies[0])
    for number, wire in enumerate(wires):
        await wire.settle()
        assert said(wire) == [(200, b"%d" % number)]
        await wire.disconnect()
    wires[0].assert_clean()


@pytest.mark.parametrize("end", [b"kept", Response(200, [], Slices([b"a", b"b"])), KeyError("a defect")])
async def test_a_client_that_is_gone_gets_nothing_and_leaves_nothing(end: bytes | Response | Exception) -> None:
    wire = promising()
    await wire.send(put(b"a"))
    await wire.disconnect()
    assert wire.shared.connections  # somebody works for it still
    wire.app.keep(end)
    await wire.settle()
    assert wire.received == b"" and (not isinstance(end, Response) or end.body.closed == 1)  # type: ignore[union-attr]
    wire.assert_clean()


@pytest.mark.parametrize("secure", [True, False])
async def test_a_client_that_has_said_all_gets_its_answer_where_that_can_be(secure: bool) -> None:
    wire = promising(secure=secure)
    await wire.send(put(b"a"))
    await wire.end()
    wire.app.keep()
    await wire.settle()
    assert said(wire) == ([] if secure else [(200, b"kept")])
    wire.assert_clean()


async def test_a_promise_that_fails_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    wire = promising()
    await wire.send(put(b"a"))
    wire.app.keep(KeyError("secret"))
    await wire.settle()
    assert [status for status, _ in said(wire)] == [500] and caplog.records[-1].levelname == "ERROR"
    await wire.send(put(b"b"))
    wire.app.keep()
    await wire.settle()
    assert said(wire)[1:] == [(200, b"kept")]
    await wire.disconnect()
    wire.assert_clean()


@pytest.mark.parametrize("answer", [
    Response(200, [], Slices([b"a" * 100, b"b"])), Response(200, [], bytes(5000)), Response(200, [("Content-Length", "9")], b""),
])
async def test_what_cannot_be_sent_at_once_goes_the_long_way(answer: Response) -> None:
    wire = promising(Limits(write_high=2000))
    await wire.send(put(b"a"))
    wire.app.keep(answer)
    await wire.settle()
    assert len(wire.answers) == 1
    await wire.disconnect()
    wire.assert_clean()


@pytest.mark.parametrize("more", [b"", GET])
async def test_the_connection_ends_when_somebody_says_so(more: bytes) -> None:
    for headers, close, draining in ((["Connection: close"], False, False), ([], True, False), ([], False, True)):
        wire = promising()
        await wire.send(put(b"a", *headers) + more)
        wire.shared.draining = draining
        wire.connection.drain()
        assert wire.connection.serving
        wire.app.keep(Response(200, [], b"last", close=close))
        await wire.settle()
        assert len(wire.answers) == 1 and wire.answers[0][1]["connection"] == "close"
        await wire.end()
        await wire.pass_time(Limits().linger_seconds + 1)
        wire.assert_clean()


async def test_a_server_that_ends_cuts_who_waits_and_does_not_forget_it_before_the_promise_is_kept() -> None:
    wire = promising()
    await wire.send(put(b"a"))
    wire.connection.cut()
    await wire.settle()
    assert wire.lost and wire.shared.connections and not wire.app.promised[-1].done()
    wire.app.keep()
    await wire.settle()
    wire.assert_clean()


# ---- small bodies ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 100, SMALL])
async def test_a_small_body_is_there_when_the_request_begins(size: int) -> None:
    body = random.Random(size).randbytes(size)
    wire = promising(step=max(1, size // 7))
    for _ in range(3):
        request = put(body)
        await wire.send(request[:-1])
        assert wire.connection._stage is Stage.GATHERING
        wire.app.promised.clear()
        await wire.send(request[-1:])
        wire.app.keep()
        await wire.settle()
    assert wire.app.bodies == [body] * 3 and said(wire) == [(200, b"kept")] * 3
    await wire.disconnect()
    wire.assert_clean()


async def test_it_is_not_waited_for_longer_than_a_moment() -> None:
    wire = promising()
    request = put(b"0123456789")
    await wire.send(request[:-6])
    await wire.pass_time(GATHER - 0.01)
    assert not wire.app.requests
    await wire.send(request[-6:-4])
    await wire.pass_time(0.02)
    assert len(wire.app.requests) == 1 and not wire.app.promised
    await wire.send(request[-4:] + put(b"next"))
    wire.app.keep()
    await wire.settle()
    assert said(wire) == [(200, echoed(b"0123456789")), (200, b"kept")]
    await wire.disconnect()
    wire.assert_clean()


async def test_a_slow_client_is_cut_like_any_other_then() -> None:
    wire = promising()
    await wire.send(put(b"0123456789")[:-6])
    await wire.pass_time(GATHER)
    await wire.pass_time(Limits().body_seconds)
    assert [status for status, _ in said(wire)] == [400]
    await wire.pass_time(Limits().linger_seconds + 1)
    wire.assert_clean()


@pytest.mark.parametrize("secure", [True, False])
async def test_a_client_that_ends_in_the_middle_of_it_is_told_or_forgotten(secure: bool) -> None:
    wire = promising(secure=secure)
    await wire.send(put(b"0123456789")[:-6])
    await wire.end()
    assert [status for status, _ in said(wire)] == [400]
    assert [type(error).__name__ for error in wire.app.raised] == ["IncompleteBody"]
    wire.assert_clean()
    wire = promising(secure=secure)
    await wire.send(put(b"0123456789")[:-6])
    await wire.disconnect()
    assert not wire.app.requests
    wire.assert_clean()


async def test_a_server_that_ends_begins_with_what_there_is() -> None:
    wire = promising()
    request = put(b"0123456789")
    await wire.send(request[:-6])
    wire.shared.draining = True
    wire.connection.drain()
    await wire.settle()
    assert len(wire.app.requests) == 1 and wire.connection.serving
    await wire.send(request[-6:])
    assert said(wire) == [(200, echoed(b"0123456789"))]
    wire.assert_clean()


@pytest.mark.parametrize("head", [
    put(b"", "Expect: 100-continue", length=10), put(b"", length=SMALL + 1), CHUNKED, b"POST / HTTP/1.1\r\nHost: h\r\n\r\n",
])
async def test_who_waits_for_an_answer_or_has_much_to_say_is_not_kept_waiting(head: bytes) -> None:
    wire = promising()
    await wire.send(head)
    assert len(wire.app.requests) == 1
    assert wire.received.startswith(b"HTTP/1.1 100 Continue\r\n") == (b"Expect" in head)
    await wire.disconnect()
    if wire.app.promised:
        wire.app.keep()
        await wire.settle()
    wire.assert_clean()


async def test_who_expects_to_be_told_and_sends_all_the_same_is_promised_an_answer() -> None:
    wire = promising()
    await wire.send(put(b"data", "Expect: 100-continue") + put(b"next"))
    for body in (b"data", b"next"):
        assert wire.app.bodies[-1] == body
        wire.app.keep(body)
        await wire.settle()
    assert said(wire) == [(200, b"data"), (200, b"next")]
    await wire.disconnect()
    wire.assert_clean()


async def test_any_cut_of_any_requests_gives_the_same_answers() -> None:
    chance = random.Random(3)
    for _ in range(30):
        bodies = [chance.randbytes(chance.choice([0, 1, 50, SMALL, SMALL + 1, 40_000])) for _ in range(5)]
        wire = promising(chance.choice([Limits(), DIRECT]), step=chance.choice([1 << 16, 1 << 16, 997]))
        data = b"".join(map(put, bodies))
        kept = 0
        while data or kept < len(wire.app.promised):
            count = chance.choice([1, 100, 5000, len(data)])
            await wire.send(data[:count])
            data = data[count:]
            if chance.random() < 0.2:
                await wire.pass_time(GATHER + 0.1)
            if kept < len(wire.app.promised) and chance.random() < 0.7:
                wire.app.keep(echoed(wire.app.bodies[kept]))
                kept += 1
                await wire.settle()
        assert said(wire) == [(200, echoed(body)) for body in bodies]
        await wire.disconnect()
        wire.assert_clean()


async def test_the_access_log_has_each_promise_once_with_what_became_of_it() -> None:
    lines: list[Line] = []

    class Log:
        def add(self, line: Line) -> None:
            lines.append(line)

    app = Promising()
    wire = Wire(Logged(app, Log()), Limits())  # type: ignore[arg-type]
    await wire.send(put(b"a"))
    assert not lines
    app.keep(b"four")
    await wire.settle()
    await wire.send(put(b"b", target="/b"))
    app.keep(KeyError("a defect"))
    await wire.settle()
    await wire.send(put(b"c"))
    await wire.disconnect()
    app.keep(Response(204))
    await wire.settle()
    assert [(line.method, line.target, line.status, line.bytes) for line in lines] == [
        ("PUT", "/p", 200, 4), ("PUT", "/b", 500, 0), ("PUT", "/p", 204, 0),
    ]
    assert [status for status, _ in said(wire)] == [200, 500]
    wire.assert_clean()
