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
from compare import mean_size
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("STNLS_SHARED", ROOT.parent / "shared")) / "golden"

Arrays = dict[str, Tensor]

# Pixels. Larger offsets apart mean another candidate.
OFFSET_TOLERANCE = 1e-4


@cache
def load(file: str) -> tuple[dict[str, dict[str, Any]], Arrays]:
    """The cases of a file by their names, and all its arrays."""
    with np.load(FOLDER / f"golden_{file}.npz") as stored:
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if key != "__meta__"}
        meta = json.loads(str(stored["__meta__"]))
    return {case["name"]: case for case in meta}, arrays


ASKED: set[tuple[str, str]] = set()
"""File and pattern of all the cases that tests asked for."""


def names(file: str, *patterns: str) -> list[str]:
    """Names of the cases that match; one stand-in, whose test then skips, without the files."""
    ASKED.update((file, pattern) for pattern in patterns)
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


def loss_weights(shape: tuple[int, ...], phase: float = 0.5, step: float = 0.7311) -> Tensor:
    """The gradients that went into the original's backward, which are not stored."""
    n = int(np.prod(shape))
    values = np.cos(step * np.arange(n, dtype=np.float64) + phase)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def search_weights(config: dict[str, Any], dists: Tensor, inds: Tensor) -> list[Tensor]:
    """Those of a search: of the distances, and of the offsets where the case has them."""
    of_dists = loss_weights(tuple(dists.shape))
    of_dists[~torch.isfinite(dists)] = 0
    weights = [of_dists]
    if config.get("ginds"):
        weights.append(loss_weights(tuple(inds.shape), 1.25, 0.377))
    return weights


def search_inputs(config: dict[str, Any], arrays: Arrays) -> list[Tensor]:
    """Both videos, or the frames of a pair, and flow."""
    if "in_flow" in arrays:
        return [arrays["vid0"][:, 0], arrays["vid1"][:, 1], arrays["in_flow"]]
    flow = ("fflow", "bflow") if config.get("mode") == "fb" else ("in_flows",)
    videos = [arrays["vid0"], arrays["vid1"]]
    if config.get("vid_ndim") == 6:
        videos = [v.unflatten(2, (config["nheads"], -1)).transpose(1, 2) for v in videos]
    return [*videos, *(arrays[name] for name in flow)]


def differing(
    found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float
) -> tuple[Tensor, Tensor]:
    """Which entries differ in distance, and which finite ones in offset."""
    dists, wanted = found[0].double(), expected[0].double()
    atol = tolerance * mean_size(wanted)
    in_distance = ~torch.isclose(dists, wanted, rtol=tolerance, atol=atol)
    away = (found[1].double() - expected[1].double()).abs().amax(-1)
    return in_distance, (away > OFFSET_TOLERANCE) & torch.isfinite(wanted)
