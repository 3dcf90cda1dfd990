"""The arithmetic against the best that others have: `python -m bench.kernels [--rounds 21]`.

Reed-Solomon against ISA-L (Debian's libisal2) on the same buffers and matrices, encoding and rebuilding m lost shards of a 1 MiB
stripe; the kernel in use against the scalar one, which the tables alone drive; MD5 against hashlib, and sixteen messages at once
against one after the other. Both sides take turns and must give the same bytes; a figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from functools import partial
from typing import Final

import click

from abixio import _gf256
from abixio._md5 import LANES, MD5, update_many
from abixio.codec.matrix import decoding_matrix, parity_matrix
from bench.lines import Line, show

MIB: Final = 1 << 20
CODES: Final = ((3, 2), (4, 2), (8, 4))
CALLS: Final = 10
"""In each timed stretch: some milliseconds."""
OVER_SCALAR: Final = 20.0
SCALAR: Final = 0.3
"""GB/s, and times as fast: what the codec was asked for at first."""

Work = Callable[[], object]


def timed(work: Work) -> float:
    begin = time.perf_counter()
    for _ in range(CALLS):
        work()
    return time.perf_counter() - begin


def in_turn(ours: Work, theirs: Work, rounds: int, size: int) -> tuple[float, str]:
    """How many times as fast we are, and both rates."""
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    rates = [size * CALLS / statistics.median(column) / 1e9 for column in zip(*pairs, strict=True)]
    return statistics.median(b / a for a, b in pairs), f"{rates[0]:.2f} against {rates[1]:.2f} GB/s"


# ---- Reed-Solomon ------------------------------------------------------------------------------------------------------
def isal() -> ctypes.CDLL:
    name = find_library("isal")
    if name is None:
        raise click.ClickException("libisal is not installed (Debian: apt-get install libisal2)")
    return ctypes.CDLL(name)


def of_isal(library: ctypes.CDLL, matrix: bytes, sources: list[memoryview], outputs: list[bytearray]) -> Work:
    """ec_encode_data with its tables made beforehand, as its users do; ours make them in each call."""
    k, rows, size = len(sources), len(outputs), len(outputs[0])
    tables = ctypes.create_string_buffer(32 * k * rows)
    library.ec_init_tables(k, rows, matrix, tables)

    def addresses(buffers: list[memoryview] | list[bytearray]) -> ctypes.Array[ctypes.c_void_p]:
        return (ctypes.c_void_p * len(buffers))(*(ctypes.addressof(ctypes.c_char.from_buffer(buffer)) for buffer in buffers))

    froms, tos = addresses(sources), addresses(outputs)
    return lambda: library.ec_encode_data(size, k, rows, tables, froms, tos)


def reed_solomon(rounds: int) -> Iterator[Line]:
    library = isal()
    for k, m in CODES:
        size = MIB // k // 64 * 64
        area = bytearray(os.urandom(k * size))
        sources = [memoryview(area)[i * size : (i + 1) * size] for i in range(k)]
        ours, theirs = [bytearray(size) for _ in range(m)], [bytearray(size) for _ in range(m)]
        lost = tuple(range(m))
        matrices = {"encode": parity_matrix(k, m), "rebuild": decoding_matrix(k, m, tuple(range(m, k + m)), lost)}
        for name, matrix in matrices.items():
            other = of_isal(library, matrix, sources, theirs)
            ratio, detail = in_turn(partial(_gf256.multiply, matrix, sources, ours), other, rounds, k * size)
            if ours != theirs:
                raise AssertionError(f"{name} {k}+{m}: ISA-L has other bytes")
            yield Line(f"Reed-Solomon {k}+{m}, {name}, {_gf256.kernel()} / ISA-L", ratio, 1.0, detail)


def scalar(rounds: int) -> Iterator[Line]:
    """Over shards of 256 KiB, which stay in the cache."""
    size, kernel = MIB, _gf256.kernel()
    piece = size // 4
    data, outputs = os.urandom(size), [bytearray(piece) for _ in range(2)]
    sources, matrix = [memoryview(data)[i * piece : (i + 1) * piece] for i in range(4)], parity_matrix(4, 2)
    best, table = (partial(_gf256.multiply, matrix, sources, outputs, name) for name in (kernel, "scalar"))
    pairs = [(timed(best), timed(table)) for _ in range(rounds)]
    rate = size * CALLS / statistics.median(pair[1] for pair in pairs) / 1e9
    yield Line(f"Reed-Solomon 4+2, {kernel} / scalar", statistics.median(b / a for a, b in pairs), OVER_SCALAR)
    yield Line("Reed-Solomon 4+2, scalar, GB/s", rate, SCALAR)


# ---- MD5 ---------------------------------------------------------------------------------------------------------------
def md5(rounds: int) -> Iterator[Line]:
    bodies = [os.urandom(MIB) for _ in range(LANES)]

    def together() -> list[bytes]:
        running = [MD5() for _ in bodies]
        update_many(running, bodies)
        return [each.digest() for each in running]

    def alone() -> list[bytes]:
        return [MD5(body).digest() for body in bodies]

    if not together() == alone() == [hashlib.md5(body).digest() for body in bodies]:
        raise AssertionError("the digests differ")
    one = bodies[0]
    ratio, detail = in_turn(lambda: MD5(one), lambda: hashlib.md5(one), rounds, len(one))
    yield Line("MD5, one stream / hashlib", ratio, 0.97, detail)
    ratio, detail = in_turn(together, alone, max(3, rounds // 3), LANES * MIB)
    yield Line(f"MD5, {LANES} at once / one after the other", ratio, 4.0, detail)


def measure(rounds: int) -> Iterator[Line]:
    yield from reed_solomon(rounds)
    yield from scalar(max(3, rounds // 3))
    yield from md5(rounds)


@click.command(help=__doc__)
@click.option("--rounds", default=21, show_default=True)
def main(rounds: int) -> None:
    lines = list(measure(rounds))
    show(lines)
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
