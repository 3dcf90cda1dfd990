"""The steady state of a transfer: its memory was taken for the first stripes and is used again for all that follow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from abixio.config import KIB, MIB
from abixio.message import Buffer
from abixio.store import buffers
from abixio.store.layout import stripe_size
from abixio.store.reader import open_reader
from abixio.store.upload import receive
from tests.store_memvolume import MemVolume, MemWriter
from tests.store_rig import Rig, Stored, noise, rig

WARM = 6
"""Stripes after which nothing new is taken: those in flight, and as many again."""
STRIPES = 24
SMALL = 96 * KIB
"""Bytes of Python objects in flight at any moment: futures, calls, views. A stripe has 4 MiB."""
PER_STRIPE = 4 * KIB
"""What stays of one: 8 bytes per block and shard for the footers."""


class Meter:
    """Looks at the interpreter's own memory and at the buffers that are made, once the warm-up is over."""

    def __init__(self) -> None:
        self.made = 0
        self.stripes = 0
        self.start = self.peak = self.end = 0

    def stripe(self) -> None:
        self.stripes += 1
        if self.stripes == WARM:
            tracemalloc.start()
            self.start = tracemalloc.get_traced_memory()[0]
        elif self.stripes == STRIPES:
            self.end, self.peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()

    def check(self) -> None:
        assert self.stripes >= STRIPES
        assert self.made <= 3, f"{self.made} buffers were made for {self.stripes} stripes: at most three are in use at a time"
        assert self.peak < SMALL + PER_STRIPE * (STRIPES - WARM), f"{self.peak} bytes at once"
        assert self.end - self.start < SMALL + PER_STRIPE * (STRIPES - WARM), f"{self.end - self.start} bytes stayed"


@contextmanager
def metered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    meter, pages = Meter(), buffers._pages

    def counted(size: int) -> object:
        meter.made += 1
        return pages(size)

    monkeypatch.setattr(buffers, "_pages", counted)
    try:
        yield meter
    finally:
        tracemalloc.stop()


class Endless:
    """A body that is the same stripe again and again, filled in place as a socket does."""

    def __init__(self, size: int, each: Callable[[], None]) -> None:
        self.length: int | None = size
        self.algorithms: Sequence[str] = ()
        self._data, self._each, self._at = memoryview(noise(4 * MIB)), each, 0

    async def readinto(self, view: memoryview) -> int:
        assert self.length is not None
        count = min(len(view), self.length - self._at, len(self._data))
        view[:count] = self._data[:count]
        self._at += count
        self._each()
        return count

    def verify(self, digests: object) -> dict[str, str]:
        return {}


def forget(volumes: Sequence[MemVolume], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is not kept: the test is about the way there."""

    def write(self: MemWriter, buffers: Sequence[Buffer]) -> None:
        assert buffers

    monkeypatch.setattr(MemWriter, "write", write)


@pytest.mark.parametrize(("n", "ftt", "real_md5"), [(1, 0, False), (1, 0, True), (4, 1, False)])
async def test_an_upload_allocates_nothing_per_stripe(n: int, ftt: int, real_md5: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(n) as r:
        forget(r.volumes, monkeypatch)
        with metered(monkeypatch) as meter:
            layout = r.full(ftt)
            source = Endless((STRIPES + 2) * stripe_size(layout), meter.stripe)
            received = await receive(r.pool, layout, 1, source, "auto", real_md5)
            meter.check()
        await received.discard()


async def read(r: Rig, stored: Stored, size: int, meter: Meter) -> None:
    reader = await open_reader(r.pool, stored.record, stored.rows)
    at, marks = 0, iter(range(0, size, size // (STRIPES + 2)))
    mark = next(marks)
    async for piece in reader.stream(0, size):
        at += len(piece)
        del piece
        while at > mark and mark is not None:
            meter.stripe()
            mark = next(marks, size)
    assert at == size
    await reader.aclose()


@pytest.mark.parametrize("lost", [(), (0,), (0, 1)])
async def test_a_download_allocates_nothing_per_stripe(lost: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """With shards lost, too: what is rebuilt is rebuilt in the same few pieces of memory."""
    async with rig(5) as r:
        r.chunk = 128 * KIB  # type: ignore[misc]
        size = (STRIPES + 2) * stripe_size(r.layout(2))
        stored = await r.put(noise(size), 2)
        for index in lost:
            r.volumes[stored.record.layout.slots[index]].shards.clear()  # type: ignore[union-attr]
        with metered(monkeypatch) as meter:
            await read(r, stored, size, meter)
            meter.check()


async def test_a_meter_sees_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with metered(monkeypatch) as meter:
        for _ in range(STRIPES):
            meter.stripe()
            kept = [buffers._pages(MIB), bytearray(MIB)]
        assert kept
        assert meter.made == STRIPES
        with pytest.raises(AssertionError, match="buffers were made"):
            meter.check()
        meter.made = 0
        with pytest.raises(AssertionError, match="bytes at once"):
            meter.check()
