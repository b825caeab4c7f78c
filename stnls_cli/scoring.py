"""The metrics of `metrics.py` for many aligned frames at once, left on the device until they are
asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from stnls.metrics import mean_errors, ssim
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

NO_SCORE = math.nan
OF_DIFFERENCE = ("mae", "psnr")
"""By the mean absolute and the mean squared error."""


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
    columns: dict[str, Tensor] = {}
    if not set(names).isdisjoint(OF_DIFFERENCE):
        columns = dict(zip(OF_DIFFERENCE, mean_errors(references, frames), strict=True))
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


def _similarities(references: Tensor, frames: Tensor) -> Tensor:
    if min(frames.shape[2:]) < SSIM_WINDOW:
        return frames.new_full((frames.shape[0],), NO_SCORE, dtype=torch.float64)
    return ssim(references, frames, PEAK)
