"""Makes a blank directory a volume. What is cut short anywhere is begun anew; volume.json comes last."""

from __future__ import annotations

from contextlib import suppress

from abixio.errors import StartupError, VolumeError
from abixio.volume import catalog, identity, names
from abixio.volume.files import Files
from abixio.volume.identity import Identity, Look
from abixio.volume.lock import VolumeLock


def begin_volume(path: str, files: Files) -> None:
    """The first step of `format_volume`, which shows whether the others can be done. What it leaves still counts as blank.
    StartupError."""
    try:
        files.mkdir(names.home(path))
        if not files.exists(names.formatting(path)):
            files.close(files.create(names.formatting(path)))
    except OSError as error:
        raise StartupError(
            f"{path}: cannot be made a volume: {error.strerror}; nothing was formatted; make it writable for this user, or name "
            "another directory"
        ) from error


def format_volume(path: str, new: Identity, files: Files | None = None) -> None:
    """Make the directory a volume. Durable, and volume.json comes last: what was cut short before is formatted anew.

    StartupError for a directory that holds a volume or anything else.
    """
    files = files or Files()
    found = identity.look(files, path)
    if found in (Look.FORMATTED, Look.FOREIGN):
        raise StartupError(f"{path}: will not be formatted, it is {found.value}")
    try:
        files.mkdir(names.home(path))
        lock = VolumeLock(files, path)
        try:
            _lay_out(files, path, new)
        finally:
            lock.release()
    except OSError as error:
        raise StartupError(f"{path}: cannot be formatted: {error.strerror}") from error
    except VolumeError as error:
        raise StartupError(f"{path}: cannot be formatted: {error}") from error


def _lay_out(files: Files, path: str, new: Identity) -> None:
    """Idempotent up to its last step. One syncfs for all: 256 directories would each want an fsync of their own."""
    if not files.exists(names.formatting(path)):
        files.close(files.create(names.formatting(path)))
    files.fsync_directory(names.home(path))
    files.fsync_directory(path)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            files.unlink(names.catalog(path) + suffix)
    files.mkdir(names.tmp(path))
    for directory in names.shard_directories(path):
        files.mkdir(directory)
    catalog.create(names.catalog(path), new.volume, files.vfs)
    root = files.open(path)
    try:
        files.syncfs(root)
    finally:
        files.close(root)
    files.fsync_directory(names.parent(path))
    identity.write(files, path, new)
    files.unlink(names.formatting(path))
    files.fsync_directory(names.home(path))
