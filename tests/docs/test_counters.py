"""benchmarks/counters.py where there is nothing to count with."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def ended(*arguments: str) -> tuple[int, list[str]]:
    """Exit code, and the lines on standard error."""
    paths = [str(ROOT), str(ROOT / "cuda_ext"), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/counters.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=False,
    )
    assert run.stdout == ""
    return run.returncode, run.stderr.splitlines()


def test_problems_are_those_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    chosen = [name for name, _ in importlib.import_module("counters").chosen()]
    kept = json.loads((ROOT / "benchmarks/results/counters-h200.json").read_text())
    assert [*chosen, "TV-L1, 16 pairs"] == list(kept["problems"])


def test_without_nsight_compute() -> None:
    code, (line,) = ended("--ncu=/nowhere/ncu")
    assert code == 1
    assert line.startswith("counters.py: /nowhere/ncu was not found: install Nsight Compute")


def test_a_result_that_cannot_be_written(tmp_path: Path) -> None:
    code, (line,) = ended(f"--json={tmp_path}/lacking/counters.json")
    assert code == 1
    assert line == f"counters.py: --json: there is no folder {tmp_path}/lacking"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    code, (line,) = ended(f"--ncu={sys.executable}")
    assert code == 1
    assert line.startswith("counters.py: no CUDA device is available to PyTorch")
