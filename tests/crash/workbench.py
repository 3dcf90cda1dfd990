"""A place for volumes in memory that is filled and emptied a thousand times."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.interface import Note
from abixio.volume.local import LocalVolume
from tests.crash.disk import Image
from tests.crash.layer import BOOT
from tests.volume_fixtures import Unsynced

HOME: Final = frozenset(
    f".abixio/{name}" for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm", "lock", "volume.json", "credentials.json")
)
_GARBAGE: Final = b"left over from before the cut" * 100
"""What -shm may hold after a power cut: anything."""


class Booted(Unsynced):
    """After the crash: nothing fails any more."""

    def __init__(self, boot: str) -> None:
        self._boot = boot

    def boot_id(self) -> str:
        return self._boot


class Bench:
    """The directories of n volumes."""

    def __init__(self, n: int) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(mkdtemp(prefix="abixio-crash-", dir=memory))
        self.n = n
        self.paths = [self.root / f"v{slot}" for slot in range(n)]
        self._there: dict[int, dict[str, str]] = {}
        """What the last look at a volume found: looking costs more than all else here."""

    def close(self) -> None:
        shutil.rmtree(self.root)

    def format(self) -> None:
        """A new pool."""
        for slot in range(self.n):
            self._format(slot)

    def _format(self, slot: int) -> None:
        members = tuple(Member(other, f"{other + 1:032x}") for other in range(self.n))
        self.paths[slot].mkdir()
        format_volume(str(self.paths[slot]), Identity("d" * 32, slot, members[slot].volume, 1, members, 0), Unsynced())

    def blank(self, slot: int) -> None:
        """Put an empty disk in the place of that one, as a start would."""
        shutil.rmtree(self.paths[slot])
        self._there.pop(slot, None)
        self._format(slot)
        volume = LocalVolume.open(str(self.paths[slot]), Booted(BOOT))
        volume.apply([[Note("filling", 1)]], durable=True)
        volume.close()

    def files(self, slot: int) -> dict[str, str]:
        """All files of a volume: name -> path."""
        top = str(self.paths[slot])
        found: dict[str, str] = {}
        pending = [top]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        found[entry.path[len(top) + 1 :]] = entry.path
        self._there[slot] = found
        return found

    def images(self) -> list[Image]:
        """What the volumes hold. The shared memory of SQLite is no part of it."""
        return [
            {name: Path(path).read_bytes() for name, path in self.files(slot).items() if not name.endswith("-shm")}
            for slot in range(self.n)
        ]

    def lay(self, images: list[Image], after_cut: bool = False) -> None:
        """Put those files there and no others."""
        for slot, image in enumerate(images):
            there = self._there.pop(slot, None) or self.files(slot)
            for name in there.keys() | HOME:
                with suppress(FileNotFoundError):
                    os.unlink(self.paths[slot] / name)
            self._there.pop(slot, None)
            for name, data in image.items():
                with open(self.paths[slot] / name, "wb") as file:
                    file.write(data)
            if after_cut:
                (self.paths[slot] / ".abixio/catalog.db-shm").write_bytes(_GARBAGE)


@contextmanager
def bench(n: int) -> Iterator[Bench]:
    made = Bench(n)
    try:
        yield made
    finally:
        made.close()
