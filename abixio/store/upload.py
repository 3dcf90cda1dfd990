"""The write path: a body goes from the socket into stripe buffers, from there to digests, parity and shard files.

While a stripe is encoded on an executor thread and its pieces are written on the lanes' threads, the next one is received.
Nothing is copied on the way: the source fills a buffer, and all that follows works on slices of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from abixio.codec.aead import SALT, Sealer, body_room, sealed_size
from abixio.config import KIB, MAX_OBJECT
from abixio.errors import EntityTooLarge, IncompleteBody
from abixio.store.buffers import StripeBuffer
from abixio.store.clock import write_id
from abixio.store.encoder import Cut, Encoder, cut
from abixio.store.inline import INLINE_LIMIT
from abixio.store.lane import Lane
from abixio.store.layout import piece_size, shard_size, stripe_size
from abixio.store.pool import Pool
from abixio.store.record import Layout, Part
from abixio.store.sealing import part_key
from abixio.store.shardset import ShardSet
from abixio.store.types import Seal, Source

IN_FLIGHT: Final = 3
"""Stripes of one upload in memory: one is received, one encoded, one written."""
ON_LOOP: Final = 64 * KIB
"""Bodies up to here are encoded on the event loop: 0.1 ms of MD5 at worst, no more than the hand-over to a thread."""

EtagMode = Literal["auto", "xxh64", "md5"]


def is_md5(mode: EtagMode, real_md5: bool, whole: bool) -> bool:
    """Whether the ETag is the body's MD5; `whole`: the body is no longer than a stripe."""
    return real_md5 or mode == "md5" or (mode == "auto" and whole)


def etag_of(mode: EtagMode, md5: bool, digests: Mapping[str, bytes], size: int) -> str:
    """The ETag of a plain body, without quotes."""
    if md5:
        return digests["md5"].hex()
    return f"{digests['xxh64'].hex()}{size:016x}{'-1' if mode == 'auto' else ''}"


@dataclass(slots=True)
class Received:
    """A body that was taken in whole and passed its checks; seen by nobody before a record names it."""

    part: Part
    etag: str
    checksums: dict[str, str]
    layout: Layout
    inline: dict[int, bytes] | None
    """The shards by slot, when they are small enough for the catalog; None: they are files."""
    _encoder: Encoder = field(repr=False)
    _shards: ShardSet | None = field(repr=False)
    _stripes: int
    _durable: bool
    _pool: Pool = field(repr=False)
    _files: int

    @property
    def slots(self) -> set[int]:
        """The slots that took the data so far."""
        return set(self.inline or ()) if self._shards is None else self._shards.slots

    async def finish(self, record: bytes) -> set[int]:
        """Complete the shard files with that record in the footers; synced when the pool is durable. Returns the slots that
        hold their shard, at least k; Unavailable or InsufficientStorage when there are fewer."""
        if self._shards is None:
            return self.slots
        return await self._shards.finish(self._stripes, self._encoder.footer, record, self._durable)

    async def discard(self) -> None:
        """Remove all that was written. Harmless when nothing was."""
        if self._shards is not None:
            await self._shards.remove()

    def release(self) -> None:
        """The commit has ended, either way: files that no row names are orphans from now on. To be called once."""
        self._pool.writing.let_go((self.part.write_id,))
        self._pool.files.give_back(self._files)


async def receive(
    pool: Pool, layout: Layout, number: int, source: Source, etag_mode: EtagMode, real_md5: bool, allow_inline: bool = True,
    enough: int | None = None, seal: Seal | None = None,
) -> Received:
    """Take in the body of an object, or of part `number` of one; it counts as being written until it is released. Whatever
    this raises, cancellation included, it leaves no file and no buffer behind: Unavailable, InsufficientStorage, Overloaded,
    EntityTooLarge, and all that `source` raises. With `enough` volumes it does not wait for slow ones. With a seal, the body is
    encrypted in its buffers, once its digests are taken; what is written is as long as that makes it."""
    upload = _Upload(pool, layout, number, source, etag_mode, real_md5, allow_inline, enough, seal)
    try:
        return await upload.run()
    except BaseException:
        await upload.give_up()
        raise


