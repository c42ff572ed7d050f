"""Builds every Cython kernel; `WATCHROOM_DEBUG=1` builds them with bounds checks and assertions (see Makefile, target `debug`)."""
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("WATCHROOM_DEBUG") == "1"
KERNEL_FOLDERS = ("recorder/_ext", "bench/camsim")


def kernels() -> list[Extension]:
    flags = ["-O1", "-g"] if DEBUG else ["-O3", "-g0", "-fno-semantic-interposition"]
    macros = [] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")]
    return [
        Extension(str(pyx.with_suffix("")).replace("/", "."), [str(pyx)], include_dirs=["recorder/_ext"],
                  extra_compile_args=["-std=gnu11", "-Wno-unused-function", *flags], define_macros=macros)
        for folder in KERNEL_FOLDERS for pyx in sorted(Path(folder).glob("*.pyx"))
    ]


setup(ext_modules=cythonize(
    kernels(), nthreads=2, build_dir="build/cython-debug" if DEBUG else "build/cython",
    compiler_directives={"language_level": 3, "boundscheck": DEBUG, "wraparound": False, "initializedcheck": DEBUG,
                         "overflowcheck": False, "cdivision": not DEBUG, "embedsignature": True, "binding": True}))
