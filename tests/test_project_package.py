"""The package builds from a tree without .git, as sdist and as wheel, and each works in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_COPIED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "venv*", "abixio-data")
EXTENSIONS = "from abixio import _gf256, _md5; from abixio.errors import AbixioError; print(_gf256.kernel(), _md5.__file__)"
EVERYTHING = """
import importlib, pkgutil, abixio
for module in pkgutil.walk_packages(abixio.__path__, "abixio."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(abixio.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, as if unpacked from an archive."""
    return Path(shutil.copytree(ROOT, tmp_path / "tree", ignore=NOT_COPIED))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty environment."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty", cwd=tmp_path)
    return tmp_path / "empty/bin/python"


def install(python: Path, *what: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check", *what, cwd=python.parent)


@pytest.mark.slow
def test_the_sdist_has_all_sources_and_builds_in_an_empty_environment(tree: Path, python: Path) -> None:
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tree / "out", cwd=tree)
    (sdist,) = (tree / "out").iterdir()
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = [path for folder in ("abixio", "tests") for path in (tree / folder).rglob("*") if path.is_file()]
    expected = {path.relative_to(tree).as_posix() for path in sources}
    expected |= {"setup.py", "pyproject.toml", "LICENSE", "README.md"}
    assert expected - names == set()
    assert not [name for name in names if name.endswith((".so", ".c")) and not name.startswith(("tests/", "bench/"))]
    install(python, "--no-deps", sdist)
    kernel, place = run(python, "-c", EXTENSIONS, cwd=python.parent).split()
    assert kernel
    assert Path(place).is_relative_to(python.parent.parent)


@pytest.mark.slow
def test_the_wheel_brings_all_it_needs_into_an_empty_environment(tree: Path, python: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tree / "out", cwd=tree)
    (wheel,) = (tree / "out").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"abixio/py.typed", "abixio/_blocks.pyi", "abixio/_gf256.pyi", "abixio/_md5.pyi", "abixio/_sqlio.pyi"} <= set(names)
    assert not [name for name in names if name.endswith((".pyx", ".h", ".c")) or name.startswith(("tests", "bench", "build"))]
    install(python, wheel)
    place = run(python, "-c", EVERYTHING, cwd=python.parent).strip()
    assert Path(place).is_relative_to(python.parent.parent)
    assert "--port" in run(python.parent / "abixio", "--help", cwd=python.parent)
