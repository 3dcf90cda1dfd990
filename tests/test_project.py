"""The linter and the type checker are tests: what they find is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("tool", [["mypy", "--strict", "abixio"], ["ruff", "check", "."]], ids=["mypy", "ruff"])
def test_the_checker_finds_nothing(tool: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
