"""Heads that come again in the same bytes: answered by what answered them before, and as if the application had been asked."""

from __future__ import annotations

from typing import Any

import pytest

from abixio.message import Again, Answer, Repeated, Request, Template
from abixio.transport import known
from abixio.transport.known import Known
from tests.test_transport_at_once import AtOnce, Writes, ask
from tests.transport_kit import GET, Wire

HEAD = GET.replace(b"GET", b"HEAD")


class Repeating:
    """Answers each request with its number; from the first one on, all the same requests as long as `good`."""

    def __init__(self) -> None:
        self.template = Template(200, [], 0)
        self.good = True
        self.ids: list[str] = []
        self.wire = Writes(AtOnce(self.first))

    @property
    def asked(self) -> int:
        return len(self.wire.app.requests)

    def first(self, request: Request) -> Answer:
        return Repeated(self.template, request.id, b"made%d" % self.asked, self.again)

    def again(self, id: str) -> Repeated | None:
        self.ids.append(id)
        return Repeated(self.template, id, b"again", self.again) if self.good else None

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.wire.answers]


async def test_the_same_bytes_are_answered_without_asking_the_application() -> None:
    s = Repeating()
    for count in range(1, 4):
        await s.wire.send(GET)
        assert s.wire.writes == count
    assert s.bodies == [b"made1", b"again", b"again"]
    assert s.asked == 1
    ids = [headers["x-amz-request-id"] for _, headers, _ in s.wire.answers]
    assert ids[1:] == s.ids
    assert len(set(ids)) == 3
    assert all(headers.get("date") and "connection" not in headers for _, headers, _ in s.wire.answers)
    await s.wire.disconnect()
    s.wire.assert_clean()


async def test_other_connections_know_them_too() -> None:
    s = Repeating()
    await s.wire.send(GET)
    other = Wire(s.wire.app)
    other.shared.known = s.wire.shared.known
    await other.send(GET)
    assert [body for _, _, body in other.answers] == [b"again"]
    await other.disconnect()
    await s.wire.disconnect()


@pytest.mark.parametrize(
    "other",
    [HEAD, GET.replace(b"/", b"/x", 1), GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=1-2\r\n\r\n"), GET.replace(b"Host", b"host")],
)
async def test_any_other_byte_makes_it_another_request(other: bytes) -> None:
    s = Repeating()
    await s.wire.send(GET)
    await s.wire.send(other)
    assert s.asked == 2
    await s.wire.disconnect()


async def test_the_application_is_asked_when_the_answer_is_not_good_any_more() -> None:
    s = Repeating()
    await s.wire.send(GET)
    s.good = False
    await s.wire.send(GET)
    assert (s.bodies, s.asked, len(s.ids)) == ([b"made1", b"made2"], 2, 1)
    await s.wire.disconnect()


async def test_the_application_is_asked_when_that_fails() -> None:
    s = Repeating()
    s.again = lambda id: 1 / 0  # type: ignore[assignment, return-value, method-assign]
    await s.wire.send(GET)
    await s.wire.send(GET)
    assert (s.bodies, s.asked) == ([b"made1", b"made2"], 2)
    await s.wire.disconnect()


async def test_pipelined_and_torn_heads_are_read_as_all_others() -> None:
    s = Repeating()
    await s.wire.send(GET)
    await s.wire.send(GET + GET)
    await s.wire.send(GET[:5])
    await s.wire.send(GET[5:])
    assert s.bodies == [b"made1", b"made2", b"made3", b"made4"]
    await s.wire.send(GET)
    assert s.bodies[4:] == [b"again"]
    await s.wire.disconnect()


@pytest.mark.parametrize("more", ["Connection: close\r\n", "Connection: keep-alive\r\n"])
async def test_a_connection_that_ends_or_has_to_be_told_is_not_remembered(more: str) -> None:
    s = Repeating()
    await s.wire.send(ask("/", more).replace(b"1.1", b"1.0"))
    assert not s.wire.shared.known._known
    await s.wire.disconnect()


async def test_a_server_that_is_about_to_end_says_so() -> None:
    s = Repeating()
    await s.wire.send(GET)
    s.wire.shared.draining = True
    await s.wire.send(GET)
    assert (s.wire.lost, s.bodies[1], s.wire.answers[1][1]["connection"]) == (True, b"again", "close")
    s.wire.assert_clean()


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "KEPT", 3)
    found = Known()

    def again(number: int) -> Again:
        def answer(id: str) -> Any:
            return number

        return answer

    for number in range(9):
        found.keep(b"%d" % number, again(number))
    assert [number for number in range(9) if found.find(b"%d" % number) is not None] == [6, 7, 8]
    found.keep(bytes(known.LONGEST + 1), again(1))
    assert found.find(bytes(known.LONGEST + 1)) is None
