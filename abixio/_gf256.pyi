"""Matrix times buffers over GF(2^8) with the polynomial 0x11D, in C kernels chosen for this processor.

The environment variable ABIXIO_GF256_KERNEL demands a kernel by name; the import fails when it cannot run here.
The field, the kernels and their rules are specified in `_gf256.h`. Vector kernels: split-nibble look-ups as in Plank,
Greenan and Miller, "Screaming Fast Galois Field Arithmetic Using Intel SIMD Instructions" (FAST 2013), and
multiplication by bit matrices with GFNI.
"""

from collections.abc import Sequence
from typing import Final

from typing_extensions import Buffer

KERNELS: Final[tuple[str, ...]]
"""All names, fastest first: gfni512, gfni, avx512, avx2, ssse3, scalar (the reference)."""

def kernel() -> str:
    """The kernel that `multiply` uses."""

def kernels() -> tuple[str, ...]:
    """The kernels that this processor can run, fastest first."""

def multiply(matrix: bytes, sources: Sequence[Buffer], outputs: Sequence[Buffer], kernel: str | None = None) -> None:
    """outputs[r] = sum over c of matrix[r * len(sources) + c] * sources[c], byte by byte, for every output.

    1 to 255 sources and 0 to 255 writable outputs, all contiguous and of one length, of any alignment. An output overlaps
    nothing else. The old content of the outputs does not matter. `kernel` is for tests and benchmarks. The GIL is
    dropped when the buffers hold 16 KiB or more in all: leave them alone meanwhile.

    ValueError: shapes that do not fit, overlap, a kernel that cannot run. BufferError: an output that is read-only.
    """

def vandermonde(rows: int, cols: int) -> bytes:
    """V[r][c] = r to the power of c (0^0 = 1), row after row. Any `cols` of its up to 256 rows are independent."""

def invert(matrix: bytes, n: int) -> bytes:
    """The inverse of an n x n matrix; ValueError when it has none."""
