"""What the set-up says while it compiles."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def setup_venv(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", root / ".ci" / "setup_venv.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "setup_venv", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OBJECTS", tmp_path)
    return module


def test_files_that_are_compiled_are_counted(setup_venv: ModuleType, tmp_path: Path) -> None:
    began = time.time() - 10
    assert setup_venv.compiled(began) == (0, 0)  # before CMake has run
    (tmp_path / "build.ninja").write_text(
        "rule cc\nbuild a/x.cpp.o: cc x.cpp || order\nbuild a/y.cu.o: nv y.cu\n"
        "build a/z.cpp.o: cc z.cpp\nbuild lib.so: link a/x.cpp.o a/y.cu.o\n"
    )
    assert setup_venv.compiled(began) == (0, 3)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.cpp.o").touch()
    old = tmp_path / "a" / "y.cu.o"
    old.touch()
    os.utime(old, (began - 60, began - 60))
    (tmp_path / "a" / "another.o").touch()
    assert setup_venv.compiled(began) == (1, 3)


def test_progress_is_told_until_the_work_ends(
    setup_venv: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(setup_venv, "SECONDS", 0.01)
    (tmp_path / "build.ninja").write_text("build x.o: cc x.cpp\n")
    with setup_venv.progress():
        (tmp_path / "x.o").touch()
        end = time.monotonic() + 20
        told = ""
        while "1 of 1 files" not in told and time.monotonic() < end:
            told += capsys.readouterr().err
            time.sleep(0.01)
    assert "[setup] compiled 1 of 1 files after " in told
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("wanted", "nvcc", "expected"),
    [(None, True, True), (None, False, False), ("off", True, False), ("ON", False, True)],
)
def test_kernels_for_gpus_are_announced(
    setup_venv: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    nvcc: bool,
    expected: bool,
) -> None:
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if nvcc:
        compiler = tmp_path / "nvcc"
        compiler.write_text("#!/bin/sh\n")
        compiler.chmod(0o755)
    if wanted is None:
        monkeypatch.delenv("STNLS_CUDA", raising=False)
    else:
        monkeypatch.setenv("STNLS_CUDA", wanted)
    assert setup_venv.compiles_cuda() is expected
