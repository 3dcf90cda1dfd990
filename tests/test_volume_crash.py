"""kill -9 in the middle of a stream of changes: what was answered is there, whole; nothing half done is."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from abixio.errors import ShardMissing
from abixio.volume import names
from abixio.volume.interface import Change, Head, Insert, Row, State, Volume
from abixio.volume.local import LocalVolume
from tests.volume_contract import SPACE, row_id, store_shard, write_id
from tests.volume_fixtures import formatted

SIZE = 100_000
PER_ROUND = 3


def inline_bytes(number: int) -> bytes:
    return number.to_bytes(4, "big") * 1000


def file_bytes(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SIZE // 4)


def work(path: str, start: int, durable: bool) -> None:
    """The child: for each number one change of an inline row, a row with a file, and both heads; says the number when done."""
    volume = LocalVolume.open(path)
    number = start
    while True:
        store_shard(volume, write_id(2 * number), file_bytes(number), durable=durable)
        small, large = row_id(b"small", number), row_id(b"large", number)
        change: Change = [
            Insert(small, State.COMMITTED, 1, b"%d" % number, (write_id(2 * number + 1),), inline_bytes(number)),
            Insert(large, State.COMMITTED, 1, b"%d" % number, (write_id(2 * number),)),
            Head(SPACE, b"small", (number, 0)),
            Head(SPACE, b"large", (number, 0)),
        ]
        assert volume.apply([change], durable) == [None]
        os.write(1, b"%d\n" % number)
        number += 1


def killed_after(path: str, start: int, durable: bool, rounds: int) -> int:
    """Run the child, kill it at a random moment, and return the last number that it answered."""
    command = [sys.executable, "-c", f"from tests.test_volume_crash import work; work({path!r}, {start}, {durable})"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as child:
        assert child.stdout is not None
        answered = start - 1
        for _ in range(rounds):
            answered = int(child.stdout.readline())
        for _ in range(random.randrange(3000)):
            pass  # some hundred microseconds, so that the kill falls into different steps
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")[:-1]
        child.wait()
    return int(rest[-1]) if rest else answered


def check(volume: Volume, row: Row) -> None:
    """Whole: head, bytes and record agree."""
    number = row.id.seq
    assert row.record == b"%d" % number
    if row.id.key == b"small":
        assert row.inline is not None
        assert volume.inline(row.inline) == inline_bytes(number)
    else:
        shard = volume.open_shard(write_id(2 * number))
        assert shard.view == file_bytes(number)
        shard.close()


@pytest.mark.parametrize("durable", [False, True])
def test_what_was_answered_before_a_kill_is_there_whole(tmp_path: Path, durable: bool) -> None:
    path = formatted(tmp_path / "volume")
    start = 1
    for _ in range(PER_ROUND):
        answered = killed_after(path, start, durable, random.randrange(1, 40))
        volume = LocalVolume.open(path)
        assert volume.clean, "the kernel lived on"
        assert os.listdir(names.tmp(path)) == []
        small, large = volume.rows(SPACE, b"small"), volume.rows(SPACE, b"large")
        newest = small[0].id.seq
        assert newest in (answered, answered + 1), "all that was answered, and at most what was under way"
        assert [row.id.seq for row in small] == [row.id.seq for row in large] == list(range(newest, 0, -1))
        assert [row.id.seq for row in volume.scan(SPACE, b"", None, 10)] == [newest, newest]
        assert volume.notes()["seq"] == newest
        for row in small + large:
            check(volume, row)
        with pytest.raises(ShardMissing):
            volume.open_shard(write_id(2 * newest + 4))
        volume.close()
        start = newest + 1
