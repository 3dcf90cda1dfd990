"""An SQLite VFS over the real one that counts syncs and fails on demand."""

from __future__ import annotations

import itertools
import os
from typing import Any

import apsw

_numbers = itertools.count()


class FaultyVFS(apsw.VFS):
    """`syncs` has the file suffixes in order; while `fail` holds (operation, suffix), that operation raises its error."""

    def __init__(self) -> None:
        self.name = f"faulty{next(_numbers)}"
        self.syncs: list[str] = []
        self.fail: dict[tuple[str, str], type[apsw.Error]] = {}
        self.result: dict[type[apsw.Error], int] = {}
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def check(self, operation: str, suffix: str) -> None:
        error = self.fail.get((operation, suffix))
        if error is not None:
            raised = error(f"injected into {operation} of {suffix}")
            raised.extendedresult = _RESULTS[operation, error]  # type: ignore[attr-defined]
            raise raised


_RESULTS = {
    ("sync", apsw.IOError): apsw.SQLITE_IOERR_FSYNC,
    ("write", apsw.IOError): apsw.SQLITE_IOERR_WRITE,
    ("write", apsw.FullError): apsw.SQLITE_FULL,
    ("read", apsw.IOError): apsw.SQLITE_IOERR_READ,
}


class _File(apsw.VFSFile):
    def __init__(self, vfs: FaultyVFS, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._suffix = os.path.basename(path).removeprefix("catalog.db") or "db"
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        self._vfs.syncs.append(self._suffix)
        self._vfs.check("sync", self._suffix)
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._vfs.check("write", self._suffix)
        super().xWrite(data, offset)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._vfs.check("read", self._suffix)
        return super().xRead(amount, offset)
