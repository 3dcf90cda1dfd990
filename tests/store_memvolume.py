"""A volume in memory: the whole of `abixio.volume.interface.Volume`, with switches to make it fail.

`before` is called with the name of every operation and may raise or sleep; `shards` can be spoiled in place.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from abixio.errors import NewerExists, ShardCorrupt, ShardMissing, VolumeError, VolumeFull, VolumeUnusable, WouldBlock
from abixio.message import Buffer
from abixio.volume.interface import Aged, Change, Drop, Head, Insert, Mark, Note, Op, Row, RowId, Settle, Shard, ShardWriter

RowKey = tuple[bytes, bytes]


@dataclass
class StoredShard:
    """A finished shard "file": everything can be spoiled."""

    data: bytearray
    checksums: bytes
    record: bytes
    blake3: bytes
    torn: bool = False
    """The footer is not good."""
    bad_sectors: set[int] = field(default_factory=set)
    """Offsets that cannot be read."""


class MemShard:
    """An open shard."""

    def __init__(self, volume: MemVolume, stored: StoredShard, copy: memoryview | None = None) -> None:
        self._volume, self._stored = volume, stored
        self.view = memoryview(stored.data).toreadonly() if copy is None else copy
        self.checksums = memoryview(stored.checksums).cast("Q")
        self.record = stored.record
        self.blake3 = stored.blake3
        self.closed = False
        volume.open_shards += 1

    def populate(self, offset: int, length: int) -> None:
        assert not self.closed, "populate after close"
        if offset < 0 or length < 0 or offset + length > len(self.view):
            raise ValueError(f"populate({offset}, {length}) of {len(self.view)} bytes")
        self._volume.hook("populate")
        if any(offset <= sector < offset + length for sector in self._stored.bad_sectors):
            raise ShardCorrupt("a sector cannot be read")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._volume.open_shards -= 1


class MemWriter:
    """A shard in the making."""

    def __init__(self, volume: MemVolume, write_id: bytes) -> None:
        self._volume, self._id = volume, write_id
        self._data: bytearray | None = bytearray()
        volume.unfinished += 1

    def write(self, buffers: Sequence[Buffer]) -> None:
        self._volume.hook("write")
        if self._data is None:
            raise VolumeError("the shard is gone")
        for buffer in buffers:
            self._data += buffer

    def finish(self, checksums: bytes, record: bytes, blake3: bytes, durable: bool) -> None:
        self._volume.hook("finish")
        if self._data is None:
            raise VolumeError("the shard is gone")
        if len(checksums) != 8 * -(-len(self._data) // 65536):
            raise ValueError(f"{len(checksums)} bytes of checksums for {len(self._data)} bytes")
        self._volume.shards[self._id] = StoredShard(self._data, checksums, record, blake3)
        self._volume.syncs += durable
        self.abort()

    def abort(self) -> None:
        if self._data is not None:
            self._data = None
            self._volume.unfinished -= 1


@dataclass
class Tables:
    """What a transaction can change."""

    rows: dict[RowKey, list[Row]] = field(default_factory=dict)
    heads: dict[RowKey, tuple[int, int]] = field(default_factory=dict)
    refs: dict[bytes, dict[RowId, int]] = field(default_factory=dict)
    """Write id -> the rows that name it, and as which of their shards."""
    places: dict[bytes, int] = field(default_factory=dict)
    """Write id -> where the shard is inline."""
    inline: dict[int, bytes] = field(default_factory=dict)
    unsettled: set[RowId] = field(default_factory=set)
    garbage: set[bytes] = field(default_factory=set)
    notes: dict[str, int] = field(default_factory=lambda: {"commits": 0, "seq": 0, "inline": 0})

    def clone(self) -> Tables:
        return copy.deepcopy(self)


def _keys(tables: Tables, space: bytes, start: bytes, stop: bytes | None) -> list[RowKey]:
    return sorted(at for at in tables.rows if at[0] == space and start <= at[1] and (stop is None or at[1] < stop))


class MemVolume:
    """See `abixio.volume.interface.Volume`."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.clean = self.orderly = True
        self.cold = False
        """Nothing is in memory: whoever does not want to wait is refused."""
        self.peeks = False
        """Whether shards can be read without being opened; off, for most tests are about those that cannot."""
        self.before: Callable[[str], None] = lambda operation: None
        self.shards: dict[bytes, StoredShard] = {}
        self.unfinished = 0
        self.open_shards = 0
        self.syncs = 0
        self.calls: list[str] = []
        self._tables = Tables()
        self._words: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = False

    def hook(self, operation: str) -> None:
        if self._closed:
            raise VolumeUnusable("closed")
        self.calls.append(operation)
        self.before(operation)

    def touch(self, wait: bool) -> None:
        if self.cold and not wait:
            raise WouldBlock("cold")

    def probe(self) -> None:
        self.hook("probe")

    # ---- rows ----
    def rows(self, space: bytes, key: bytes, wait: bool = True) -> list[Row]:
        self.touch(wait)
        self.hook("rows")
        return list(self._tables.rows.get((space, key), ()))

    def top(self, space: bytes, key: bytes, limit: int, wait: bool = True) -> list[Row]:
        return self.rows(space, key, wait)[:limit]

    def newest(self, space: bytes, key: bytes, shard: bool) -> tuple[Row, bytes | None] | None:
        found = self.rows(space, key, False)
        if not found:
            return None
        row = found[0]
        return row, self.inline(row.inline, False) if shard and row.inline is not None else None

    def stamp(self) -> bytes | None:
        return None

    def scan(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[Row]:
        self.hook("scan")
        tables, found = self._tables, list[Row]()
        for at in _keys(tables, space, start, stop):
            head = tables.heads.get(at)
            found += [row for row in tables.rows[at] if (row.id.seq, row.id.rev) == head]
        return found[:limit]

    def history(self, space: bytes, start: bytes, limit: int) -> list[Row]:
        self.hook("history")
        tables, found = self._tables, list[Row]()
        for at in _keys(tables, space, start, None):
            if len(found) >= limit:
                break
            found += tables.rows[at]
        return found

    def walk(self, after: RowKey | None, limit: int) -> list[Row]:
        self.hook("walk")
        tables, found = self._tables, list[Row]()
        for at in sorted(at for at in tables.rows if after is None or at > after):
            if len(found) >= limit:
                break
            found += tables.rows[at]
        return found

    def skip(self, after: RowKey | None, count: int) -> RowKey | None:
        self.hook("skip")
        behind = sorted(at for at in self._tables.heads if after is None or at > after)
        return behind[count - 1] if len(behind) >= count else None

    def aged(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        self.hook("aged")
        return self._in_order(space, after, until, limit, lambda id: id.seq)

    def amended(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        self.hook("amended")
        return self._in_order(space, after, until, limit, lambda id: id.seq + id.rev if id.rev else after)

    def _in_order(self, space: bytes, after: int, until: int, limit: int, at: Callable[[RowId], int]) -> list[Aged]:
        tables = self._tables
        return [
            Aged(when, key, (space, key) in tables.heads, tables.rows[space, key][-1].id.seq < seq)
            for when, key, seq in sorted(
                (at(row.id), row.id.key, row.id.seq) for (own, _), rows in tables.rows.items() if own == space for row in rows
            )
            if after < when <= until
        ][:limit]

    def unsettled(self, after: RowId | None, limit: int) -> list[RowId]:
        self.hook("unsettled")
        return [id for id in sorted(self._tables.unsettled) if after is None or id > after][:limit]

    def unsettled_keys(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[bytes]:
        self.hook("unsettled_keys")
        keys = {id.key for id in self._tables.unsettled if id.space == space}
        return sorted(key for key in keys if start <= key and (stop is None or key < stop))[:limit]

    def inline(self, where: int, wait: bool = True) -> bytes:
        self.touch(wait)
        self.hook("inline")
        try:
            return self._tables.inline[where]
        except KeyError:
            raise ShardMissing(f"no inline shard {where}") from None

    def spoil_inline(self, where: int, shard: bytes | None) -> None:
        """Put other bytes there, or none."""
        if shard is None:
            del self._tables.inline[where]
        else:
            self._tables.inline[where] = shard

    def notes(self) -> Mapping[str, int]:
        self.hook("notes")
        return dict(self._tables.notes)

    def remembered(self, name: str) -> str | None:
        self.hook("remembered")
        return self._words.get(name)

    def remember(self, name: str, text: str) -> None:
        self.hook("remember")
        self._words[name] = text

    def apply(self, changes: Sequence[Change], durable: bool) -> list[NewerExists | VolumeFull | None]:
        self.hook("apply")
        with self._lock:
            answers: list[NewerExists | VolumeFull | None] = []
            tables = self._tables
            for change in changes:
                changed = tables.clone()
                answer = next((refusal for op in change if (refusal := self._do(changed, op)) is not None), None)
                if answer is None:
                    tables = changed
                answers.append(answer)
            tables.notes["commits"] += any(answer is None for answer in answers)
            self._tables = tables
            self.syncs += durable
            return answers

    def _do(self, tables: Tables, op: Op) -> NewerExists | None:
        match op:
            case Insert():
                return self._insert(tables, op)
            case Mark():
                rows = tables.rows.get(op.id[:2], [])
                for at, row in enumerate(rows):
                    if row.id == op.id:
                        rows[at] = row._replace(state=op.state, to=row.to if op.to is None else op.to)
            case Settle():
                tables.unsettled.discard(op.id)
            case Head():
                tables.heads.pop((op.space, op.key), None)
                if op.row is not None:
                    tables.heads[op.space, op.key] = op.row
            case Note():
                tables.notes[op.name] = op.value
            case Drop():
                self._drop(tables, op)
        return None

    def _insert(self, tables: Tables, op: Insert) -> NewerExists | None:
        rows = tables.rows.setdefault(op.id[:2], [])
        old = next((row for row in rows if row.id == op.id), None)
        if old is not None and old.record != op.record:
            return NewerExists("another record is here")
        newer = [row for row in rows if row.id.seq > op.id.seq] if op.id.rev == 0 else [
            row for row in rows if row.id.seq == op.id.seq and row.id.rev > op.id.rev
        ]
        if op.guard and newer and old is None:
            return NewerExists("a newer one is here")
        where = self._keep(tables, op)
        if old is not None:
            rows[:] = [row for row in rows if row.id != op.id]
        rows.append(Row(op.id, op.state, op.to, op.record, where))
        rows.sort(key=lambda row: (-row.id.seq, -row.id.rev))
        tables.unsettled.add(op.id)
        tables.notes["seq"] = max(tables.notes["seq"], op.id.seq + op.id.rev)
        return None

    def _keep(self, tables: Tables, op: Insert) -> int | None:
        first = None
        for index, write_id in enumerate(op.shards):
            known = tables.refs.setdefault(write_id, {})
            if index == 0:
                if op.inline is not None:
                    self._store(tables, write_id, bytes(op.inline))
                first = tables.places.get(write_id)
            known[op.id] = index
            if write_id not in tables.places:
                tables.garbage.discard(write_id)
        return first

    @staticmethod
    def _store(tables: Tables, write_id: bytes, shard: bytes) -> None:
        where = tables.places.get(write_id)
        if where is None:
            where = tables.places[write_id] = tables.notes["inline"] = tables.notes["inline"] + 1
            for id in [id for id, index in tables.refs[write_id].items() if index == 0]:
                rows = tables.rows[id[:2]]
                rows[:] = [row._replace(inline=where) if row.id == id else row for row in rows]
        tables.inline[where] = shard

    @staticmethod
    def _drop(tables: Tables, op: Drop) -> None:
        rows = tables.rows.get(op.id[:2], [])
        rows[:] = [row for row in rows if row.id != op.id]
        if not rows:
            tables.rows.pop(op.id[:2], None)
        tables.unsettled.discard(op.id)
        for write_id in op.shards:
            known = tables.refs.get(write_id, {})
            known.pop(op.id, None)
            if known:
                continue
            tables.refs.pop(write_id, None)
            where = tables.places.pop(write_id, None)
            if where is not None:
                tables.inline.pop(where, None)
            else:
                tables.garbage.add(write_id)

    def barrier(self) -> None:
        self.hook("barrier")

    # ---- shards ----
    def create_shard(self, write_id: bytes, repair: bool = False, expected: int = 0) -> ShardWriter:
        self.hook("create_shard")
        return MemWriter(self, write_id)

    def peek_shard(self, write_id: bytes, room: memoryview) -> Shard:
        stored = self.shards.get(write_id)
        if not self.peeks or self.cold or stored is None or stored.bad_sectors or len(stored.data) != len(room):
            raise WouldBlock("it has to be opened")
        self.hook("peek_shard")
        if stored.torn:
            raise ShardCorrupt(write_id.hex())
        room[:] = stored.data
        return MemShard(self, stored, room)

    def open_shard(self, write_id: bytes, wait: bool = True) -> Shard:
        stored = self.shards.get(write_id)
        if not wait and (not self.peeks or self.cold or stored is None or stored.bad_sectors):
            raise WouldBlock("a disk has to be asked")
        self.hook("open_shard")
        if stored is None:
            raise ShardMissing(write_id.hex())
        if stored.torn:
            raise ShardCorrupt(write_id.hex())
        return MemShard(self, stored)

    def shard_files(self, directory: int) -> list[bytes]:
        self.hook("shard_files")
        return [write_id for write_id in self.shards if write_id[-1] == directory]

    def named(self, write_id: bytes) -> bool:
        self.hook("named")
        return bool(self._tables.refs.get(write_id))

    def garbage(self, limit: int) -> list[bytes]:
        self.hook("garbage")
        return list(self._tables.garbage)[:limit]

    def unlink(self, write_ids: Sequence[bytes], spared: Callable[[bytes], bool] | None = None) -> None:
        self.hook("unlink")
        for write_id in write_ids:
            if spared is not None and spared(write_id):
                continue
            if not self._tables.refs.get(write_id):
                self.shards.pop(write_id, None)
            self._tables.garbage.discard(write_id)

    def close(self) -> None:
        self._closed = True
