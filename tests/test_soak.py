"""Two minutes of everything that can happen to disks and servers; hours of it by `python -m tests.soak --seconds 7200`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak import REST, Soak

SECONDS = float(os.environ.get("ABIXIO_TEST_SOAK", "100"))
"""Acts of about six seconds each. An act that has begun is finished, and the end takes some 15 seconds more."""


@pytest.mark.timeout(int(SECONDS + 8 * REST))
def test_nothing_is_lost_while_disks_fail_and_the_server_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soak = Soak(tmp_path, seed=int(os.environ.get("ABIXIO_TEST_SEED", "1")))
    try:
        soak.run(SECONDS)
    finally:
        soak.close()
        with capsys.disabled():
            print(f"\n{soak.report}")
    assert soak.report.good, soak.report
    assert sum(soak.report.faults.values()) > 2
    assert min(soak.report.operations[name] for name in ("put", "delete", "copy", "multipart")) > 0
    assert min(soak.report.reads[name] for name in ("objects", "ranges", "lists")) > 0
