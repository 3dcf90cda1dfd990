"""The explicit discard: an operator's word that ends a write of which nobody can tell whether it was answered.

Rule 5 of *Resolve* keeps such a write undecided, and its key unavailable, until volumes come back. When they never will, somebody
has to decide, and it cannot be the store: the write may have been acknowledged. What is discarded counts as aborted for good,
also when a volume returns that knows it as committed.
"""

from __future__ import annotations

import logging

from abixio.errors import Unavailable
from abixio.store.health import Discarded
from abixio.store.mend import Mender
from abixio.store.resolve import Fate, Version, View
from abixio.store.types import Bucket
from abixio.store.versions import walk
from abixio.volume.interface import State

_log = logging.getLogger(__name__)


class Discarder:
    """Takes undecided writes back."""

    def __init__(self, mender: Mender) -> None:
        self._mender = mender
        self._committer = mender.committer
        self._pool = mender.pool

    async def discard(self, bucket: Bucket, key: str) -> list[Discarded]:
        """The undecided writes of a key, newest first, which are aborted now; none when there are none. Unavailable when too few
        volumes are up, or take it: then what some took may have decided it, and the next try finds that."""
        space, name = bucket.space, key.encode()
        discarded: list[Discarded] = []
        async with self._committer.locks.exclusive(space, name):
            while (open_ := undecided(view := await self._mender.view(space, name))) is not None:
                await self._abort(view, open_)
                record = open_.record
                discarded.append(Discarded(record.seq, record.rev, record.kind, record.modified, record.size))
                _log.warning("bucket %s, key %r: write %d.%d was discarded", bucket.name, key, record.seq, record.rev)
        self._mender.settler.wake()
        return discarded

    async def _abort(self, view: View, version: Version) -> None:
        """As aborted on so many volumes that it can never commit."""
        enough = self._pool.n - version.record.w + 1
        if len(view.rows) < enough:
            raise Unavailable(f"{len(view.rows)} volumes answer, {enough} are needed to discard a write")
        if version.other is not None:
            async with self._committer.pairs.other_half(version) as other:
                if other.fate is Fate.COMMITTED:
                    raise Unavailable("the rename was committed, and is known to be by its other key")
                done = await self._committer.pairs.abort(view, version, other)
        else:
            done = await self._committer.placer.insert(
                version.id, version.record, State.ABORTED, self._pool.up(), None, view, stored=version.stored
            )
        if len(done) < enough:
            raise Unavailable(f"{len(done)} volumes took it, {enough} are needed to discard a write")


def undecided(view: View) -> Version | None:
    """The newest write of a key that can be neither completed nor taken back with the volumes that answer."""
    return next((version for version, fate in walk(view) if fate is Fate.OPEN), None)
