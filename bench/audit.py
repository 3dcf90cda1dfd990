"""What the data path copies and allocates, counted in one process: `python -m bench.audit [--mib 96]`.

Paths through the store over real volumes, four with 3+1 or one, in mode page-cache, and the way of an answer down to the
transport. What the sockets do is left out: a body comes as memory that is written straight into the buffer offered, and what a
reader gives is dropped.

    copied    bytes of the body that were in two places of our memory, per byte of it. A body is followed by the identity of the
              memory it is in: what is written to a file, or leaves, from elsewhere than where it came in was copied or computed
    buffers   made by the system for stripes, from the first stripe to the last
    python    KiB of Python's own memory at the peak over the start (tracemalloc)
    faults    minor page faults per MiB: fresh memory, and pages of maps
    user      seconds of processor time per GiB outside of the kernel, all threads
"""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from rich.console import Console
from rich.table import Table

from abixio.message import Buffer, Response
from abixio.store import buffers
from abixio.store.store import Store
from abixio.store.stored import Stored
from abixio.store.types import Bucket, PartRef, PutSpec, Reader
from abixio.transport.answer import send_stream
from abixio.volume import filemap, shardfile
from tests.store_local import Disks, quiet

MIB = 1 << 20


@dataclass
class Count:
    """What one path did."""

    name: str
    size: int
    copied: int = 0
    buffers: int = 0
    python: int = 0
    faults: int = 0
    seconds: float = 0.0

    def row(self) -> list[str]:
        mib = self.size / MIB
        return [
            self.name, f"{self.copied / self.size:.2f}", str(self.buffers), f"{self.python / 1024:.0f}",
            f"{self.faults / mib:.1f}", f"{self.seconds / mib * 1024:.2f}",
        ]


class Watch:
    """Follows the memory of bodies by hooks in what makes it, writes it and copies it."""

    def __init__(self, stack: ExitStack) -> None:
        self.copied = self.made = 0
        self.filled: set[int] = set()
        """Memory into which a body was received."""
        self.maps: set[int] = set()
        pages, room, write, copy = buffers._pages, filemap.FileMap.__init__, shardfile.ShardFileWriter.write, Stored.readinto

        def _pages(size: int) -> object:
            self.made += 1
            return pages(size)

        def _map(own: filemap.FileMap, fd: int, length: int) -> None:
            room(own, fd, length)
            self.maps.add(id(own.view.obj))

        def _write(own: shardfile.ShardFileWriter, pieces: Sequence[Buffer]) -> None:
            own_memory = [piece for piece in pieces if isinstance(piece, memoryview)]
            self.copied += sum(len(piece) for piece in own_memory if id(piece.obj) not in self.filled)
            write(own, pieces)

        async def _copy(own: Stored, view: memoryview) -> int:
            self.filled.add(id(view.obj))
            count = await copy(own, view)
            self.copied += count
            return count

        stack.enter_context(patch.object(buffers, "_pages", _pages))
        stack.enter_context(patch.object(filemap.FileMap, "__init__", _map))
        stack.enter_context(patch.object(shardfile.ShardFileWriter, "write", _write))
        stack.enter_context(patch.object(Stored, "readinto", _copy))

    def leave(self, piece: Buffer) -> None:
        if not (isinstance(piece, memoryview) and id(piece.obj) in self.maps):
            self.copied += len(piece)


class Body:
    """As a socket: the kernel writes into the memory that is offered."""

    def __init__(self, data: memoryview, watch: Watch) -> None:
        self.length: int | None = len(data)
        self.algorithms: Collection[str] = ()
        self._data, self._watch = data, watch

    async def readinto(self, view: memoryview) -> int:
        self._watch.filled.add(id(view.obj))
        part, self._data = self._data[: len(view)], self._data[len(view) :]
        view[: len(part)] = part
        return len(part)

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        return {}


class Wire:
    """A connection that takes everything at once."""

    largest = 1 << 40
    full = False

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def send(self, first: Buffer, second: Buffer = b"") -> None:
        """The head comes with the first slice, the others come alone."""
        self._watch.leave(second or first)

    async def drained(self) -> None:
        """It is, always."""


class Whole:
    """An object as the stream of an answer."""

    def __init__(self, reader: Reader) -> None:
        self.length = reader.info.size
        self._reader = reader

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._reader.stream(0, self.length)

    async def aclose(self) -> None:
        await self._reader.aclose()


