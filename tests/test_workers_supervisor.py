"""The supervisor and its workers: what they tell each other, and when a worker that dies is started again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from abixio.config import Config
from abixio.errors import StartupError
from abixio.message import Request, Response
from abixio.store import crew
from abixio.store.crew import Crew
from abixio.workers import seat as seats
from abixio.workers import supervisor
from abixio.workers.channel import Channel, Dismissed, Failed, Message, Noticed, Pool, Prepared, Serving
from abixio.workers.relay import HeldBody, Relay, RelayServer
from abixio.workers.seat import Post, Seat
from abixio.workers.supervisor import Supervisor

POOL = Pool(1, {0: "/v0"}, "access", "secret", None, [])


# ---- a worker's seat -------------------------------------------------------------------------------------------------
@pytest.fixture
def memory() -> Iterator[int]:
    fd = crew.create(2)
    yield fd
    os.close(fd)


Take = Callable[[int], tuple[Seat, Channel]]


@pytest.fixture
def taken(memory: int) -> Iterator[Take]:
    ends: list[Channel] = []

    def take(number: int) -> tuple[Seat, Channel]:
        ours, theirs = Channel.pair()
        ends.extend((ours, theirs))
        return Seat(Crew(memory, number, 2, 0.0), ours, False, Post("", b"", None)), theirs

    yield take
    for end in ends:
        end.close()


async def test_what_a_worker_notices_is_told_together_and_reaches_the_runner(
    taken: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "SOON", 0.01)
    worker, above = taken(1)
    worker.notice(b"s", b"one")
    worker.notice(b"s", b"two")
    await asyncio.sleep(0.05)
    heard = above.receive()
    assert heard == (Noticed([(b"s", b"one"), (b"s", b"two")]), [])
    runner, below = taken(0)
    found = list[tuple[bytes, bytes]]()
    runner.on_notice = lambda space, key: found.append((space, key))
    runner.listen(lambda: None)
    below.send(heard[0])
    await asyncio.sleep(0.01)
    assert found == [(b"s", b"one"), (b"s", b"two")]


async def test_announcements_that_nobody_hears_hold_up_nobody(taken: Take) -> None:
    worker, _above = taken(1)
    for number in range(50_000):
        worker.notice(b"s" * 16, b"%1000d" % number)
    await asyncio.sleep(0)


async def test_the_runner_waits_to_be_dismissed_and_others_do_not(taken: Take) -> None:
    runner, above = taken(0)
    runner.listen(lambda: None)
    waiting = asyncio.create_task(runner.dismissed())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    above.send(Dismissed(True))
    assert await waiting
    other, _ = taken(1)
    other.listen(lambda: None)
    assert not await other.dismissed()


async def test_a_worker_hears_of_the_end_of_its_supervisor_and_then_nothing_ended_in_good_order(taken: Take) -> None:
    runner, above = taken(0)
    gone = list[bool]()
    runner.listen(lambda: gone.append(True))
    above.close()
    assert not await runner.dismissed()
    assert gone == [True]


# ---- the supervisor --------------------------------------------------------------------------------------------------
class FakeChild:
    """A worker that does what the test says."""

    made: list[FakeChild]

    def __init__(self, number: int, heard: Callable[[Message, list[int]], None], died: Callable[[Any, int], None]) -> None:
        self.number, self.say, self._died, self.pid = number, heard, died, 1000 + len(self.made)
        self.serving, self.began = False, 0.0
        self.told: list[Message] = []
        self.signals: list[int] = []
        self.made.append(self)

    def tell(self, message: Message, descriptors: list[int]) -> None:
        self.told.append(message)

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)

    def die(self, status: int) -> None:
        self._died(self, status)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[FakeChild]:
    FakeChild.made = []
    monkeypatch.setattr(supervisor, "Child", FakeChild)
    monkeypatch.setattr(supervisor, "announce", lambda text, addresses: None)
    return FakeChild.made


async def started(children: list[FakeChild]) -> tuple[Supervisor, asyncio.Task[int]]:
    """A server of two workers that serve."""
    found = Supervisor(Config(workers=2))
    task = asyncio.create_task(found.run())
    await asyncio.sleep(0)
    assert [len(child.told) for child in children] == [1, 0], "the second one waits for the first"
    children[0].say(Prepared(POOL, "banner"), [])
    assert len(children[1].told) == 1
    for child in children:
        child.say(Serving([("127.0.0.1", 1)]), [])
    return found, task


async def test_a_worker_that_dies_is_started_again_later_and_later(
    children: list[FakeChild], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, task = await started(children)
    pauses = list[float]()

    def at_once(pause: float, call: Callable[..., None], *args: Any) -> None:
        pauses.append(pause)
        call(*args)

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", at_once)
    with caplog.at_level(logging.ERROR):
        children[1].die(-9)
        for _ in range(9):
            assert children[-1].number == 1
            children[-1].die(1)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == supervisor.LONGEST
    assert "worker 1 (process 1001) was ended by signal 9" in caplog.text
    assert children[-1].told[0].pool == POOL  # type: ignore[union-attr]
    monkeypatch.undo()
    found._stop(signal.SIGTERM)
    children[-1].die(0)
    children[0].die(0)
    assert await task == 0
    assert children[0].told[-1] == Dismissed(False), "one of them did not end well"


async def test_the_runner_is_dismissed_when_all_others_have_ended_in_good_order(children: list[FakeChild]) -> None:
    found, task = await started(children)
    found._stop(signal.SIGTERM)
    assert [child.signals for child in children] == [[signal.SIGTERM]] * 2
    assert len(children[0].told) == 1
    children[1].die(0)
    assert children[0].told[-1] == Dismissed(True)
    children[0].die(0)
    assert await task == 0


async def test_a_worker_that_does_not_end_well_makes_the_status_of_all(children: list[FakeChild]) -> None:
    found, task = await started(children)
    found._stop(signal.SIGTERM)
    children[1].die(1)
    assert children[0].told[-1] == Dismissed(False)
    children[0].die(0)
    assert await task == 1


async def test_a_server_of_which_a_worker_cannot_start_ends_with_its_words(children: list[FakeChild]) -> None:
    task = asyncio.create_task(Supervisor(Config(workers=2)).run())
    await asyncio.sleep(0)
    children[0].say(Failed("the disk is on fire"), [])
    children[0].die(3)
    with pytest.raises(StartupError, match="the disk is on fire"):
        await task
    assert children[1].signals == [signal.SIGKILL]


async def test_a_second_ctrl_c_ends_all_at_once(children: list[FakeChild]) -> None:
    found, task = await started(children)
    found._stop(signal.SIGINT)
    found._stop(signal.SIGTERM)
    assert signal.SIGKILL not in children[0].signals
    found._stop(signal.SIGINT)
    assert [child.signals[-1] for child in children] == [signal.SIGKILL] * 2
    for child in (children[1], children[0]):
        child.die(-9)
    assert await task == 1


# ---- requests for the runner -----------------------------------------------------------------------------------------
class Echo:
    """Tells what it was asked."""

    async def __call__(self, request: Request) -> Response:
        room = bytearray(100)
        count = await request.body.readinto(memoryview(room))
        said = f"{request.method} {request.target.decode()} {request.headers} {request.peer} {request.secure} ".encode()
        return Response(201, [("x", "y")], said + bytes(room[:count]), True)

    def refuse(self, error: Exception, request_id: str) -> Response:
        raise AssertionError


def request(body: bytes = b"") -> Request:
    return Request("POST", b"/_admin/v1/x", {"a": "b"}, HeldBody(body, len(body)), "ID", "1.2.3.4", True)


async def test_a_request_reaches_the_runner_as_it_came_and_its_answer_comes_back() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(b"")
    listener.listen()
    name = listener.getsockname()[1:].decode("ascii")
    server = RelayServer(Echo(), b"token")
    await server.start(listener)
    found = await Relay(name, b"token")(request(b"body"))
    assert (found.status, found.headers, found.close) == (201, [("x", "y")], True)
    assert found.body == b"POST /_admin/v1/x {'a': 'b'} 1.2.3.4 True body"
    refused = await Relay(name, b"other")(request())
    assert refused.status == 503
    nowhere = await Relay("nobody-has-this-name", b"token")(request())
    assert nowhere.status == 503
    assert isinstance(nowhere.body, bytes)
    assert b"started again" in nowhere.body
    server.close()
