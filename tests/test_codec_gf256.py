"""The kernels of GF(2^8): all of them give the bytes of a twelve-line oracle, whatever the shape, length and alignment."""

from __future__ import annotations

import os
import platform
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio import _gf256

ROOT = Path(__file__).parent.parent
KERNELS = _gf256.kernels()
CANARY = 0xA5
SEED = random.Random(20)


def times(a: int, b: int) -> int:
    """The oracle: multiplication as a polynomial, bit by bit, modulo 0x11D."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def oracle(matrix: bytes, sources: list[bytes], rows: int) -> list[bytes]:
    result = [bytearray(len(sources[0])) for _ in range(rows)]
    for r, c, i in ((r, c, i) for r in range(rows) for c in range(len(sources)) for i in range(len(sources[0]))):
        result[r][i] ^= times(matrix[r * len(sources) + c], sources[c][i])
    return [bytes(row) for row in result]


def multiply(kernel: str | None, matrix: bytes, sources: list[bytes], rows: int, offset: int = 0) -> list[bytes]:
    """Through outputs that begin `offset` bytes into dirty buffers; what lies around them must stay as it was."""
    length = len(sources[0])
    dirty = [bytearray([CANARY]) * (offset + length + 64) for _ in range(rows)]
    shifted = [memoryview(bytes(offset) + source)[offset:] for source in sources]
    _gf256.multiply(matrix, shifted, [memoryview(buffer)[offset : offset + length] for buffer in dirty], kernel)
    assert all(set(buffer[:offset] + buffer[offset + length :]) == {CANARY} for buffer in dirty)
    return [bytes(buffer[offset : offset + length]) for buffer in dirty]


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_all_65536_products_are_those_of_the_oracle(kernel: str) -> None:
    factors = bytes(range(256))
    for first in range(0, 256, 128):
        rows = factors[first : first + 128]
        for factor, row in zip(rows, multiply(kernel, rows, [factors], len(rows)), strict=True):
            assert row == bytes(times(factor, x) for x in range(256))


@pytest.mark.parametrize("shape", [(1, 1), (2, 4), (4, 2), (4, 4), (5, 3), (9, 2), (13, 16)], ids=str)
def test_small_matrices_agree_with_the_oracle(kernel: str, shape: tuple[int, int]) -> None:
    rows, cols = shape
    matrix, sources = SEED.randbytes(rows * cols), [SEED.randbytes(300) for _ in range(cols)]
    assert multiply(kernel, matrix, sources, rows) == oracle(matrix, sources, rows)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8])
def test_every_length_up_to_three_strips_agrees_with_the_scalar_kernel(kernel: str, rows: int) -> None:
    matrix, source = SEED.randbytes(rows * 3), [SEED.randbytes(400) for _ in range(3)]
    for length in range(400):
        sources = [s[:length] for s in source]
        assert multiply(kernel, matrix, sources, rows, length % 65) == multiply("scalar", matrix, sources, rows)


@pytest.mark.parametrize("length", [16383, 16384, 16385, 50_000])
def test_lengths_around_a_tile_agree_with_the_scalar_kernel(kernel: str, length: int) -> None:
    matrix, sources = SEED.randbytes(10 * 2), [SEED.randbytes(length) for _ in range(2)]
    assert multiply(kernel, matrix, sources, 10, 3) == multiply("scalar", matrix, sources, 10)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=st.integers(0, 20), cols=st.integers(1, 20), length=st.integers(0, 700), offset=st.integers(0, 70))
def test_any_shape_at_any_alignment_agrees_with_the_scalar_kernel(
    data: st.DataObject, rows: int, cols: int, length: int, offset: int
) -> None:
    rng = data.draw(st.randoms(use_true_random=False))
    matrix, sources = rng.randbytes(rows * cols), [rng.randbytes(length) for _ in range(cols)]
    expected = multiply("scalar", matrix, sources, rows)
    for name in KERNELS:
        assert multiply(name, matrix, sources, rows, offset) == expected


def test_the_largest_matrix_works(kernel: str) -> None:
    matrix, sources = SEED.randbytes(255 * 255), [SEED.randbytes(130) for _ in range(255)]
    assert multiply(kernel, matrix, sources, 255) == multiply("scalar", matrix, sources, 255)


def test_without_outputs_nothing_happens() -> None:
    _gf256.multiply(b"", [b"abc"], [])


@pytest.mark.parametrize(
    ("matrix", "sources", "outputs", "why"),
    [
        (b"", [], [], "no sources"),
        (b"\1", [b"ab"], [], "matrix of 1 bytes"),
        (b"\1", [b"ab", b"cd"], [bytearray(2)], "matrix of 1 bytes"),
        (b"\1\1", [b"ab", b"cde"], [bytearray(2)], "buffers of 2 and 3 bytes"),
        (b"\1", [b"ab"], [bytearray(3)], "sources of 2 bytes, outputs of 3"),
        (b"\1" * 256, [b""] * 256, [bytearray()], "256 buffers"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(matrix: bytes, sources: list[bytes], outputs: list[bytearray], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _gf256.multiply(matrix, sources, outputs)


def test_an_output_that_overlaps_a_source_or_an_output_is_refused() -> None:
    view = memoryview(bytearray(300))
    inside = [(view[:100], [view[99:199]]), (view[100:200], [view[1:101]]), (view[200:], [view[:100], view[50:150]])]
    for source, outputs in inside:
        with pytest.raises(ValueError, match="overlaps"):
            _gf256.multiply(bytes(len(outputs)), [source], outputs)
    _gf256.multiply(b"\1", [view[:100]], [view[100:200]])


def test_a_read_only_output_is_refused() -> None:
    with pytest.raises(BufferError):
        _gf256.multiply(b"\1", [b"ab"], [b"cd"])


def test_buffers_are_released_also_when_the_call_is_refused() -> None:
    source, output = bytearray(10), bytearray(11)
    with pytest.raises(ValueError, match="sources of 10"):
        _gf256.multiply(b"\1", [source], [output])
    source += b"a bytearray with an exported buffer could not grow"
    output += b"nor this"


def test_other_threads_run_while_a_kernel_works() -> None:
    size = 64 << 20
    sources, output = [bytes(size)] * 4, bytearray(size)
    began, steps = threading.Event(), 0

    def work() -> None:
        began.set()
        _gf256.multiply(bytes([2, 3, 4, 5]), sources, [output], "scalar")

    switch = sys.getswitchinterval()
    sys.setswitchinterval(60)  # Nobody is made to give the GIL up: it has to be dropped.
    worker = threading.Thread(target=work)
    try:
        worker.start()
        began.wait()
        while worker.is_alive():
            worker.join(0.001)
            steps += 1
    finally:
        sys.setswitchinterval(switch)
    assert steps > 5


def test_the_inverse_times_the_matrix_is_the_unit_matrix() -> None:
    for n in (1, 2, 7, 40):
        matrix = _gf256.vandermonde(n, n)
        inverse = _gf256.invert(matrix, n)
        rows = [bytearray(n) for _ in range(n)]
        _gf256.multiply(matrix, [inverse[i * n : i * n + n] for i in range(n)], rows)
        assert rows == [bytearray(i == j for i in range(n)) for j in range(n)]


def test_a_matrix_with_a_zero_pivot_is_inverted_by_exchanging_rows() -> None:
    assert _gf256.invert(bytes([0, 1, 1, 0]), 2) == bytes([0, 1, 1, 0])


@pytest.mark.parametrize(("matrix", "n"), [(bytes(4), 2), (bytes([1, 2, 1, 2]), 2), (b"\1", 2), (b"", 0)])
def test_a_matrix_without_an_inverse_is_refused(matrix: bytes, n: int) -> None:
    with pytest.raises(ValueError, match="matrix"):
        _gf256.invert(matrix, n)


def test_the_vandermonde_matrix_holds_the_powers() -> None:
    assert _gf256.vandermonde(4, 3) == bytes([1, 0, 0, 1, 1, 1, 1, 2, 4, 1, 3, 5])
    with pytest.raises(ValueError, match="257"):
        _gf256.vandermonde(257, 1)


def imported_with(name: str) -> subprocess.CompletedProcess[str]:
    call = "from abixio import _gf256; print(_gf256.kernel())"
    environment = {**os.environ, "ABIXIO_GF256_KERNEL": name}
    return subprocess.run([sys.executable, "-c", call], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_environment_demands_a_kernel(kernel: str) -> None:
    assert imported_with(kernel).stdout.strip() == kernel


def test_a_demanded_kernel_that_cannot_run_stops_the_import() -> None:
    for name in ["mmx", *(set(_gf256.KERNELS) - set(KERNELS))]:
        result = imported_with(name)
        assert result.returncode != 0
        assert f"ImportError: ABIXIO_GF256_KERNEL={name}" in result.stderr
        assert "scalar" in result.stderr


def test_the_fastest_kernel_that_runs_here_is_the_default() -> None:
    assert imported_with("").stdout.strip() == KERNELS[0]
    assert KERNELS[-1] == "scalar"


def test_a_kernel_that_cannot_run_is_refused_by_a_call() -> None:
    with pytest.raises(ValueError, match="'mmx' cannot run"):
        _gf256.multiply(b"\1", [b"ab"], [bytearray(2)], "mmx")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the vector kernels are for x86-64")
def test_the_kernels_for_other_processors_are_right_with_their_instructions_emulated(tmp_path: Path) -> None:
    """For processors that lack them: the header is compiled with vgf2p8affineqb in C, as the processor's manual defines it, and
    with the instructions of AVX-512 made of those of AVX2."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the extension was built with a compiler"
    header = (ROOT / "abixio/_gf256.h").read_text()
    for target in ('target("avx2,gfni")', 'target("avx512f,avx512bw,gfni")', 'target("avx512f,avx512bw")'):
        assert target in header
        header = header.replace(target, 'target("avx2")')
    (tmp_path / "header.h").write_text(header)
    program = tmp_path / "kernels"
    source = ROOT / "tests/data/kernels_emulated.c"
    subprocess.run([compiler, "-O1", "-std=gnu11", "-Wno-psabi", f"-I{tmp_path}", "-o", program, source], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "3000 products agree\n"
