"""What the store asks of a volume: rows, shards and barriers of one disk. Synchronous; a volume knows no other volume.

`LocalVolume` implements it over a directory; a remote volume can come. One contract suite (`tests/volume_contract.py`)
holds for all of them. Threads: `rows`, `top`, `scan`, `history`, `walk`, `skip`, `aged`, `amended`, `unsettled`, `inline`,
`named`, `remembered`, `shard_files`, `peek_shard` and `open_shard` may be called from any thread at any time (each thread
reads through a connection of its own); everything that changes the volume is called from one thread at a time. Errors are
the VolumeError classes of `abixio.errors`, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from abixio.errors import NewerExists, VolumeFull
from abixio.message import Buffer


class State(IntEnum):
    """Of a row on one volume."""

    PENDING = 0
    COMMITTED = 1
    ABORTED = 2
    ANSWERED = 3
    """As good as committed until the next power cut: its copies may be missing after that."""

    @property
    def stands(self) -> bool:
        """Whether one volume's word is enough."""
        return self is State.COMMITTED or self is State.ANSWERED


class RowId(NamedTuple):
    """Names one record everywhere. `space` is 16 bytes: a bucket id, an upload id or the root."""

    space: bytes
    key: bytes
    seq: int
    rev: int


class Row(NamedTuple):
    """One record as one volume holds it."""

    id: RowId
    state: State
    to: int
    """Bit mask of the slots that the writer addressed."""
    record: bytes
    inline: int | None
    """Where `Volume.inline` finds the shard, when it lives in the catalog."""


class Aged(NamedTuple):
    """One row in order of age."""

    at: int
    """Its seq; of one in order of amendment, seq and rev together, which is when it was made."""
    key: bytes
    listed: bool
    """Whether its key is listed (has a head)."""
    older: bool
    """Whether there is an older row of its key."""


class Head(NamedTuple):
    """Says which row of a key LIST shows; `row` None: the key is not listed. Always the last word of a change on its key."""

    space: bytes
    key: bytes
    row: tuple[int, int] | None


class Insert(NamedTuple):
    """Add a row and an `unsettled` entry. Refused with NewerExists, when `guard` is set and the volume holds, for rev 0,
    a row of the key with a greater seq, or else a row of the same seq with a greater rev. The same record again is no
    error: it takes the new state and mask. Another record under the same id is NewerExists."""

    id: RowId
    state: State
    to: int
    record: bytes
    shards: tuple[bytes, ...] = ()
    """Write ids of the shards that this row keeps alive. A shard named here that lives inline under another row is shared."""
    inline: Buffer | None = None
    """The bytes of shards[0], to be kept in the catalog."""
    guard: bool = True


class Mark(NamedTuple):
    """Set a row's state, and its mask unless None. No row, no effect."""

    id: RowId
    state: State
    to: int | None = None


class Drop(NamedTuple):
    """Delete a row and its `unsettled` entry. Its shards that no other row names go: inline bytes at once, files through
    the garbage list."""

    id: RowId
    shards: tuple[bytes, ...] = ()


class Settle(NamedTuple):
    """Delete an `unsettled` entry, not its row."""

    id: RowId


class Note(NamedTuple):
    """Set a value of the volume's own book-keeping: high-water marks, peers' commit counters, filling state."""

    name: str
    value: int


Op = Insert | Mark | Drop | Settle | Head | Note
Change = Sequence[Op]
"""Done whole or not at all, in order."""


class Shard(Protocol):
    """One finished shard, open: a map of its file, or a buffer. Valid until closed, whatever is unlinked meanwhile."""

    view: memoryview
    """The shard's bytes, without the footer. Reading pages that were not populated can block, or kill on a bad sector."""
    checksums: memoryview
    """Block checksums, one little-endian u64 ('Q') per started 64 KiB of the view."""
    record: bytes
    """The record in the footer."""
    blake3: bytes
    """Of the view, as the footer says; empty of a shard that has no footer."""

    def populate(self, offset: int, length: int) -> None:
        """Bring those bytes into memory, GIL released; ShardCorrupt where the disk cannot read them."""
        ...

    def close(self) -> None:
        """Let go of the map once nobody holds a slice of it. Closing twice is harmless."""
        ...


