"""System calls for SQLite that do not hang, do not kill and are few; _sqlio.h says how.

The event loop asks catalogs itself, since a hand-over to a thread costs many times the lookup. A page that is in memory is
had in microseconds, also while the disk hangs; one that is not must not be waited for there. `RWF_NOWAIT` (Linux 4.14; ext4,
XFS, Btrfs and others) makes the kernel say so instead.
"""

def begin() -> None:
    """From now on this thread takes only pages that are in memory."""

def end() -> bool:
    """This thread waits for disks again. Whether anything was refused since `begin`."""

def wanted() -> bool:
    """Whether this thread is between `begin` and `end`: for a VFS that stands in for a cold disk."""

def refuse() -> None:
    """What the kernel's refusal does: for the same."""

def calls() -> dict[str, int]:
    """Addresses of the functions by the names that they have in SQLite's table of system calls."""

def gates() -> dict[str, int]:
    """For `_catalog`: addresses of the C functions `begin`, `end`, `gather` and `scatter`, and how many bytes of room gathering
    needs. What a thread writes to a WAL between the last two reaches the file in few calls (see _sqlio.h)."""

def index(device: int, inode: int) -> int:
    """Where SQLite has mapped the start of the -shm file of that identity, in this process; 0 when it has not."""

def stamp(where: int) -> bytes | None:
    """What is mapped there changes with every commit to the catalog, by any process; None while one is changing it. Only while
    a connection to the catalog is open."""
