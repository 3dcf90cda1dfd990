"""The crash matrix itself: a sample that every run takes, and all of it for those who have an hour."""

from __future__ import annotations

import os
import time
from random import Random

import pytest

from tests.crash.matrix import MODES, Matrix, sample
from tests.crash.report import table
from tests.crash.rows import ROWS

COUNT = int(os.environ.get("ABIXIO_CRASH_CASES", "16"))
"""Cases of the sample, half of them always the same: under a minute."""
SECONDS = float(os.environ.get("ABIXIO_CRASH_SECONDS", "3600"))
"""Time for the whole matrix."""


@pytest.mark.timeout(300)
def test_a_sample_of_crashes_breaks_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("ABIXIO_CRASH_SEED", "1"))
    with Matrix() as matrix:
        cases = [*sample(matrix, MODES, 0, COUNT // 2), *sample(matrix, MODES, seed, COUNT // 2)]
        result = matrix.run(cases)
    with capsys.disabled():
        print(f"\ncrash matrix, a sample (ABIXIO_CRASH_SEED={seed}):\n{table(result)}")
    assert not result.failures, f"ABIXIO_CRASH_SEED={seed}:\n" + "\n".join(result.failures)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_crash_at_any_call_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    until = time.monotonic() + SECONDS
    with Matrix() as matrix:
        cases = [case for row in ROWS for mode in MODES for case in matrix.cases(row, mode)]
        Random(0).shuffle(cases)
        result = matrix.run(cases, until)
    with capsys.disabled():
        print(f"\ncrash matrix:\n{table(result)}")
    assert not result.failures, "\n".join(result.failures)