class _Upload:
    """One body on its way in. Stripes are numbered from 0."""

    def __init__(
        self, pool: Pool, layout: Layout, number: int, source: Source, mode: EtagMode, real_md5: bool, allow_inline: bool,
        enough: int | None, seal: Seal | None,
    ) -> None:
        self._pool = pool
        self._layout = layout
        self._number = number
        self._source = source
        self._mode = mode
        self._seal = seal
        self._salt = b"" if seal is None else os.urandom(SALT)
        self._hidden = seal is not None and seal.hides_etag
        self._md5 = real_md5
        self._allow_inline = allow_inline
        self._enough = enough
        self._write_id = write_id()
        pool.writing.take((self._write_id,))
        self._full = stripe_size(layout) if seal is None else body_room(stripe_size(layout))
        """Bytes of the body in a full stripe."""

        self._size = 0
        self._stripe = 0
        self._ended = False
        self._carry: int | None = None
        """A byte of the next stripe, read to see whether there is one."""
        self._encoder: Encoder | None = None
        self._shards: ShardSet | None = None
        self._files = 0
        """How many it has open."""
        self._inline: list[bytes] | None = None
        self._jobs: list[asyncio.Future[None]] = []
        """Done when the stripe is hashed, and encoded with its parity on its way to the lanes."""

    async def run(self) -> Received:
        while not self._ended:
            if self._shards is not None:
                await self._shards.written(self._stripe - IN_FLIGHT)
            buffer = await self._pool.buffers.acquire(*self._need())
            try:
                await self._take(buffer)
            finally:
                buffer.drop()
        await self._encoded()
        return self._result()

    async def give_up(self) -> None:
        """Remove what was written."""
        try:
            if self._shards is not None:
                await self._shards.remove()
        finally:
            self._pool.writing.let_go((self._write_id,))
            self._pool.files.give_back(self._files)

    # ---- receiving ---------------------------------------------------------------------------------------------------
    def _rest(self) -> int | None:
        """Bytes that are still to come, if that was announced."""
        return None if self._source.length is None else self._source.length - self._size

    def _need(self) -> tuple[int, bool]:
        """Buffer bytes for the next stripe with its parity, and the byte by which one sees that it is the last; and whether it
        is known to be the only one."""
        rest, layout = self._rest(), self._layout
        ends = rest is not None and rest <= self._full
        body = rest if rest is not None and ends else self._full
        stored = self._stored(body) if ends else stripe_size(layout)
        return max((layout.k + layout.m) * piece_size(stored, layout.k), body + 1), ends and self._stripe == 0

    def _stored(self, length: int) -> int:
        """What so many bytes of the body are stored as."""
        return length if self._seal is None else sealed_size(length)

    async def _take(self, buffer: StripeBuffer) -> None:
        """Receive a stripe and pass it on."""
        length = await self._fill(buffer.view)
        if self._encoder is None:
            self._encoder = self._begin()
        await self._encoded()
        stripe = cut(self._layout, buffer.view, self._stored(length), length, self._ended)
        if self._ended and self._stripe == 0 and self._allow_inline and len(stripe.stored[0]) <= INLINE_LIMIT:
            self._keep(self._encoder, stripe, buffer)
            return
        if self._shards is None:
            self._shards = self._open()
        self._start(self._encoder, self._shards, stripe, buffer)
        self._stripe += 1

    async def _fill(self, view: memoryview) -> int:
        """Receive one stripe to the front of `view` and return its length.

        One byte more than what may come is asked for, so that the end of the body is seen with its last stripe: what
        follows the end (trailers) has then been read, and the digests can be chosen knowing that this is all.
        """
        have, rest = 0, self._rest()
        if self._carry is not None:
            view[0], self._carry, have = self._carry, None, 1
        want = self._full + 1 if rest is None else self._full if rest > self._full else rest + 1
        got = have + await self._source.readinto(view[have:want])
        if rest is None:
            self._ended = got < want
            if not self._ended:
                self._carry, got = view[self._full], self._full
        elif got != min(rest, self._full):
            raise IncompleteBody(f"{self._size + got} bytes came where {self._source.length} were announced")
        else:
            self._ended = rest <= self._full
        self._size += got
        if self._size > MAX_OBJECT:
            raise EntityTooLarge(f"more than {MAX_OBJECT} bytes")
        return got

    # ---- encoding and writing ----------------------------------------------------------------------------------------
    def _begin(self) -> Encoder:
        """Choose the hash of the ETag, now that it is known whether the first stripe is all."""
        self._md5 = not self._hidden and is_md5(self._mode, self._md5, self._ended)
        digests = {*self._source.algorithms} | ({"md5" if self._md5 else "xxh64"} if not self._hidden else set())
        sealer = None if self._seal is None else Sealer(part_key(self._seal.key, self._salt, self._number))
        return Encoder(self._layout, self._write_id, self._number, digests, sealer)

    def _open(self) -> ShardSet:
        lanes: dict[int, Lane] = {}
        for index, slot in enumerate(self._layout.slots):
            lane = self._pool.lanes[slot]
            if lane is not None and lane.up:
                lanes[index] = lane
        prompt = {index: lane for index, lane in lanes.items() if not lane.behind}
        if self._enough is not None and len(prompt) >= self._enough:
            lanes = prompt
        self._pool.files.take(len(lanes))
        self._files = len(lanes)
        expected = 0 if self._source.length is None else self._stored(self._source.length)
        sizes = partial(shard_size, self._layout, size=expected)
        return ShardSet(lanes, self._layout.k, self._write_id, self._pool.loop, self._enough, expected=sizes)

    def _keep(self, encoder: Encoder, stripe: Cut, buffer: StripeBuffer) -> None:
        """Make inline shards of the whole body."""
        if len(stripe.data) <= ON_LOOP:
            self._inline = encoder.inline(stripe)
            return

        def work() -> None:
            self._inline = encoder.inline(stripe)

        buffer.hold()
        job = self._pool.loop.run_in_executor(self._pool.executor, work)
        job.add_done_callback(lambda done: buffer.drop())
        self._jobs.append(job)

    def _start(self, encoder: Encoder, shards: ShardSet, stripe: Cut, buffer: StripeBuffer) -> None:
        """Write the data and encode it at the same time; parity follows when it is there. What is encrypted on the way, all of
        it follows."""
        number, at_once = self._stripe, self._layout.k if self._seal is None else 0

        def rest_ready() -> None:
            for index in range(at_once, len(stripe.stored)):
                shards.write(number, index, stripe.stored[index], buffer)

        def encoded(done: asyncio.Future[None]) -> None:
            try:
                done.result()
                rest_ready()
            except Exception as error:
                passed_on.set_exception(error)
            else:
                passed_on.set_result(None)
            finally:
                buffer.drop()

        for index in range(at_once):
            shards.write(number, index, stripe.stored[index], buffer)
        if len(stripe.data) <= ON_LOOP:
            encoder.hash_and_encode(stripe)
            rest_ready()
            return
        buffer.hold()
        passed_on = self._pool.loop.create_future()
        self._jobs.append(passed_on)
        work = encoder.encode if self._seal is None else encoder.hash_and_encode
        self._pool.loop.run_in_executor(self._pool.executor, work, stripe).add_done_callback(encoded)
        if encoder.md5 is not None and self._seal is None:
            buffer.hold()
            hashed = self._pool.gang.update(encoder.md5, stripe.data)
            hashed.add_done_callback(lambda done: buffer.drop())
            self._jobs.append(hashed)

    async def _encoded(self) -> None:
        """Wait for the jobs before: digests run in order. The wait can be cancelled, a job cannot: it has the buffer."""
        if self._jobs:
            await asyncio.wait(self._jobs)
            jobs, self._jobs = self._jobs, []
            for job in jobs:
                job.result()

    # ---- the end -----------------------------------------------------------------------------------------------------
    def _etag(self, digests: Mapping[str, bytes]) -> str:
        if self._hidden:
            return os.urandom(16).hex() + ("-1" if self._mode == "auto" else "")
        return etag_of(self._mode, self._md5, digests, self._size)

    def _result(self) -> Received:
        """Check the body against what the client promised."""
        assert self._encoder is not None
        digests = self._encoder.digests()
        checksums = self._source.verify(digests)
        inline = None if self._inline is None else dict(zip(self._layout.slots, self._inline, strict=True))
        part = Part(self._write_id, self._number, self._size, self._stored(self._size), salt=self._salt)
        return Received(
            part, self._etag(digests), checksums, self._layout, inline, self._encoder, self._shards, self._stripe,
            self._pool.durable, self._pool, self._files,
        )