class ShardWriter(Protocol):
    """A shard file in the making; nobody sees it before `finish`."""

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append, all of it or raise (VolumeFull, VolumeUnusable)."""
        ...

    def finish(self, checksums: bytes, record: bytes, blake3: bytes, durable: bool) -> None:
        """Append the footer, sync if `durable` (file, then directory after the rename), and put it in its place."""
        ...

    def abort(self) -> None:
        """Remove it. Harmless after `finish` failed and when called twice."""
        ...


class Volume(Protocol):
    """One disk of the pool."""

    slot: int
    clean: bool
    """False when the machine went down under it: what no barrier covered may be missing or torn."""

    orderly: bool
    """False when its last use did not end in good order: there may be finished shard files that no row names."""

    # ---- rows ----
    def rows(self, space: bytes, key: bytes, wait: bool = True) -> list[Row]:
        """All rows of a key, newest first (seq, then rev, descending). One lookup, about 3 us; on the event loop only without
        `wait`: then WouldBlock where the disk would have to be asked."""
        ...

    def top(self, space: bytes, key: bytes, limit: int, wait: bool = True) -> list[Row]:
        """The first `limit` of `rows`, at the price of as many."""
        ...

    def newest(self, space: bytes, key: bytes, shard: bool) -> tuple[Row, bytes | None] | None:
        """The first of `rows`, with its inline shard where it has one and `shard` asks for it, in one lookup; None without a row.
        For the event loop: WouldBlock where the disk would have to be asked."""
        ...

    def stamp(self) -> bytes | None:
        """Something that changes with every transaction, of any process: as long as it is the same, so is every answer about
        rows. None where that cannot be told. Half a microsecond, no lock, no call of the system."""
        ...

    def scan(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[Row]:
        """The rows that heads point to, in key order, start <= key < stop, at most `limit` (<= 1,000)."""
        ...

    def history(self, space: bytes, start: bytes, limit: int) -> list[Row]:
        """All rows of whole keys from `start` on, in key order; stops at the first key boundary past `limit` rows."""
        ...

    def walk(self, after: tuple[bytes, bytes] | None, limit: int) -> list[Row]:
        """All rows of whole keys behind `after`, a (space, key), in that order over all spaces, newest first within a key. None:
        from the start. Stops at the first key boundary past `limit` rows, or earlier where records are long: only an empty
        answer is the end."""
        ...

    def skip(self, after: tuple[bytes, bytes] | None, count: int) -> tuple[bytes, bytes] | None:
        """The `count`-th (space, key) that is listed (has a head) behind `after`; None when there are fewer. About
        0.1 us for each of them."""
        ...

    def aged(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        """The rows of a space with after < seq <= until, in that order: as many entries of an index are read, and no records.
        About 2 us for each of them."""
        ...

    def amended(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        """The same of its rows with a rev other than 0, in order of seq + rev."""
        ...

    def unsettled(self, after: RowId | None, limit: int) -> list[RowId]:
        """Entries of the journal in order of their ids, those greater than `after`."""
        ...

    def unsettled_keys(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[bytes]:
        """Distinct keys of the journal in that range, in order."""
        ...

    def inline(self, where: int, wait: bool = True) -> bytes:
        """The inline shard's bytes; ShardMissing. `wait` as for `rows`."""
        ...

    def notes(self) -> Mapping[str, int]:
        """The volume's book-keeping. `commits` counts its transactions; `seq` is the greatest seq it ever held,
        or seq + rev: no clock may give those out again."""
        ...

    def remembered(self, name: str) -> str | None:
        """What `remember` was told last under that name."""
        ...

    def remember(self, name: str, text: str) -> None:
        """Keep a few words that may be lost with the next power cut: how far a scan is."""
        ...

    def apply(self, changes: Sequence[Change], durable: bool) -> list[NewerExists | VolumeFull | None]:
        """All changes in one transaction, synced when `durable`. A refused change leaves no trace and the others go on:
        NewerExists as its Insert says; VolumeFull when it stores data (an Insert with guard and shards) and only the disk's
        reserve is left.

        Raised, VolumeFull and VolumeReadOnly say that nothing was done; any other VolumeError that this is not known.
        """
        ...

    def probe(self) -> None:
        """Ask the disk itself, whatever is in memory; raises, or takes long, when it is not well."""
        ...

    def barrier(self) -> None:
        """On return, everything that was applied or finished before the call survives a power cut."""
        ...

    # ---- shards ----
    def create_shard(self, write_id: bytes, repair: bool = False, expected: int = 0) -> ShardWriter:
        """A new shard file; VolumeFull when only the disk's reserve is left. `repair`: of which half may be used. `expected`: how
        many bytes it will have, if that is known; 0: not."""
        ...

    def open_shard(self, write_id: bytes, wait: bool = True) -> Shard:
        """ShardMissing or ShardCorrupt (size, magic, footer checksum). Without `wait`, on the event loop: WouldBlock where a disk
        would have to be asked, or where the kernel would not say which of the shard's bytes are in memory."""
        ...

    def peek_shard(self, write_id: bytes, room: memoryview) -> Shard:
        """On the event loop: the shard that is as long as `room`, read into it without asking the disk. WouldBlock where that
        cannot be, for whatever reason; ShardCorrupt."""
        ...

    def shard_files(self, directory: int) -> list[bytes]:
        """Write ids of the finished shard files whose last byte is `directory`, in no order; named by a row or not."""
        ...

    def named(self, write_id: bytes) -> bool:
        """Whether a row keeps that shard alive. About 3 us."""
        ...

    def garbage(self, limit: int) -> list[bytes]:
        """Write ids of shard files that no row names any more."""
        ...

    def unlink(self, write_ids: Sequence[bytes], spared: Callable[[bytes], bool] | None = None) -> None:
        """Remove those files, missing ones silently, and their garbage entries; but not the `spared` ones, of which it asks when
        nobody else changes the volume. With no files: wait until whoever is removing some right now has done that."""
        ...

    def close(self) -> None: ...
