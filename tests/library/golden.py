"""Reads the golden outputs of the original library (their README tells how they were made)."""

from __future__ import annotations

import fnmatch
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("STNLS_SHARED", ROOT.parent / "shared")) / "golden"

Arrays = dict[str, Tensor]


@cache
def load(file: str) -> tuple[dict[str, dict[str, Any]], Arrays]:
    """The cases of a file by their names, and all its arrays."""
    with np.load(FOLDER / f"golden_{file}.npz") as stored:
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if key != "__meta__"}
        meta = json.loads(str(stored["__meta__"]))
    return {case["name"]: case for case in meta}, arrays


def names(file: str, *patterns: str) -> list[str]:
    """Names of the cases that match; one stand-in, whose test then skips, without the files."""
    if not (FOLDER / f"golden_{file}.npz").is_file():
        return ["golden-outputs"]
    return [name for name in load(file)[0] if any(fnmatch.fnmatch(name, p) for p in patterns)]


@cache
def inputs(name: str) -> Arrays:
    """vid0, vid1 (B, T, C, H, W), fflow and bflow (B, T, 2, H, W) of a set."""
    with np.load(FOLDER / "golden_inputs.npz") as stored:
        prefix = f"inputs.{name}."
        keys = [key for key in stored.files if key.startswith(prefix)]
        return {key.removeprefix(prefix): torch.from_numpy(stored[key]) for key in keys}


def case(file: str, name: str) -> tuple[dict[str, Any], Arrays]:
    """Configuration of a case; its arrays together with those of its input set."""
    meta, arrays = load(file)
    prefix = f"{meta[name]['group']}.{name}."
    own = {key.removeprefix(prefix): v for key, v in arrays.items() if key.startswith(prefix)}
    config = meta[name]["cfg"]
    return config, {**inputs(meta[name]["inputs"]), **own}


def weights(shape: tuple[int, ...]) -> Tensor:
    """The weights of the aggregations, which are not stored."""
    n = int(np.prod(shape))
    values = 0.525 + 0.475 * np.sin(1.37 * np.arange(n, dtype=np.float64))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))
