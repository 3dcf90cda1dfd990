"""Builds the three extensions; everything else is said in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup


def extension(name: str) -> Extension:
    """A .pyx with the C header of the same name, which holds its loops."""
    path = f"abixio/{name}"
    # No -march: each kernel names its own target, so one wheel runs on every machine.
    return Extension(
        f"abixio.{name}", [f"{path}.pyx"], depends=[f"{path}.h"], extra_compile_args=["-O3", "-std=c11"]
    )


setup(ext_modules=cythonize([extension("_gf256"), extension("_md5"), extension("_sqlio")], build_dir="build", language_level=3))