class Audit:
    """The paths, one after the other."""

    def __init__(self, store: Store, bucket: Bucket, watch: Watch, data: memoryview) -> None:
        self.store, self.bucket, self.watch, self.data = store, bucket, watch, data
        self.counts: list[Count] = []

    async def measure(self, name: str, size: int, work: Callable[[], Awaitable[Any]]) -> None:
        """Twice: a first time for time and faults, then with tracemalloc, which slows down what it looks at."""
        count, watch = Count(name, size), self.watch
        watch.copied = watch.made = 0
        before = resource.getrusage(resource.RUSAGE_SELF)
        await work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        count.seconds, count.faults = after.ru_utime - before.ru_utime, after.ru_minflt - before.ru_minflt
        count.copied, count.buffers = watch.copied, watch.made
        tracemalloc.start()
        at = tracemalloc.get_traced_memory()[0]
        await work()
        count.python = tracemalloc.get_traced_memory()[1] - at
        tracemalloc.stop()
        self.counts.append(count)

    async def put(self, key: str) -> None:
        await self.store.put(self.bucket, key, PutSpec("me"), Body(self.data, self.watch))

    async def get(self, key: str, start: int = 0, length: int | None = None) -> None:
        reader = await self.store.open(self.bucket, key)
        async for piece in reader.stream(start, reader.info.size - start if length is None else length):
            self.watch.leave(piece)
            del piece
        await reader.aclose()

    async def answer(self, key: str) -> None:
        stream = Whole(await self.store.open(self.bucket, key))
        head = Response(200, [("Content-Type", "application/octet-stream")], stream)
        await send_stream(Wire(self.watch), head, stream, "GET", close=False, keep=True)

    async def copy(self, key: str) -> None:
        reader = await self.store.open(self.bucket, key)
        source = Stored(reader, 0, reader.info.size)
        await source.begin()
        await self.store.put(self.bucket, "copy", PutSpec("me", ftt="1"), source)
        await source.aclose()
        await reader.aclose()

    async def multipart(self) -> None:
        upload = await self.store.create_upload(self.bucket, "parts", PutSpec("me", ftt="1"))
        half, refs = len(self.data) // 2, []
        for number, piece in ((1, self.data[:half]), (2, self.data[half:])):
            part = await self.store.put_part(self.bucket, "parts", upload.id, number, Body(piece, self.watch))
            refs.append(PartRef(number, part.etag))
        await self.store.complete_upload(self.bucket, "parts", upload.id, refs)
        await self.get("parts")


async def audit(home: Path, size: int) -> list[Count]:
    (home / "sole").mkdir()
    disks, data = Disks(home, 4), memoryview(os.urandom(MIB) * (size // MIB))
    with ExitStack() as stack:
        watch = Watch(stack)
        async with quiet(disks) as store:
            bucket = await store.create_bucket("bench", "me", {})
            own = Audit(store, bucket, watch, data)
            await own.put("o")
            await own.measure("PUT", size, lambda: own.put("o"))
            await own.measure("GET", size, lambda: own.get("o"))
            await own.measure("GET, down to the transport", size, lambda: own.answer("o"))
            await own.measure("GET of a range, a third", size // 3, lambda: own.get("o", 12_345, size // 3))
            await own.measure("multipart upload, complete, GET", 2 * size, own.multipart)
            await own.measure("copy", size, lambda: own.copy("o"))
            found = await store.open(bucket, "o")
            layout = found.info.record.layout
            await found.aclose()
        assert layout is not None
        async with quiet(disks, missing=layout.slots[:1]) as store:
            lost = Audit(store, await store.bucket("bench"), watch, data)
            await lost.measure("GET, one data volume lost", size, lambda: lost.get("o"))
        sole = Disks(home / "sole", 1)
        async with quiet(sole) as store:
            one = Audit(store, await store.create_bucket("bench", "me", {}), watch, data)
            await one.put("o")
            await one.measure("PUT, 1 volume", size, lambda: one.put("o"))
            await one.measure("GET, 1 volume", size, lambda: one.get("o"))
    return own.counts + lost.counts + one.counts


@click.command()
@click.option("--mib", type=click.IntRange(12), default=96, show_default=True)
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False))
def main(mib: int, directory: str | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="abixio-audit-", dir=directory) as home:
        counts = asyncio.run(audit(Path(home), mib * MIB))
    table = Table("path", "copied", "buffers", "python KiB", "faults/MiB", "user s/GiB")
    for count in counts:
        table.add_row(*count.row())
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
