"""What an error of SQLite means for the volume."""

from __future__ import annotations

import errno
from typing import Final, cast

import apsw

from abixio import _catalog
from abixio.errors import CatalogCorrupt, Exhausted, VolumeError, VolumeFull, VolumeReadOnly, VolumeUnusable

_SYNC: Final = frozenset((apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC, apsw.SQLITE_READONLY_DBMOVED))
_BROKEN: Final = frozenset((apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA))
_CORRUPT: Final = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_CLOSED: Final = (apsw.ConnectionClosedError, apsw.CursorClosedError)
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
_READ_ONLY: Final = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))


def volume_error(error: apsw.Error, connection: apsw.Connection | None, where: str) -> VolumeError:
    """The error to raise. A full or read-only disk leaves a transaction undone: its commit frame is written last."""
    text = f"{where}: {error}"
    if isinstance(error, _CLOSED):
        return VolumeUnusable(f"{where}: is closed")
    if isinstance(error, _CORRUPT) or _code(error) in _BROKEN:
        return CatalogCorrupt(text)
    if _code(error) in _SYNC:
        return VolumeUnusable(text)
    if isinstance(error, apsw.FullError):
        return VolumeFull(text)
    if isinstance(error, apsw.ReadOnlyError):
        return VolumeReadOnly(text)
    if isinstance(error, apsw.IOError | apsw.CantOpenError) and connection is not None:
        number = connection.system_errno
        if number in _FULL:
            return VolumeFull(text)
        if number in _EXHAUSTED:
            return Exhausted(text)
        if number in _READ_ONLY:
            return VolumeReadOnly(text)
    return VolumeError(text)


def sqlite_error(code: int, text: str) -> apsw.Error:
    """What apsw would have raised, from what `_catalog` was told."""
    if code == _catalog.CLOSED:
        return apsw.ConnectionClosedError(text)
    if code == _catalog.IN_USE:
        return apsw.ThreadingViolationError(text)
    error = cast(apsw.Error, apsw.exception_for(code))
    error.args = (text,)
    return error


def _code(error: apsw.Error) -> int:
    """SQLite's extended result code; 0 for errors of apsw itself, which carry none."""
    return getattr(error, "extendedresult", 0)
