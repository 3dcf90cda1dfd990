"""Healing a key, and telling how it is: every row and every shard of every version looked at on every volume.

Shards are read without the key's lock, so that neither readers nor writers wait for it, and with the key's claim, so that no
two repairs do the same. What is bad is replaced by a new file or, in a catalog, in one transaction; history is not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Final

from abixio.errors import AbixioError, DataLost, NoSuchKey, Overloaded, VolumeError
from abixio.store.examine import Throttle, at_once, examine
from abixio.store.health import Healed, KeyHealth, RowState, ShardHealth
from abixio.store.mend import Mender, in_files, sound, standing
from abixio.store.rebuild import rebuild_shard
from abixio.store.record import Part, Record, unpack
from abixio.store.resolve import DATA_KINDS, Fate, Version, View
from abixio.store.sources import Copies
from abixio.store.types import Bucket
from abixio.volume.interface import Row, RowId, State

Shards = Collection[tuple[bytes, int]]
"""By write id and slot."""
_BAD = ("missing", "corrupt")
_SHOWN: Final[Mapping[State, RowState]] = {
    State.PENDING: "pending", State.ANSWERED: "answered", State.COMMITTED: "committed", State.ABORTED: "aborted",
}


class Healer:
    """Looks at keys, and makes them whole."""

    def __init__(self, mender: Mender) -> None:
        self._mender = mender
        self._committer = mender.committer
        self._pool = mender.pool

    # ---- healing -----------------------------------------------------------------------------------------------------
    async def heal(self, bucket: Bucket, key: str) -> Healed:
        """`heal_key` of an object. NoSuchKey when no volume has a row, Unavailable when that cannot be told."""
        await self._rows(bucket, key)
        return await self.heal_key(bucket.space, key.encode())

    async def heal_key(self, space: bytes, key: bytes, throttle: Throttle = at_once, only: Shards | None = None) -> Healed:
        """Bring a key to rest and read every shard of it whole; `only`: no others than these. `throttle` is awaited before
        bytes are read. What cannot be made whole now is in the answer. Overloaded when somebody else repairs the key."""
        async with self._mender.claim(space, key):
            try:
                done = (await self._mender.settle_claimed(space, key)).done
            except AbixioError as error:
                done = Healed(failed=(str(error),))
            with ExitStack() as pins:
                async with self._mender.locked(space, key):
                    view = await self._mender.view(space, key)
                    versions = [version for version in self._committed(view) if version.record.kind in DATA_KINDS]
                    for version in versions:
                        pins.enter_context(self._pool.reads(version.record.write_ids))
                for version in versions:
                    done += await self._version(version, throttle, only)
        return done

    def _committed(self, view: View) -> list[Version]:
        try:
            return [version for version in standing(view) if view.judge(version) is Fate.COMMITTED]
        except DataLost:
            return []

    async def _version(self, version: Version, throttle: Throttle, only: Shards | None) -> Healed:
        record, done = version.record, Healed()
        if record.layout is None:
            return done
        copies = Copies(record, record.layout, version.present)
        for part in record.parts:
            chosen = [
                examine(self._pool, copies, part, index, throttle) for index, slot in enumerate(record.layout.slots)
                if only is None or (part.write_id, slot) in only
            ]
            found = await asyncio.gather(*chosen)
            done += Healed(examined_shards=sum(shard.state not in ("volume down", "no row") for shard in found))
            bad = [shard.slot for shard in found if shard.state in _BAD]
            if only is not None:
                unseen = [shard for shard in found if shard.state in ("volume down", "no row")]
                done += Healed(failed=tuple(f"part {part.number}, volume {shard.slot}: {shard.state}" for shard in unseen))
            if not bad:
                continue
            if in_files(version):
                for slot in bad:
                    done += await self._mender.rebuild(record, part, version.present, slot)
            else:
                done += await self._inline(version.id, part, bad)
        return done

    async def _inline(self, id: RowId, part: Part, bad: Collection[int]) -> Healed:
        """Put small shards into the catalogs again, each with its row in one transaction."""
        async with self._mender.locked(*id[:2]):
            view = await self._mender.view(*id[:2])
            version = next((version for version in self._committed(view) if version.id == id), None)
            if version is None:
                return Healed()
            made: dict[int, bytes] = {}
            failed: list[str] = []
            for slot in version.present.keys() & bad:
                try:
                    shard = await rebuild_shard(self._pool, version.record, part, version.present, slot)
                except (VolumeError, DataLost, Overloaded) as error:
                    failed.append(f"volume {slot}: {error}")
                else:
                    made[slot] = shard or b""
            lanes = [lane for lane in self._pool.up() if lane.slot in made]
            stored = version.stored
            placer = self._committer.placer
            done = await placer.insert(id, version.record, placer.as_committed(version), lanes, made, view, stored=stored)
            self._mender.settler.add(id, version.record, await self._committer.pairs.joint(version, version.present))
        failed += [f"volume {slot}: the shard could not be stored" for slot in made.keys() - done]
        return Healed(0, len(done), sum(len(made[slot]) for slot in done), 0, tuple(failed))

    # ---- telling -----------------------------------------------------------------------------------------------------
    async def inspect(self, bucket: Bucket, key: str, deep: bool = True) -> list[KeyHealth]:
        """Every version of which a volume has a row, newest first. NoSuchKey, Unavailable."""
        view = await self._rows(bucket, key)
        ids = {row.id for rows in view.heard.values() for row in rows}
        return [await self._health(bucket.name, view, id, deep) for id in sorted(ids, key=lambda id: id[2:], reverse=True)]

    async def _rows(self, bucket: Bucket, key: str) -> View:
        view = await self._mender.view(bucket.space, key.encode())
        if not any(view.heard.values()) and await self._committer.current(bucket.space, key.encode()) is None:
            raise NoSuchKey(key)
        return view

    async def _health(self, bucket: str, view: View, id: RowId, deep: bool) -> KeyHealth:
        copies = {slot: row for slot, rows in view.heard.items() for row in rows if row.id == id}
        good = {slot: row for slot, row in copies.items() if sound(row)}
        states = {slot: self._row_state(view, copies, slot) for slot in range(self._pool.n)}
        if not good:
            return KeyHealth(bucket, id.key.decode(), id.seq, id.rev, "unknown", 0, "", 0, 0, states, [], False, False)
        record = unpack(next(iter(good.values())).record)
        fate = next((view.judge(version) for version in view.versions if version.id == id), None)
        committed = fate is Fate.COMMITTED
        shards = await self._shards(record, {slot: row for slot, row in good.items() if row.state is not State.ABORTED}, deep)
        k, m = (record.layout.k, record.layout.m) if record.kind in DATA_KINDS and record.layout else (0, 0)
        ok = [sum(shard.state == "ok" for shard in part) for part in shards]
        return KeyHealth(
            bucket, id.key.decode(), id.seq, id.rev, record.kind, record.size, record.etag, k, m, states,
            [shard for part in shards for shard in part],
            readable=committed and all(count >= k for count in ok),
            whole=committed and {"pending", "answered", "committed"}.issuperset(states.values())
            and all(count == k + m for count in ok),
            undecided=fate is Fate.OPEN,
        )

    def _row_state(self, view: View, copies: Mapping[int, Row], slot: int) -> RowState:
        if slot not in view.heard:
            return "down"
        if slot not in copies:
            return "none"
        if not sound(copies[slot]):
            return "rotten"
        return _SHOWN[copies[slot].state]

    async def _shards(self, record: Record, rows: Mapping[int, Row], deep: bool) -> list[list[ShardHealth]]:
        """Of each part."""
        if record.layout is None or record.kind not in DATA_KINDS:
            return []
        copies = Copies(record, record.layout, rows)
        found = []
        with self._pool.reads(record.write_ids):
            for part in record.parts:
                indexes = range(len(record.layout.slots))
                found.append(await asyncio.gather(*(examine(self._pool, copies, part, i, deep=deep) for i in indexes)))
        return found
