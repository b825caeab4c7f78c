"""Every case of the original library's outputs is run, or stands here with its reason."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable
from pathlib import Path

import golden
import pytest
import stnls
import torch

FILES = ("nls", "grads", "misc", "agg")
TESTS = (
    *("test_accumulate_flow", "test_golden", "test_golden_aggregation", "test_golden_gradients"),
    *("test_golden_refine", "test_non_local_inds"),
)
NOT_THERE: dict[str, tuple[str, Callable[[], object]]] = {
    "acc_*_stnls": (
        "this mode of the original swaps rows and columns, and writes outside its planes",
        lambda: stnls.nn.accumulate_flow(
            torch.zeros(1, 3, 2, 5, 6), torch.zeros(1, 3, 2, 5, 6), fwd_mode="stnls"
        ),
    ),
    "pool_*": (
        "PooledPatchSum is not wanted: it divides by sums of weights that may be zero or negative",
        lambda: stnls.agg.init({"agg_name": "pool"}),
    ),
}


def test_every_case_is_run_or_has_a_reason(shared: Path) -> None:
    for name in TESTS:
        importlib.import_module(name)
    patterns = {*golden.ASKED, *((file, p) for file in FILES for p in NOT_THERE)}
    unused = [
        f"{file}: {name}"
        for file in FILES
        for name in golden.load(file)[0]
        if not any(f == file and fnmatch.fnmatch(name, p) for f, p in patterns)
    ]
    assert unused == []


@pytest.mark.parametrize("pattern", NOT_THERE)
def test_what_is_not_there_is_an_error(pattern: str) -> None:
    why, call = NOT_THERE[pattern]
    with pytest.raises(stnls.StnlsError):
        call()
    assert why
