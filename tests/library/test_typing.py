"""Someone who imports stnls can check his own code with mypy --strict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import stnls
import torch
from torch import Tensor

video: Tensor = torch.rand(1, 3, 4, 16, 16)
flows: Tensor = stnls.nn.search_flow(video[:, :, :2], video[:, :, 2:], 1)
search = stnls.search.NonLocalSearch(5, 1, 3, 4, stride1=0.5)
dists, inds = search.forward(video, video, flows)
reveal_type(dists)
refined: tuple[Tensor, Tensor] = stnls.search.refine(video, video, inds, 1, 1, 3, 2, -1, 3)
out: Tensor = stnls.agg.gather_add(video, torch.softmax(-dists, -1), inds, 3, 1, 1)
reveal_type(stnls.search.init({"ws": 3, "wt": 1}))
try:
    stnls.agg.WeightedPatchSum(0, 1)
except stnls.StnlsError as error:
    print(error)
stnls.search.NonLocalSearch("5", 1)
"""


@pytest.mark.slow
def test_users_code_is_typed(tmp_path: Path, root: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "user.py").write_text(CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(root / ".mypy_cache"), "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(root / "cuda_ext")},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'incompatible type "str"; expected "int"' in errors[0]
    revealed = [line.partition("Revealed type is ")[2] for line in lines if "Revealed" in line]
    assert [name.strip('"').rpartition(".")[2] for name in revealed] == ["Tensor", "SearchModule"]
