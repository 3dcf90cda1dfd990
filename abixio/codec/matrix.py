"""The matrices of the systematic Reed-Solomon code: how parity follows from data, and lost shards from those that are left.

The code matrix has k + m rows and k columns: a Vandermonde matrix V[r][c] = r^c times the inverse of its top k x k square.
Its top square is thus the unit matrix (shard i < k is piece i of the data), and any k of its rows can be inverted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from abixio._gf256 import invert, multiply, vandermonde

MAX_SHARDS: Final = 255
"""What implementations of this code agree on; the field itself has 256 evaluation points."""
CACHED: Final = 1024
"""Decoding matrices kept: all patterns of up to 4 losses out of 12 shards (793), at most 64 KiB each, mostly under 1 KiB."""


def check(k: int, m: int) -> None:
    """ValueError unless there can be a code of k data and m parity shards."""
    if k < 1 or m < 0 or k + m > MAX_SHARDS:
        raise ValueError(f"{k} data and {m} parity shards: at least 1 and 0, together at most {MAX_SHARDS}")


def _product(a: bytes, b: bytes, n: int) -> bytes:
    """Of a matrix with n columns and one of n x n: the rows of `b` are the sources."""
    rows = [bytearray(n) for _ in range(len(a) // n)]
    multiply(a, [b[i : i + n] for i in range(0, n * n, n)], rows)
    return b"".join(rows)


@lru_cache(maxsize=MAX_SHARDS)
def parity_matrix(k: int, m: int) -> bytes:
    """m rows of k coefficients: the parity shards from the data."""
    check(k, m)
    points = vandermonde(k + m, k)
    return _product(points[k * k :], invert(points[: k * k], k), k)


def _rows(k: int, m: int, shards: tuple[int, ...]) -> bytes:
    """The rows of the code matrix that make these shards from the data."""
    parity = parity_matrix(k, m)
    unit = bytes(k) + b"\1" + bytes(k)
    return b"".join(unit[k - i : 2 * k - i] if i < k else parity[(i - k) * k : (i - k + 1) * k] for i in shards)


@lru_cache(maxsize=CACHED)
def decoding_matrix(k: int, m: int, present: tuple[int, ...], wanted: tuple[int, ...]) -> bytes:
    """One row of k coefficients for each wanted shard: what it is made of, given the k shards `present`, in that order."""
    return _product(_rows(k, m, wanted), invert(_rows(k, m, present), k), k)
