"""What makes a case take a tenth of a second instead of one, and leaves out nothing that could matter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from abixio.store import completion
from abixio.store.orphans import Orphans
from abixio.volume import names
from abixio.volume.local import LocalVolume


@contextmanager
def shortcuts() -> Iterator[None]:
    """Parts may be small, as a real upload would only take time; and the scanner passes over directories that are empty on all
    volumes, of which there are 256 on each. Holds in forked children too."""
    sweep = Orphans.sweep

    async def sweep_if_any(self: Orphans, directory: int, at_once: bool = False) -> int:
        volumes = [lane.volume for lane in self._pool.lanes if lane is not None]
        paths = [names.shard_directory(volume.path, bytes([directory])) for volume in volumes if isinstance(volume, LocalVolume)]
        return await sweep(self, directory, at_once) if any(os.listdir(path) for path in paths) else 0

    with patch.object(completion, "MIN_PART", 1), patch.object(Orphans, "sweep", sweep_if_any):
        yield
