"""One part of an object, open for reading: verified pieces, and rebuilt ones where a shard fails.

Synchronous; used by one thread at a time. A shard that failed anywhere is `suspect` and asked last from then on; it is not
given up, for another of its blocks may be what makes k. What cannot be rebuilt as a whole is rebuilt block by block, so
that the part is lost only where fewer than k shards have the same block.

With k = 1 every parity shard is a copy of the data, and is read in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping

from abixio.codec import reconstruct_into
from abixio.codec.checksum import BLOCK, block_count, block_seed, check_blocks
from abixio.errors import DataLost, Exhausted, Overloaded, ShardCorrupt, ShardMissing, VolumeError
from abixio.store.layout import Piece, Stripe, shard_size
from abixio.store.record import Layout, Part
from abixio.store.unverified import Unverified
from abixio.volume.interface import Shard


class Decoder:
    """The shards of one part by shard index, opened when they are needed."""

    def __init__(
        self, layout: Layout, part: Part, openers: Mapping[int, Callable[[], Shard]], slow: Collection[int] = (),
    ) -> None:
        """`openers`: how to get at each shard, in order of preference; an index that is not there is not asked. `slow`: those
        that are asked last."""
        self.layout = layout
        self.part = part
        self.bad: set[int] = set()
        """Indexes of shards that turned out to be missing or corrupt."""
        self.exhausted = False
        """Whether a shard was not to be had for want of descriptors or memory."""
        self.asking: tuple[int, float] | None = None
        """The shard that its disk is asked for right now, and since when (time.monotonic)."""
        self._openers = dict(openers)
        self._shards: dict[int, Shard] = {}
        self._suspect = set(slow)
        self._checked: set[tuple[int, int, int]] = set()

    def open(self) -> None:
        """Open k shards, so that nothing else is needed as long as they are good. DataLost when there are fewer."""
        for index in self._order():
            self._shard(index)
            if len(self._shards) == self.layout.k:
                return
        self._lost(f"{len(self._shards)} of {self.layout.k} shards can be opened")

    def first(self) -> list[int]:
        """The shards that `open` asks first: as many as it takes, if all are good."""
        return [index for index, _ in zip(self._order(), range(self.layout.k), strict=False)]

    def adopt(self, index: int, shard: Shard) -> None:
        """One that was opened elsewhere. ShardCorrupt, and it is closed, when it is not as long as it should be."""
        self._shards[index] = self._fitting(index, shard)

    def close(self) -> None:
        """Let go of the shards; slices that somebody holds stay valid."""
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()
        self._openers.clear()

    def footer(self) -> bytes | None:
        """The record in the footer of any shard that can be opened."""
        for index in self._order():
            if (shard := self._shard(index)) is not None:
                return shard.record
        return None

    def could_do_without(self, index: int) -> bool:
        """Whether there are k shards that have not failed yet, not counting that one."""
        return len(self._openers.keys() - self._suspect - {index}) >= self.layout.k

    def distrust(self, slow: Collection[int]) -> None:
        """Ask those last from now on."""
        self._suspect.update(slow)

    # ---- reading -----------------------------------------------------------------------------------------------------
    def room(self, stripe: Stripe, start: int, stop: int) -> int:
        """Bytes that `read` of the same range will have to rebuild, as far as is known."""
        if self.layout.k == 1 and any(self._hopeful(index) for index in self._openers):
            return 0
        return sum(piece.length for piece in stripe.pieces(start, stop) if not self._hopeful(piece.shard))

    def read(self, stripe: Stripe, start: int, stop: int, room: memoryview) -> list[memoryview] | None:
        """The part's bytes [start, stop), within that stripe, as slices of the shards' views, and of `room` where they are
        rebuilt. None when `room` is too small after all: ask `room` again. DataLost."""
        self._checked.clear()
        if self.layout.k == 1 and (copy := self._copy(start, stop - start)) is not None:
            return [copy]
        views: list[memoryview] = []
        lost: list[tuple[int, Piece]] = []
        for at, piece in enumerate(stripe.pieces(start, stop)):
            view = self._good(piece.shard, piece.offset, piece.length) if self._hopeful(piece.shard) else None
            if view is None:
                lost.append((at, piece))
            views.append(memoryview(b"") if view is None else view)
        if sum(piece.length for _, piece in lost) > len(room):
            return None
        for at, piece in lost:
            views[at], room = room[: piece.length], room[piece.length :]
            self.rebuild(stripe, piece.shard, piece.offset - stripe.offset, views[at])
        return views

    def load(self, stripe: Stripe, start: int, stop: int) -> list[Unverified] | None:
        """The same bytes in memory, to be verified when they are sent. None where `read` has to do it: a shard is suspect, or
        does not give them."""
        found: list[Unverified] = []
        for index, offset, length in self._pieces(stripe, start, stop):
            shard = self._shard(index) if self._hopeful(index) else None
            if shard is None or not self._populated(shard, index, offset // BLOCK, block_count(offset + length)):
                return None
            found.append(Unverified(shard, self._seed(index), offset, length, True))
        return found

    def resident(self, stripe: Stripe, start: int, stop: int) -> list[Unverified] | None:
        """As `load`, on the event loop: None also where a shard is not open yet, or not all of the bytes are in memory."""
        found: list[Unverified] = []
        for index, offset, length in self._pieces(stripe, start, stop):
            shard = self._shards.get(index) if self._hopeful(index) else None
            if shard is None:
                return None
            found.append(Unverified(shard, self._seed(index), offset, length, False))
        return found if all(piece.resident for piece in found) else None

    def _pieces(self, stripe: Stripe, start: int, stop: int) -> Iterator[Piece]:
        """Where those bytes of the part lie, as long as all is well."""
        if self.layout.k == 1:
            yield Piece(next(self._order(), 0), start, stop - start)
        else:
            yield from stripe.pieces(start, stop)

    def _copy(self, offset: int, length: int) -> memoryview | None:
        """Those bytes of any shard that never failed."""
        for index in [index for index in self._openers if self._hopeful(index)]:
            view = self._good(index, offset, length)
            if view is not None:
                return view
        return None

    def rebuild(self, stripe: Stripe, index: int, low: int, out: memoryview) -> None:
        """Fill `out` with what shard `index` should hold from byte `low` of its piece of that stripe on. DataLost."""
        high = low + len(out)
        shards: list[memoryview | None] = [None] * (self.layout.k + self.layout.m)
        found = 0
        for source in self._order():
            view = self._column(stripe, source, low, high)
            if view is not None and source == index:
                out[:] = view
                return
            shards[source] = view
            found += view is not None
            if found == self.layout.k:
                reconstruct_into(shards, self.layout.k, self.layout.m, {index: out})
                return
        middle = (low + high) // 2 // BLOCK * BLOCK
        if middle <= low:
            middle += BLOCK
        if middle >= high:
            self._lost(f"{found} of {self.layout.k} shards are good from byte {stripe.offset + low} on")
        self.rebuild(stripe, index, low, out[: middle - low])
        self.rebuild(stripe, index, middle, out[middle - low :])

    def _column(self, stripe: Stripe, index: int, low: int, high: int) -> memoryview | None:
        """Bytes [low, high) of a shard's piece of a stripe, with the padding that is not stored."""
        stored = min(max(stripe.stored(index, self.layout.k) - low, 0), high - low)
        view = self._good(index, stripe.offset + low, stored)
        if view is None or stored == high - low:
            return view
        return memoryview(bytes(view) + bytes(high - low - stored))

    # ---- one shard ---------------------------------------------------------------------------------------------------
    def _hopeful(self, index: int) -> bool:
        return index in self._openers and index not in self._suspect

    def _order(self) -> Iterator[int]:
        """All shards that can be asked, those that failed before last."""
        suspect = set(self._suspect)
        yield from [index for index in self._openers if index not in suspect]
        yield from [index for index in self._openers if index in suspect]

    def _shard(self, index: int) -> Shard | None:
        """Open a shard; one that cannot be opened is not asked again."""
        shard = self._shards.get(index)
        if shard is not None or index not in self._openers:
            return shard
        self.asking = (index, time.monotonic())
        try:
            shard = self._fitting(index, self._openers[index]())
        except VolumeError as error:
            self._openers.pop(index)
            if isinstance(error, ShardMissing | ShardCorrupt):
                self.bad.add(index)
            self.exhausted |= isinstance(error, Exhausted)
            return None
        finally:
            self.asking = None
        self._shards[index] = shard
        return shard

    def _fitting(self, index: int, shard: Shard) -> Shard:
        size = shard_size(self.layout, index, self.part.stored)
        length, blocks = len(shard.view), len(shard.checksums)
        if length != size or blocks != block_count(size):
            shard.close()
            raise ShardCorrupt(f"a shard of {length} bytes should have {size}")
        return shard

    def _good(self, index: int, offset: int, length: int) -> memoryview | None:
        """Those bytes of a shard once every block that they touch is verified; None when one is not good."""
        if not length:
            return memoryview(b"")
        shard = self._shard(index)
        if shard is None:
            return None
        first, last = offset // BLOCK, block_count(offset + length)
        if (index, first, last) not in self._checked:
            if not self._sound(shard, index, first, last):
                self._suspect.add(index)
                self.bad.add(index)
                return None
            self._checked.add((index, first, last))
        return shard.view[offset : offset + length]

    def _sound(self, shard: Shard, index: int, first: int, last: int) -> bool:
        if not self._populated(shard, index, first, last):
            return False
        return check_blocks(shard.view, shard.checksums, self._seed(index), first, last) is None

    def _seed(self, index: int) -> int:
        return block_seed(self.part.write_id, self.part.number, self.layout.slots[index])

    def _populated(self, shard: Shard, index: int, first: int, last: int) -> bool:
        """Have those blocks in memory; False where the disk does not give them."""
        start, stop = first * BLOCK, min(last * BLOCK, len(shard.view))
        self.asking = (index, time.monotonic())
        try:
            shard.populate(start, stop - start)
        except Exhausted as error:
            raise Overloaded("no memory for another read") from error
        except VolumeError:
            return False
        finally:
            self.asking = None
        return True

    def _lost(self, why: str) -> None:
        if self.exhausted:
            raise Overloaded("no descriptors or no memory for another read")
        raise DataLost(f"part {self.part.number} of write {self.part.write_id.hex()}: {why}")
