"""The lock file that makes a volume one server's. The kernel frees it when the last process that has its descriptor ends, however
it ends: the workers of one server share it."""

from __future__ import annotations

from abixio.errors import StartupError
from abixio.volume import names
from abixio.volume.files import Files, volume_error


class VolumeLock:
    """Held from construction to `release`. StartupError when another server has it, VolumeError when the disk does not work."""

    def __init__(self, files: Files, volume: str, shared: int | None = None) -> None:
        """`shared`: a descriptor of the lock from the process that took it; it is ours now."""
        self._files = files
        if shared is not None:
            self._fd: int | None = shared
            return
        try:
            self._fd = files.lock(names.lock(volume))
        except OSError as error:
            raise volume_error(error, f"{volume}: cannot lock it") from error
        if self._fd is None:
            raise StartupError(f"{volume}: another server uses this volume; stop it first, or name another directory")

    def fileno(self) -> int:
        """What keeps the lock, for as long as any copy of it is open."""
        if self._fd is None:
            raise ValueError("the lock was let go")
        return self._fd

    def release(self) -> None:
        """Releasing twice is harmless."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._files.close(fd)
