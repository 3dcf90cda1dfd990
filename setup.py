"""Builds the extensions; everything else is said in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup


def extension(name: str) -> Extension:
    """A .pyx with the C headers of the same name, which hold its loops."""
    path = f"abixio/{name}"
    # No -march: each kernel names its own target, so one wheel runs on every machine.
    return Extension(
        f"abixio.{name}", [f"{path}.pyx"], depends=glob(f"{path}*.h"), extra_compile_args=["-O3", "-std=c11"]
    )


NAMES = ("_blocks", "_catalog", "_gf256", "_http", "_md5", "_shared", "_sign", "_sqlio")
setup(ext_modules=cythonize([extension(name) for name in NAMES], build_dir="build", language_level=3))
