"""What the volumes say of a key without its lock: the newest version, or the one asked for, where that is beyond doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abixio.errors import DataLost, Unavailable
from abixio.store.asking import Asker, Enough
from abixio.store.pace import Pace
from abixio.store.pool import Pool
from abixio.store.record import Record, unpack
from abixio.store.resolve import DATA_KINDS, LISTED_KINDS, Fate, Version, View, same_content
from abixio.store.versions import Which, is_wanted, matters, walk
from abixio.volume.interface import Row, State


@dataclass(frozen=True, slots=True)
class Found:
    """The newest committed record of a key, and the rows that hold it by slot."""

    record: Record
    rows: Mapping[int, Row]
    certain: bool = True
    """False when so few volumes answer that a newer record cannot be ruled out."""


class Doubt(Unavailable):
    """Only the holder of the key lock can tell what the newest version is."""


def newest(view: View) -> Version | None:
    """The newest version of a key, if it is in no doubt and no tombstone."""
    for version, fate in walk(view):
        if fate is not Fate.COMMITTED:
            return None
        if is_wanted(version.record, None):
            return None if version.record.kind == "tombstone" else version
    return None


class Lookup:
    """Looks records up by the rules of design.md, *Commit*, and waits for nobody's lock."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.asker = Asker(pool)

    # ---- asking ------------------------------------------------------------------------------------------------------
    def look(self, space: bytes, key: bytes, pace: Pace, enough: Enough | None = None) -> View:
        """`view` on a thread, which may wait for the volumes."""
        return self.asker.blocking(space, key, enough or self._decided, pace)

    async def view(self, space: bytes, key: bytes, enough: Enough | None = None) -> View:
        """What the volumes say of a key. Slow ones are asked only when the others do not decide it, or are not `enough`."""
        rows, rest = self.asker.at_hand(space, key)
        return await self.asker.rest(space, key, rows, rest, enough or self._decided) if rest else self.asker.view(rows)

    def _decided(self, view: View) -> bool:
        """Whether other volumes could not change what follows from the view."""
        if view.vouching < self.pool.quorum.r:
            return False
        try:
            return not view.versions or view.judge(view.versions[0]) is Fate.COMMITTED
        except DataLost:
            return False

    async def seen(self, space: bytes, key: bytes, reading: bool = True, of: Which = None) -> Found | None:
        """`current` without the lock: Unavailable also when only the lock could tell."""
        rows, rest = self.asker.at_hand(space, key, of is None)
        found = self.agreed(rows) if of is None else None
        if found is not None:
            return found
        view = self.asker.few(rows) if of is None else self.asker.view(rows)
        if view.brief:
            if rest and (any(lane.prompt for lane in rest) or not self._shows(view, reading)):
                view = await self.asker.rest(space, key, rows, rest, lambda view: self._shows(view, reading), few=True)
            version = newest(view)
            if version is not None:
                return self.serve(view, version, reading)
            rows, rest = self.asker.at_hand(space, key)
            view = self.asker.view(rows)
        if rest and (any(lane.prompt for lane in rest) or not self._tells(view, reading, of)):
            view = await self.asker.rest(space, key, rows, rest, lambda view: self._tells(view, reading, of))
        return self.tell(view, reading, of)

    # ---- what a view says ----------------------------------------------------------------------------------------------
    def _as_before(self, view: View, reading: bool, of: Which) -> Found | None:
        """Nobody can tell now whether the newest rev was committed; but when it only gives its version another layout, what was
        there before is served, which is the same. Nothing else may be in doubt."""
        newest: Version | None = None
        for version, fate in walk(view):
            if newest is None:
                if fate is Fate.COMMITTED or not matters(version.record, of):
                    continue
                if not is_wanted(version.record, of):
                    return None
                newest = version
            elif version.id.seq != newest.id.seq:
                return None
            elif fate is Fate.COMMITTED and same_content(version.record, newest.record):
                return self.serve(view, version, reading)
        return None

    @staticmethod
    def _shows(view: View, reading: bool) -> bool:
        """Whether the newest version is among the newest rows, and can be served from who showed it."""
        version = newest(view)
        return version is not None and (not reading or version.record.kind not in DATA_KINDS or len(version.present) >= version.k)

    def _tells(self, view: View, reading: bool, of: Which) -> bool:
        try:
            self.tell(view, reading, of)
        except (Unavailable, DataLost):
            return False
        return True

    def tell(self, view: View, reading: bool = True, of: Which = None) -> Found | None:
        """What a view says without the lock: Doubt when only the lock can tell."""
        for version, fate in walk(view):
            if fate is Fate.COMMITTED:
                if is_wanted(version.record, of):
                    return self.serve(view, version, reading)
            elif matters(version.record, of):
                raise Doubt("a write of this key is not settled yet")
        self._nothing(view)
        return None

    def pick(self, view: View, reading: bool = True, of: Which = None) -> Found | None:
        """The version asked for among the committed ones."""
        for version, fate in walk(view):
            if fate is Fate.COMMITTED and is_wanted(version.record, of):
                return self.serve(view, version, reading)
            if fate in (Fate.FINISH, Fate.OPEN) and matters(version.record, of):
                raise Unavailable("an unfinished write cannot be settled with these volumes")
        self._nothing(view)
        return None

    def agreed(self, rows: Mapping[int, Sequence[Row]]) -> Found | None:
        """The common case without a view (20 us less): every volume answers with one and the same newest row, and none has
        aborted it. Then it is committed, whatever they say, since no quorum is more than all of them."""
        if len(rows) < self.pool.n or self.pool.filling:
            return None
        copies: dict[int, Row] = {}
        first: Row | None = None
        for slot, own in rows.items():
            if not own:
                return None
            row = copies[slot] = own[0]
            if first is None:
                first = row
            elif row.record != first.record or row.id != first.id:
                return None
            if row.state is State.ABORTED:
                return None
        if first is None:
            return None
        record = unpack(first.record)
        return Found(record, copies) if record.kind in LISTED_KINDS else None

    def _nothing(self, view: View) -> None:
        """Unavailable unless a negative answer is allowed."""
        if view.vouching < self.pool.quorum.r:
            raise Unavailable(f"only {view.vouching} volumes can tell what is not there")

    def serve(self, view: View, version: Version, reading: bool = True) -> Found | None:
        """A committed version as an answer; `reading`: its bytes are wanted, not only its record."""
        record, present = version.record, version.present
        if record.kind not in LISTED_KINDS:
            self._nothing(view)
            return Found(record, present) if record.kind == "marker" else None
        if record.kind in DATA_KINDS:
            if reading and len(present) < version.k:
                raise Unavailable(f"{len(present)} of the {version.k} volumes needed hold this version")
            return Found(record, present)
        return Found(record, present, certain=view.vouching >= self.pool.quorum.r)
