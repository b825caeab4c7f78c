"""The sources of the CPU kernels compile for other processors and with another compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMPILERS = {
    "clang": ["clang++"],
    "clang with AVX2": ["clang++", "-mavx2", "-mfma"],
    "aarch64": ["aarch64-linux-gnu-g++"],
    "clang for aarch64": ["clang++", "--target=aarch64-linux-gnu"],
}


@pytest.mark.parametrize("name", COMPILERS)
def test_sources_compile(root: Path, name: str) -> None:
    program, *options = COMPILERS[name]
    if shutil.which(program) is None:
        pytest.skip(f"no compiler {program}")
    if name == "clang for aarch64" and not Path("/usr/aarch64-linux-gnu").exists():
        pytest.skip("no headers for aarch64")
    sources = sorted(map(str, (root / "cuda_ext/csrc").glob("*/*_cpu.cpp")))
    assert len(sources) >= 4
    flags = ["-std=c++17", "-fsyntax-only", "-O1", "-ffp-contract=off", "-Wall", "-Werror"]
    done = subprocess.run(
        [program, *options, *flags, "-DSTNLS_ISA=other", *sources], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
