"""What concurrent clients of one key were told, over kills, restarts and time-outs, has an order that explains all of it."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5

import pytest

from tests.conftest import MakeServer
from tests.linear import ABSENT, History, NotLinearizable, Op, check
from tests.rawclient import Answer, RawClient, Refused, Unknown
from tests.server import Server

KIB = 1 << 10
INLINE, FILE = 100, 300 * KIB
"""A body that is kept in the catalog, and one in files."""
CREATE = {"if-none-match": "*"}


class Register:
    """One key as a register: what is asked of it and what it answers goes into a history. Bodies name themselves."""

    def __init__(self, bucket: str, key: str, history: History, size: int) -> None:
        self.history = history
        self._bucket, self._key, self._size = bucket, key, size

    def name(self, number: int, turn: int) -> str:
        return f"{number}-{turn}"

    def body(self, name: str) -> bytes:
        return name.encode() + b" " + bytes(self._size)

    def step(self, client: RawClient, number: int, turn: int, chooser: random.Random) -> None:
        """One operation. Refused, Unknown: the server is away."""
        dice = chooser.random()
        if dice < 0.4:
            self._read(client, number)
        elif dice < 0.55:
            self._write(client, number, ABSENT)
        elif dice < 0.75:
            self._write(client, number, self.name(number, turn))
        elif dice < 0.85:
            self._swap(client, number, ABSENT, self.name(number, turn), CREATE)
        else:
            held = self._read(client, number)
            if held is not None:
                tag = {"if-match": f'"{md5(self.body(held)).hexdigest()}"'}
                self._swap(client, number, held, self.name(number, turn), tag)

    def _ask(self, op: Op, call: Callable[[], Answer]) -> Answer:
        """What was not sent, or refused with 503, had no effect; what got no answer, or 500, may have had."""
        try:
            answer = call()
        except Refused:
            self.history.forget(op)
            raise
        if answer.status == 503:
            self.history.forget(op)
        assert answer.status in (200, 204, 404, 412, 500, 503), answer
        return answer

    def _read(self, client: RawClient, number: int) -> str | None:
        with self.history.asks(number, "read") as op:
            answer = self._ask(op, lambda: client.call("GET", self._bucket, self._key))
            value = answer.body.split()[0].decode() if answer.status == 200 else ABSENT
            if answer.status in (200, 404):
                self.history.told(op, value)
            return value

    def _write(self, client: RawClient, number: int, value: str | None) -> None:
        method, body = ("DELETE", b"") if value is None else ("PUT", self.body(value))
        with self.history.asks(number, "write", value) as op:
            if self._ask(op, lambda: client.call(method, self._bucket, self._key, body=body)).status in (200, 204):
                self.history.told(op)

    def _swap(self, client: RawClient, number: int, expected: str | None, value: str, condition: dict[str, str]) -> None:
        with self.history.asks(number, "cas", value, expected) as op:
            body = self.body(value)
            answer = self._ask(op, lambda: client.call("PUT", self._bucket, self._key, headers=condition, body=body))
            if answer.status in (200, 404, 412):
                self.history.told(op, held=answer.status == 200)


def hammer(port: Callable[[], int], registers: Sequence[Register], clients: int, until: threading.Event, timeout: float) -> None:
    """Clients work on all registers until told to stop, over restarts and time-outs. They end when it is set."""

    def work(number: int) -> None:
        chooser, turn = random.Random(number), 0
        while not until.is_set():
            client = RawClient(port(), timeout)
            try:
                while not until.is_set():
                    turn += 1
                    chooser.choice(registers).step(client, number, turn, chooser)
            except Unknown:
                continue
            except Refused:
                time.sleep(0.01)
            finally:
                client.close()

    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(work, number) for number in range(clients)]:
            future.result()


def registers_of(bucket: str) -> list[Register]:
    return [Register(bucket, f"register {size}", History(), size) for size in (INLINE, FILE)]


def judge(registers: Sequence[Register]) -> Counter[str]:
    """Every history has an order; what was in them."""
    counts: Counter[str] = Counter()
    for register in registers:
        ops = register.history.ops
        check(ops)
        counts.update(f"{op.kind}{'' if op.end < float('inf') else ' without an answer'}" for op in ops)
    print(dict(counts))
    return counts


def test_histories_of_one_key_are_linearizable(server: Server, bucket: str) -> None:
    registers, until = registers_of(bucket), threading.Event()
    threading.Timer(3.0, until.set).start()
    hammer(lambda: server.port, registers, 8, until, timeout=30)
    counts = judge(registers)
    assert min(counts["read"], counts["write"], counts["cas"]) > 20, counts


def test_histories_are_linearizable_over_kills_and_restarts(make_server: MakeServer) -> None:
    server = make_server(4)
    with RawClient(server.port) as creator:
        assert creator.call("PUT", "bucket").status == 200
    registers, until = registers_of("bucket"), threading.Event()
    chooser = random.Random(4)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(hammer, lambda: server.port, registers, 8, until, 30.0)
        for _ in range(4):
            time.sleep(chooser.uniform(0.3, 0.8))
            server.kill()
            server.start()
        time.sleep(0.5)
        until.set()
        work.result()
    counts = judge(registers)
    assert sum(count for name, count in counts.items() if "without" in name) >= 4, counts


def test_histories_are_linearizable_when_clients_give_up_before_the_server_does(make_server: MakeServer) -> None:
    """The server is stopped in its tracks for longer than clients wait; what they had asked is done when it goes on."""
    server = make_server(4)
    with RawClient(server.port) as creator:
        assert creator.call("PUT", "bucket").status == 200
    registers, until = registers_of("bucket"), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(hammer, lambda: server.port, registers, 8, until, 0.4)
        for _ in range(4):
            time.sleep(0.4)
            server.send_signal(signal.SIGSTOP)
            time.sleep(0.6)
            server.send_signal(signal.SIGCONT)
        time.sleep(0.4)
        until.set()
        work.result()
    counts = judge(registers)
    assert sum(count for name, count in counts.items() if "without" in name) >= 4, counts


def test_a_history_with_one_forged_answer_is_not_taken(server: Server, bucket: str) -> None:
    """The recording is good enough to find one wrong answer in it."""
    registers, until = registers_of(bucket)[:1], threading.Event()
    threading.Timer(1.0, until.set).start()
    hammer(lambda: server.port, registers, 4, until, timeout=30)
    ops = registers[0].history.ops
    check(ops)
    reads = [op for op in ops if op.kind == "read" and op.value is not ABSENT]
    reads[len(reads) // 2].value = next(op.value for op in ops if op.kind == "write" and op.value is not ABSENT)
    with pytest.raises(NotLinearizable):
        check(ops)
