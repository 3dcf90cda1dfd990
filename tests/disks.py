"""Disks to hurt: ext4 file systems in files, on loop devices, that freeze, fill, become read-only and fail under a running
server, as disks do. Where that is not allowed (it needs root and mkfs.ext4), plain directories, which cannot.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.server import bring_back, remove

MIB = 1 << 20
FREEZE, THAW, SHUTDOWN = 0xC0045877, 0xC0045878, 0x8004587D
"""ioctls of Linux file systems (linux/fs.h, fs/ext4)."""
WITHOUT_FLUSH = 2
"""SHUTDOWN as a power cut: not even the journal is written."""
PATIENCE = 10.0
"""Seconds until a file system that nobody uses any more can be unmounted."""


class Disk:
    """A directory. `volume` is what a server gets."""

    can = frozenset({"remove", "corrupt"})
    """What can be done to it."""

    def __init__(self, home: Path, number: int) -> None:
        self.volume = home / f"v{number}"

    def remove(self) -> None:
        remove(self.volume)

    def bring_back(self) -> None:
        bring_back(self.volume)

    def close(self) -> None:
        """Nothing is left of it that a recursive removal would not take."""


class LoopDisk(Disk):
    """An ext4 file system. Its volume is a directory in it, so that it can be renamed."""

    can = Disk.can | {"freeze", "fill", "read-only", "fail"}

    def __init__(self, home: Path, number: int, size: int = 384 * MIB) -> None:
        self._image, self._mount = home / f"disk{number}", home / f"d{number}"
        self.volume = self._mount / "v"
        self._device = ""
        self._frozen = False
        with self._image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", str(self._image))
        self._mount.mkdir()
        self._device = _run("losetup", "--find", "--show", str(self._image))
        try:
            self._attach()
            self.volume.mkdir()
            _run("sync", "--file-system", str(self._mount))
        except BaseException:
            self.close()
            raise

    # ---- what can be done to it --------------------------------------------------------------------------------------
    def freeze(self) -> None:
        """From now on every write and every sync waits."""
        self._ioctl(FREEZE, 0)
        self._frozen = True

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._ioctl(THAW, 0)

    def fill(self) -> None:
        """Not a block is left."""
        with (self._mount / "ballast").open("wb") as file:
            free = os.statvfs(self._mount).f_bavail * os.statvfs(self._mount).f_frsize
            while free >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
                except OSError:
                    free //= 2

    def empty_again(self) -> None:
        """The room is there again."""
        (self._mount / "ballast").unlink(missing_ok=True)

    def fail(self) -> None:
        """From now on every access to the disk is an error; what was not synced is lost."""
        self._ioctl(SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))

    def go_read_only(self) -> None:
        """As the kernel does when it meets an error on the disk."""
        Path("/sys/fs/ext4", Path(self._device).name, "trigger_fs_error").write_text("abixio")

    def mount_again(self, read_only: bool = False) -> None:
        """As after a repair or a reboot: nobody may use it."""
        self._detach()
        _run("e2fsck", "-p", "-f", self._device, allowed=(0, 1))
        self._attach(read_only)

    def close(self) -> None:
        self.thaw()
        self._detach()
        if self._device:
            _run("losetup", "--detach", self._device, allowed=(0, 1))
            self._device = ""
        self._image.unlink(missing_ok=True)

    # ---- the rest ----------------------------------------------------------------------------------------------------
    def _attach(self, read_only: bool = False) -> None:
        how = "errors=remount-ro" + (",ro" if read_only else "")
        _run("mount", "-t", "ext4", "-o", how, self._device, str(self._mount))

    def _detach(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while os.path.ismount(self._mount):
            try:
                _run("umount", str(self._mount))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _ioctl(self, what: int, argument: int | bytes) -> None:
        descriptor = os.open(self._mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, what, argument)
        finally:
            os.close(descriptor)


def why_no_loops(home: Path) -> str:
    """Why there can be no LoopDisk here; empty when there can be."""
    if os.geteuid() != 0:
        return "only root can mount file systems"
    for tool in ("mkfs.ext4", "e2fsck", "losetup", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    home.mkdir(parents=True, exist_ok=True)
    try:
        disk = LoopDisk(home, 99, 16 * MIB)
    except OSError as error:
        return str(error)
    disk.close()
    return ""


def make_disks(home: Path, count: int) -> tuple[list[Disk], str]:
    """So many disks, and why they are plain directories, if they are."""
    reason = why_no_loops(home / "try")
    kind = Disk if reason else LoopDisk
    disks: list[Disk] = []
    try:
        for number in range(count):
            disks.append(kind(home, number))
    except BaseException:
        for disk in disks:
            disk.close()
        raise
    return disks, reason


def _run(*command: str, allowed: tuple[int, ...] = (0,)) -> str:
    """Its output; OSError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode not in allowed:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
