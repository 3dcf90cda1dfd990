"""Memory and locks that the processes of one server share: an anonymous file (memfd), which has no name that could be left over.

In front are 512 cells of 8 bytes, then tables of 65,536 counters of 4 bytes. A table counts ids by their last bytes: two ids may
have one counter, so what it says is "perhaps" or "certainly not". All of it is atomic, and in one order for all processes: who
counts first and looks then, and who looks first and counts then, cannot both miss the other.

The byte locks are F_OFD_SETLK locks (fcntl(2), "Open file description locks") of a description of its own for each `Locks`. The
kernel frees them when the process ends, however it ends. Bytes of a file need not exist to be locked.
"""

from collections.abc import Iterable
from typing import Final

CELLS: Final[int]

def create(tables: int) -> int:
    """A descriptor of such a file, all zero. OSError."""

class Memory:
    """The file, mapped. Any number of them, in any process; from any thread."""

    tables: int

    def __init__(self, fd: int, tables: int) -> None:
        """`fd` may be closed afterwards. OSError."""

    def load(self, index: int) -> int: ...
    def store(self, index: int, value: int) -> None: ...
    def add(self, index: int, more: int) -> int:
        """The sum."""

    def advance(self, index: int, least: int) -> int:
        """The cell's new value: greater than every one before, and `least` at least. No two callers get the same."""

    def count(self, table: int, ids: Iterable[bytes], more: int) -> None:
        """Add to the counter of each id, of 8 bytes at least."""

    def counted(self, table: int, id: bytes) -> int: ...
    def clear(self, table: int) -> None:
        """All of its counters are zero then; for a table that nobody uses."""

class Locks:
    """One owner of byte locks. Two owners exclude each other also within one process."""

    def __init__(self, fd: int) -> None:
        """OSError."""

    def hold(self, byte: int, exclusive: bool) -> bool:
        """Try to get the lock, or to turn the one that is held into the other kind; what is held stays when that fails."""

    def wait(self, byte: int) -> None:
        """Get it exclusively, however long that takes; the GIL is released."""

    def free(self, byte: int) -> None: ...
