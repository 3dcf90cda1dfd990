"""One XXH3-64 per 64 KiB of a buffer in one C call, without the GIL where that pays.

The hash is that of the xxhash package, called by its address in the package's library and not built a second time. Block b of a
buffer, counted from 0, is hashed with (seed + b) mod 2^64; the last one may be short.
"""

from abixio.message import Buffer

BLOCK: int
"""65536."""

def sums(view: Buffer, seed: int) -> bytes:
    """A u64 in the machine's byte order for each started block of contiguous bytes."""

def first_bad(view: Buffer, expected: Buffer, seed: int) -> int | None:
    """The first block whose sum is not the one expected, None when all are. ValueError when there are not as many sums."""

def available() -> bool:
    """Whether that library exports its hash, as the published wheels do. If not, neither function above may be called."""

def resident(view: Buffer) -> bool:
    """Whether every page of that memory is there now, so that to read it waits for no disk (mincore(2)); of a map: whether it is
    in the page cache. The kernel says yes of a file that is not the process's own and that it may not write."""

def populated(view: Buffer) -> bool:
    """Whether it is there, and can be read without a signal: of a page behind the end of a file that was cut off, or of one whose
    memory is broken, the kernel may still say that it is there, but it does not map it (MADV_POPULATE_READ, since Linux 5.14)."""
