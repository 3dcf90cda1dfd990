"""Every name that a volume has on disk. Keys never become names: a shard file is named by its random write id."""

from __future__ import annotations

from os.path import abspath, dirname, join
from typing import Final

_FAN_OUT: Final = tuple(f"{byte:02x}" for byte in range(256))
"""One per last byte of a write id, which is random: so they fill evenly, and a directory of a volume with a hundred
million files stays under the size where ext4 needs a third level of its index."""

_HOME: Final = ".abixio"
_SHARDS: Final = "shards"
_HEX: Final = frozenset("0123456789abcdef")


def parent(volume: str) -> str:
    """The directory that holds the volume's own entry."""
    return dirname(abspath(volume))


def home(volume: str) -> str:
    """The directory for everything but finished shard files."""
    return join(volume, _HOME)


def identity(volume: str) -> str:
    return join(volume, _HOME, "volume.json")


def catalog(volume: str) -> str:
    """SQLite adds -wal and -shm to it."""
    return join(volume, _HOME, "catalog.db")


def credentials(volume: str) -> str:
    return join(volume, _HOME, "credentials.json")


def keys(volume: str) -> str:
    return join(volume, _HOME, "keys.json")


def lock(volume: str) -> str:
    return join(volume, _HOME, "lock")


def formatting(volume: str) -> str:
    """Is there from the first to the last step of formatting: tells a format that was cut short from a lost volume.json."""
    return join(volume, _HOME, "formatting")


def tmp(volume: str) -> str:
    """The directory for shard files in the making."""
    return join(volume, _HOME, "tmp")


def tmp_shard(volume: str, write_id: bytes, number: int, worker: int = 0) -> str:
    """`worker`: the process that writes it."""
    return join(volume, _HOME, "tmp", f"{write_id.hex()}.{worker}.{number}")


def tmp_worker(name: str) -> int | None:
    """The number of the process that wrote a file of that name in `tmp`; None of one that is none of ours."""
    worker = name.split(".")[1:2]
    return int(worker[0]) if worker and worker[0].isdecimal() else None


def tmp_file(volume: str, name: str) -> str:
    return join(volume, _HOME, "tmp", name)


def shards(volume: str) -> str:
    return join(volume, _SHARDS)


def shard_directories(volume: str) -> list[str]:
    """All 256; made when the volume is formatted, so that no upload has to sync a parent."""
    return [join(volume, _SHARDS, name) for name in _FAN_OUT]


def shard_directory(volume: str, write_id: bytes) -> str:
    return join(volume, _SHARDS, _FAN_OUT[write_id[-1]])


def shard(volume: str, write_id: bytes) -> str:
    return join(volume, _SHARDS, _FAN_OUT[write_id[-1]], write_id.hex())


def shard_files(volume: str, directory: int) -> str:
    """The directory of the shard files whose write ids end with that byte."""
    return join(volume, _SHARDS, _FAN_OUT[directory])


def write_id(name: str, directory: int) -> bytes | None:
    """Of a shard file of that name in that directory; None when no shard file is called so there."""
    if len(name) != 32 or not name.endswith(_FAN_OUT[directory]) or not _HEX.issuperset(name):
        return None
    return bytes.fromhex(name)


def wal(volume: str) -> str:
    """The catalog's write-ahead log: part of the data."""
    return f"{catalog(volume)}-wal"


def shm(volume: str) -> str:
    """The index of the write-ahead log; SQLite makes it anew when it is missing."""
    return f"{catalog(volume)}-shm"


def aside(volume: str) -> str:
    """Where a damaged catalog is put while its successor takes its place; a directory."""
    return join(volume, _HOME, "catalog.aside")


def aside_catalog(volume: str) -> str:
    """The database in there."""
    return join(aside(volume), "catalog.db")


def set_aside(volume: str, stamp: int) -> str:
    """What that directory is called afterwards: nobody reads it again but people."""
    return join(volume, _HOME, f"catalog.damaged-{stamp}")


def successor(volume: str) -> str:
    """A catalog in the making."""
    return join(volume, _HOME, "catalog.new")


def is_set_aside(name: str) -> bool:
    """Of an entry beside volume.json: whether rebuilding a catalog left it there."""
    return name.startswith(("catalog.aside", "catalog.damaged-", "catalog.new"))
