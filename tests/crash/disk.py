"""What a disk may hold after the power is cut: replayed from a journal of all that it was asked to do.

A sync makes certain what it covers. Of the rest, each of these survives or not: a page of a file (with the content it had
after any of the writes to it since the last sync), each 512-byte sector where a write is torn, the length, and every
change of a directory. Only what one call makes one (a rename) stays one. So writes arrive in any order or never.
A name is certain when its directory was synced, as POSIX has it; that journaling file systems do more helps nobody here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

PAGE: Final = 4096
"""Bytes that reach the disk together, when a write is not torn."""
SECTOR: Final = 512
"""Bytes that a disk writes whole or not at all."""
CUTS: Final = ("drop", "mixed", "prefix", "pages", "torn")
"""drop: nothing survives that was not synced. mixed: on some volumes all of it, on the others none. prefix: on each volume all
up to some moment. pages: any pages in any order, any changes of names. torn: the same by sectors."""

Image = Mapping[str, bytes]
"""The files of a volume by name."""


class _Write(NamedTuple):
    time: int
    offset: int
    data: bytes | None
    """None: the file is cut to `offset` bytes."""

    def on(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
            return
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data


class _Name(NamedTuple):
    """A directory entry made or removed."""

    time: int
    name: str
    inode: int | None

    def on(self, names: dict[str, int]) -> None:
        if self.inode is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.inode


class Disk:
    """One volume's disk."""

    def __init__(self, image: Image) -> None:
        self.names = {name: inode for inode, name in enumerate(sorted(image))}
        self.data = {inode: image[name] for name, inode in self.names.items()}
        """What is certain, of names and of contents."""
        self._unsynced: list[_Name] = []
        self._writes: dict[int, list[_Write]] = {}
        self._time = 0

    def copy(self) -> Disk:
        other = Disk({})
        other.names, other.data = dict(self.names), dict(self.data)
        other._unsynced = [*self._unsynced]
        other._writes = {inode: [*writes] for inode, writes in self._writes.items()}
        other._time = self._time
        return other

    def killed(self) -> Disk:
        """The same disk for the next process, which numbers the files that it finds in the order of their names. What the one
        before it did not sync is still not certain."""
        now = dict(self.names)
        for change in self._unsynced:
            change.on(now)
        number = {inode: at for at, (_, inode) in enumerate(sorted(now.items()))}
        for inode in self.data:
            number.setdefault(inode, -1 - inode)
        other = Disk({})
        other.names = {name: number[inode] for name, inode in self.names.items()}
        other.data = {number[inode]: data for inode, data in self.data.items()}
        other._unsynced = [
            change._replace(inode=None if change.inode is None else number[change.inode]) for change in self._unsynced
        ]
        other._writes = {number[inode]: [*writes] for inode, writes in self._writes.items()}
        other._time = self._time
        return other

    @property
    def unsynced(self) -> int:
        """How many changes a power cut may take."""
        return len(self._unsynced) + sum(map(len, self._writes.values()))

    # ---- what it is asked to do --------------------------------------------------------------------------------------
    def do(self, what: str, *args: Any) -> None:
        """The next entry of a journal."""
        self._time += 1
        match what, args:
            case "link", (name, inode):
                self.data[inode] = b""
                self._unsynced.append(_Name(self._time, name, inode))
            case "unlink", (name,):
                self._unsynced.append(_Name(self._time, name, None))
            case "rename", (old, new, inode):
                self._unsynced += [_Name(self._time, new, inode), _Name(self._time, old, None)]
            case "write", (inode, offset, data):
                self._writes.setdefault(inode, []).append(_Write(self._time, offset, data))
            case "truncate", (inode, size):
                self._writes.setdefault(inode, []).append(_Write(self._time, size, None))
            case "sync", (inode,):
                self._sync(inode)
            case "syncdir", (directory,):
                self._sync_names(directory)
            case "syncfs", ():
                for inode in list(self._writes):
                    self._sync(inode)
                self._sync_names(None)
            case "mkdir", (_,):
                pass  # directories are made by the format, which has its own rows
            case _:
                raise ValueError(f"not an entry of a journal: {what} {args}")

    def lose(self, what: str, *args: Any) -> None:
        """A sync that failed: the kernel forgets the pages it could not write."""
        match what, args:
            case "sync", (inode,):
                self._writes.pop(inode, None)
            case "syncfs", ():
                self._writes.clear()

    def _sync(self, inode: int) -> None:
        if writes := self._writes.pop(inode, None):
            content = bytearray(self.data[inode])
            for write in writes:
                write.on(content)
            self.data[inode] = bytes(content)

    def _sync_names(self, directory: str | None) -> None:
        rest = []
        for change in self._unsynced:
            if directory is None or change.name.rpartition("/")[0] == directory:
                change.on(self.names)
            else:
                rest.append(change)
        self._unsynced = rest

    # ---- what is left of it ------------------------------------------------------------------------------------------
    def after(self, cut: str, rng: random.Random) -> dict[str, bytes]:
        """The files after a power cut of that kind."""
        if cut == "mixed":
            cut = rng.choice(("drop", "keep"))
        moment = {"drop": 0, "keep": self._time}.get(cut, rng.randint(self._first, self._time))
        names = dict(self.names)
        chosen: dict[int, bool] = {}
        for change in self._unsynced:
            kept = change.time <= moment
            if cut in ("pages", "torn"):
                kept = chosen.setdefault(change.time, rng.random() < 0.5)
            if kept:
                change.on(names)
        unit = {"pages": PAGE, "torn": SECTOR}.get(cut)
        return {
            name: self._until(inode, moment) if unit is None else self._scattered(inode, unit, rng)
            for name, inode in names.items()
        }

    @property
    def _first(self) -> int:
        times = [writes[0].time for writes in self._writes.values()] + [change.time for change in self._unsynced[:1]]
        return min(times, default=self._time + 1) - 1

    def _until(self, inode: int, moment: int) -> bytes:
        writes = self._writes.get(inode)
        if not writes or writes[0].time > moment:
            return self.data[inode]
        content = bytearray(self.data[inode])
        for write in writes:
            if write.time <= moment:
                write.on(content)
        return bytes(content)

    def _scattered(self, inode: int, unit: int, rng: random.Random) -> bytes:
        """Each page (or sector) as it was after any of the writes to it; the length as after any of them."""
        writes = self._writes.get(inode)
        if not writes:
            return self.data[inode]
        cuts = [index for index, write in enumerate(writes) if write.data is None]
        start = rng.choice([0, *(index + 1 for index in cuts)])
        content = bytearray(self.data[inode])
        for write in writes[:start]:
            write.on(content)
        stop = next((index for index in cuts if index >= start), len(writes))
        self._scatter(content, writes[start:stop], unit, rng)
        return bytes(content)

    @staticmethod
    def _scatter(content: bytearray, writes: list[_Write], unit: int, rng: random.Random) -> None:
        ends = [len(content)]
        history: dict[int, list[_Write]] = {}
        for write in writes:
            assert write.data is not None
            ends.append(max(ends[-1], write.offset + len(write.data)))
            for number in range(write.offset // unit, -(-(write.offset + len(write.data)) // unit)):
                history.setdefault(number, []).append(write)
        length = rng.choice(ends)
        content.extend(bytes(ends[-1] - len(content)))
        calm = rng.random() < 0.5
        """Half of the time most of the pages arrive: few holes, as when the cut falls into a write-back."""
        for number, own in history.items():
            kept = len(own) if calm and rng.random() < 0.9 else rng.randint(0, len(own))
            for write in own[:kept]:
                assert write.data is not None
                low, high = max(write.offset, number * unit), min(write.offset + len(write.data), (number + 1) * unit)
                content[low:high] = write.data[low - write.offset : high - write.offset]
        del content[max(length, 0) :]


def replay(images: list[Image]) -> Replay:
    """A journal's disks from the start."""
    return Replay([Disk(image) for image in images])


class Replay:
    """All volumes' disks, walked along a journal."""

    def __init__(self, disks: list[Disk]) -> None:
        self.disks = disks
        self.events: list[str] = []

    def step(self, entry: tuple[Any, ...]) -> bool:
        """Take one entry; whether it changed what a power cut would leave."""
        if entry[0] == "event":
            self.events.append(entry[1])
        elif entry[0] == "lost":
            self.disks[entry[2]].lose(entry[1], *entry[3:])
        else:
            self.disks[entry[1]].do(entry[0], *entry[2:])
        return True
