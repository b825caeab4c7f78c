from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def cmake_program() -> str:
    """The one of the virtual environment, or of the machine."""
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    assert found, "cmake was not found"
    return found


def configure(
    root: Path, build: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [cmake_program(), "-S", str(root / "cuda_ext"), "-B", str(build), *options]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def folders_with_nvcc() -> str:
    path = os.environ.get("PATH", "").split(os.pathsep)
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    folders = [*path, *(f"{home}/bin" for home in homes if home), "/usr/local/cuda/bin"]
    return ";".join(folder for folder in folders if Path(folder, "nvcc").exists())


def test_on_without_nvcc_says_what_to_do_in_one_line(root: Path, tmp_path: Path) -> None:
    hidden = f"-DCMAKE_IGNORE_PATH={folders_with_nvcc()}"
    done = configure(root, tmp_path, "-DSTNLS_CUDA=ON", hidden)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "STNLS_CUDA" in line]
    assert line.strip() == (
        "STNLS_CUDA=ON but nvcc was not found: install the CUDA toolkit, or set CUDACXX to the "
        "path of nvcc, or build with STNLS_CUDA=OFF"
    )


def test_auto_without_nvcc_builds_for_the_cpu(root: Path, tmp_path: Path) -> None:
    hidden = f"-DCMAKE_IGNORE_PATH={folders_with_nvcc()}"
    done = configure(root, tmp_path, "-DSTNLS_CUDA=AUTO", hidden)
    assert done.returncode == 0, done.stderr
    assert "nvcc not found, building the CPU kernels only" in done.stdout


def test_nvcc_named_by_cudacxx_that_is_not_there(root: Path, tmp_path: Path) -> None:
    done = configure(root, tmp_path, "-DSTNLS_CUDA=ON", CUDACXX="/nowhere/nvcc")
    assert done.returncode != 0
    assert "STNLS_CUDA=ON but /nowhere/nvcc was not found" in done.stderr


def test_unknown_value(root: Path, tmp_path: Path) -> None:
    done = configure(root, tmp_path, "-DSTNLS_CUDA=PERHAPS")
    assert done.returncode != 0
    assert "STNLS_CUDA=PERHAPS is not known: use AUTO, ON or OFF" in done.stderr


def test_off_looks_for_no_compiler(root: Path, tmp_path: Path) -> None:
    done = configure(root, tmp_path, "-DSTNLS_CUDA=off")
    assert done.returncode == 0, done.stderr
    assert "CUDA" not in done.stdout


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


ALL = "75-real;80-real;90-real;100-real;120"


@pytest.mark.parametrize(
    ("wanted", "smi", "expected"),
    [
        ("native", "echo 9.0", "90"),
        ("auto", "echo 9.0; echo 12.0; echo 9.0", "90;120"),
        ("native", "echo No devices were found; exit 6", "90"),
        ("auto", "echo No devices were found; exit 6", ALL),
        ("auto", "echo 9.0; exit 9", ALL),
        ("native", "echo 13.0", ALL),  # newer than nvcc: its PTX
        ("all", "echo 9.0", ALL),
        ("ALL", "exit 1", ALL),
        ("80;90-real", "echo 12.0", "80;90-real"),
    ],
)
def test_architectures(root: Path, tmp_path: Path, wanted: str, smi: str, expected: str) -> None:
    known = "compute_70 compute_75 compute_80 compute_100 compute_90 compute_120"
    nvcc = program(tmp_path / "nvcc", f"printf '%s\\n' {known}")
    program(tmp_path / "nvidia-smi", smi)
    listing = tmp_path / "test.cmake"
    listing.write_text(
        f'set(CMAKE_CUDA_COMPILER "{nvcc}")\n'
        f'include("{root}/cuda_ext/cmake/cuda_architectures.cmake")\n'
        f'resolve_architectures("{wanted}" archs)\n'
        'message(NOTICE "${archs}")\n'
    )
    done = subprocess.run(
        [cmake_program(), "-P", str(listing)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == expected
