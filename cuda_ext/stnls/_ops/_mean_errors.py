"""Sums of absolute and squared differences."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _native
from stnls._ops._registry import define, no_gradient, run

PART = 2**14


def _mean_errors(reference: Tensor, frames: Tensor) -> Tensor:
    reference, frames = reference.contiguous(), frames.contiguous()
    out = _fake(reference, frames)
    if out.numel() > 0:
        s = _native.MeanErrorsProblem()
        s.reference, s.frames, s.out = reference.data_ptr(), frames.data_ptr(), out.data_ptr()
        s.references = reference.shape[0]
        s.count, s.parts, _ = out.shape
        s.size = frames[0].numel()
        run("mean_errors", s, out.device)
    return out


def _fake(_reference: Tensor, frames: Tensor) -> Tensor:
    count, channels, height, width = frames.shape
    parts = (channels * height * width + PART - 1) // PART
    return frames.new_empty((count, parts, 2), dtype=torch.float64)


error_sums = define(
    "error_sums",
    "Tensor reference, Tensor frames",
    "Tensor",
    _mean_errors,
    _fake,
    backward=no_gradient("mean_errors has no gradient: give it detached frames"),
)
