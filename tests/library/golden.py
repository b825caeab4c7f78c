"""Reads the golden outputs of the original library (their README tells how they were made)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@cache
def load(folder: Path, name: str) -> tuple[list[dict[str, Any]], Arrays]:
    with np.load(folder / f"golden_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files if key != "__meta__"}
        return json.loads(str(file["__meta__"])), arrays


@cache
def inputs(folder: Path, name: str) -> Arrays:
    with np.load(folder / "golden_inputs.npz") as file:
        prefix = f"inputs.{name}."
        return {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}


def case_arrays(folder: Path, file: str, meta: dict[str, Any]) -> Arrays:
    prefix = f"{meta['group']}.{meta['name']}."
    _, arrays = load(folder, file)
    return {
        key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)
    }


def gfun(shape: tuple[int, ...], phase: float = 0.5, mult: float = 0.7311) -> np.ndarray:
    n = int(np.prod(shape))
    return np.cos(mult * np.arange(n) + phase).astype(np.float32).reshape(shape)


def weights(shape: tuple[int, ...]) -> np.ndarray:
    n = int(np.prod(shape))
    return (0.525 + 0.475 * np.sin(1.37 * np.arange(n))).astype(np.float32).reshape(shape)
