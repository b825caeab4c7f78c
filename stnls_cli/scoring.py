"""The metrics of `metrics.py` for many aligned frames at once, left on the device until they are
asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from stnls.metrics import ssim
from torch import Tensor

from stnls_cli.metrics import (
    METRICS,
    PEAK,
    SSIM_WINDOW,
    FlowMetric,
    FrameMetric,
    decibels,
    out_of_frame_shares,
)

MOST_VALUES = {"cpu": 2**23, "cuda": 2**25}
"""Numbers in float64 at a time."""
NO_SCORE = math.nan
OF_DIFFERENCE: dict[str, Callable[[Tensor], Tensor]] = {
    "mae": torch.Tensor.abs_,
    "psnr": torch.Tensor.square_,
}
"""Of which the mean is taken, one after the other in the same memory: a square does not mind."""


def score_names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of one frame, and those of one flow."""
    kinds = (FrameMetric, FlowMetric)
    of_frame, of_flow = (
        tuple(name for name in names if isinstance(METRICS[name], kind)) for kind in kinds
    )
    return of_frame, of_flow


def frame_scores(names: Sequence[str], references: Tensor, frames: Tensor) -> Tensor:
    """(M, len(names)) float64 of frame metrics: PSNR as the mean squared error, NaN where a frame
    is too small for SSIM.

    `references` is (R, C, H, W), `frames` (M, C, H, W), float32 on the 0-255 scale; frame n is
    compared with reference n modulo R.
    """
    columns = _means(references, frames, [name for name in OF_DIFFERENCE if name in names])
    if "ssim" in names:
        columns["ssim"] = _similarities(references, frames)
    if not columns:
        return frames.new_empty((frames.shape[0], 0), dtype=torch.float64)
    return torch.stack([columns[name] for name in names], dim=1)


def flow_scores(names: Sequence[str], flows: Tensor) -> Tensor:
    """(N, len(names)) float64 of flow metrics, for flows (N, 2, H, W)."""
    measures = {"out_of_frame": out_of_frame_shares}
    return torch.stack([measures[name](flows) for name in names], dim=1)


def score(name: str, value: float) -> float | None:
    """What a number of the two above says."""
    if math.isnan(value) and name != "mae" and name != "psnr":
        return None
    return decibels(value) if name == "psnr" else value


def _means(references: Tensor, frames: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Means of functions of the difference, for each frame; `names` in the order of these."""
    if not names:
        return {}
    count = max(1, MOST_VALUES[frames.device.type] // max(1, references.numel()))
    means: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in frames.unflatten(0, (-1, references.shape[0])).split(count):
        difference = (part - references).double()
        for name in names:
            means[name].append(OF_DIFFERENCE[name](difference).mean(dim=(2, 3, 4)))
    return {name: torch.cat(parts).flatten() for name, parts in means.items()}


def _similarities(references: Tensor, frames: Tensor) -> Tensor:
    if min(frames.shape[2:]) < SSIM_WINDOW:
        return frames.new_full((frames.shape[0],), NO_SCORE, dtype=torch.float64)
    return ssim(references, frames, PEAK)
