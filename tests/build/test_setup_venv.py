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
    monkeypatch.setattr(module, "OBJECTS", tmp_path / "objects")
    monkeypatch.setattr(module, "COMPILERS", ())
    return module


def test_files_that_are_compiled_are_counted(setup_venv: ModuleType) -> None:
    began, objects = time.time() - 10, setup_venv.OBJECTS
    assert setup_venv.compiled(began) == (0, 0)  # before CMake has run
    (objects / "a").mkdir(parents=True)
    (objects / "build.ninja").write_text(
        "rule cc\nbuild a/x.cpp.o: cc x.cpp || order\nbuild a/y.cu.o: nv y.cu\n"
        "build a/z.cpp.o: cc z.cpp\nbuild lib.so: link a/x.cpp.o a/y.cu.o\n"
    )
    assert setup_venv.compiled(began) == (0, 3)
    (objects / "a" / "x.cpp.o").touch()
    old = objects / "a" / "y.cu.o"
    old.touch()
    os.utime(old, (began - 60, began - 60))
    (objects / "a" / "another.o").touch()
    assert setup_venv.compiled(began) == (1, 3)


@pytest.mark.parametrize("again", [False, True])
def test_progress_is_told_until_the_work_ends(
    setup_venv: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    again: bool,
) -> None:
    monkeypatch.setattr(setup_venv, "SECONDS", 0.01)
    objects = setup_venv.OBJECTS
    if again:
        objects.mkdir()
    told = ""
    with setup_venv.progress():
        objects.mkdir(exist_ok=True)
        (objects / "build.ninja").write_text("build x.o: cc x.cpp\nbuild y.o: cc y.cpp\n")
        (objects / "x.o").touch()
        end = time.monotonic() + 20
        while not told and time.monotonic() < end:
            time.sleep(0.01)
            told = capsys.readouterr().err
    what = "compiled 1 files" if again else "compiled 1 of 2 files"
    assert told.startswith(f"[setup] {what} after ")
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("wanted", "place", "compiler", "expected"),
    [
        (None, "PATH", None, True),
        (None, None, None, False),
        (None, "CUDA_HOME", None, True),
        (None, "PATH", "clang", False),
        ("off", "PATH", None, False),
        ("ON", None, None, True),
    ],
)
def test_kernels_for_gpus_are_announced(
    setup_venv: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    place: str | None,
    compiler: str | None,
    expected: bool,
) -> None:
    for name in ("STNLS_CUDA", "CUDACXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    if place == "PATH":
        monkeypatch.setenv("PATH", str(nvcc.parent))
    if place == "CUDA_HOME":
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    if compiler is not None:
        monkeypatch.setenv("CUDACXX", compiler)
    if wanted is not None:
        monkeypatch.setenv("STNLS_CUDA", wanted)
    assert setup_venv.compiles_cuda() is expected
