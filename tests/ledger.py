"""The ledger: what every key may hold, from what was asked and what was answered. It is what a store is judged by.

Each key has one writer at a time, so its versions have an order. An answer makes a version `done` (all before it are history),
`refused` (nobody may ever see it) or leaves it `unknown` (it may be there or not, but once it was seen it stays). Every
line is on disk before its request is sent.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple

State = Literal["asked", "done", "refused", "unknown"]
STAMP = 16
"""Bytes at the front of a body that are the hash of the others."""
KEPT = 256
"""Versions of a key that are remembered: a reader that is slower than so many writes is not judged."""


class Lost(AssertionError):
    """The store has lost, mixed up or invented something."""


def make_body(chooser: random.Random, size: int) -> bytes:
    """Random bytes that carry their own hash, so that a mixture of two bodies shows without any ledger."""
    if size < 2 * STAMP:
        return chooser.randbytes(size)
    rest = chooser.randbytes(size - STAMP)
    return blake2b(rest, digest_size=STAMP).digest() + rest


def whole(body: bytes) -> bool:
    """Whether a body is one that `make_body` made."""
    return len(body) < 2 * STAMP or blake2b(body[STAMP:], digest_size=STAMP).digest() == body[:STAMP]


def digest(body: bytes | None) -> str | None:
    """A name for a body; None for no object."""
    return None if body is None else blake2b(body, digest_size=16).hexdigest()


@dataclass(slots=True)
class Version:
    """One write of one key: `name` is its body's digest, None for a delete."""

    name: str | None
    state: State = "asked"
    etag: str = ""
    size: int = 0


@dataclass(slots=True)
class Entry:
    """A key. Versions are numbered from 0, which is that there was nothing."""

    versions: dict[int, Version] = field(default_factory=lambda: {0: Version(None, "done")})
    last: int = 0
    least: int = 0
    """The version that was acknowledged, or seen, last: nothing older may be seen again."""


class Source(NamedTuple):
    """A version that can be copied."""

    key: str
    name: str
    etag: str
    size: int


class Ledger:
    """Used by many threads."""

    def __init__(self, path: Path) -> None:
        self.acknowledged = 0
        self.path = path
        self._file = path.open("a")
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def close(self) -> None:
        self._file.close()

    @property
    def keys(self) -> list[str]:
        with self._lock:
            return sorted(self._entries)

    # ---- the writer's side -------------------------------------------------------------------------------------------
    def ask(self, key: str, name: str | None) -> int:
        """A write is about to be sent; returns its number."""
        with self._lock:
            entry = self._entries.setdefault(key, Entry())
            entry.last += 1
            entry.versions[entry.last] = Version(name)
            self._write({"key": key, "number": entry.last, "name": name})
            return entry.last

    def answer(self, key: str, number: int, state: State, etag: str = "", size: int = 0) -> None:
        """What came back."""
        with self._lock:
            entry = self._entries[key]
            version = entry.versions[number]
            version.state, version.etag, version.size = state, etag, size
            if state == "done":
                self.acknowledged += 1
                self._advance(entry, number)
            elif state == "refused":
                del entry.versions[number]  # so that whoever reads it finds something that nobody wrote
            self._write({"key": key, "number": number, "state": state, "etag": etag})

    def discarded(self, key: str) -> None:
        """An operator gave up the undecided writes of that key: nobody was answered that they are there, so they may be gone
        even if somebody saw them."""
        with self._lock:
            entry = self._entries[key]
            entry.least = max(number for number, version in entry.versions.items() if version.state == "done")

    def source(self, chooser: random.Random) -> Source | None:
        """Any object that is there for sure."""
        with self._lock:
            newest = [(key, entry, entry.versions[entry.least]) for key, entry in self._entries.items()]
            certain = [(key, version) for key, entry, version in newest if max(entry.versions) == entry.least]
            found = [Source(key, v.name, v.etag, v.size) for key, v in certain if v.name is not None and v.etag]
        return chooser.choice(found) if found else None

    # ---- the reader's side -------------------------------------------------------------------------------------------
    def before(self, key: str) -> int:
        """To be called ahead of a read, for `saw`."""
        with self._lock:
            entry = self._entries.get(key)
            return 0 if entry is None else entry.least

    def saw(self, key: str, before: int, name: str | None) -> None:
        """A read ended and found that. Lost, when no order of events allows it."""
        with self._lock:
            entry = self._entries.setdefault(key, Entry())
            if before not in entry.versions:
                return
            for number, version in sorted(entry.versions.items()):
                if number >= before and version.name == name:
                    self._advance(entry, number)
                    return
            told = {number: (version.name, version.state) for number, version in entry.versions.items() if number >= before - 2}
            raise Lost(f"{key!r} holds {name}; it may only hold a version from {before} on of {told}")

    def may_be_listed(self, key: str, before: int) -> tuple[bool, bool]:
        """Whether a listing since then may show the key, and whether it may leave it out."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or before not in entry.versions:
                return (entry is not None, True)
            names = [version.name for number, version in entry.versions.items() if number >= before]
            return any(name is not None for name in names), any(name is None for name in names)

    def check_listing(self, shown: Collection[str], before: dict[str, int]) -> None:
        """A whole listing against what was known before it began. Lost."""
        for key, number in before.items():
            may, need_not = self.may_be_listed(key, number)
            if (key in shown and not may) or (key not in shown and not need_not):
                raise Lost(f"{key!r} is {'' if key in shown else 'not '}listed")
        strange = set(shown).difference(self.keys)
        if strange:
            raise Lost(f"listed, though nobody wrote them: {sorted(strange)[:5]}")

    # ---- the rest ----------------------------------------------------------------------------------------------------
    @staticmethod
    def _advance(entry: Entry, number: int) -> None:
        entry.least = max(entry.least, number)
        for old in [number for number in entry.versions if number < entry.least - KEPT]:
            del entry.versions[old]

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
