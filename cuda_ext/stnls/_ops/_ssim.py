"""Sums of structural similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stnls import _native
from stnls._ops._registry import define, no_gradient, run

WINDOW = 11
SIGMA = 1.5
BAND = 16


def _ssim(reference: Tensor, frames: Tensor, peak: float) -> Tensor:
    reference, frames = reference.contiguous(), frames.contiguous()
    out = _fake(reference, frames, peak)
    if out.numel() > 0:
        s = _native.SsimProblem()
        s.reference, s.frames, s.out = reference.data_ptr(), frames.data_ptr(), out.data_ptr()
        s.references = reference.shape[0]
        s.count, s.channels, s.height, s.width = frames.shape
        s.bands = out.shape[2]
        weights = [math.exp(-((n - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for n in range(WINDOW)]
        for n, weight in enumerate(weights):
            s.taps[n] = weight / math.fsum(weights)
        s.middle, s.c1, s.c2 = peak / 2, (0.01 * peak) ** 2, (0.03 * peak) ** 2
        run("ssim", s, out.device)
    return out


def _fake(reference: Tensor, frames: Tensor, peak: float) -> Tensor:
    count, channels, height, _ = frames.shape
    bands = (height - WINDOW + BAND) // BAND
    return frames.new_empty((count, channels, bands), dtype=torch.float64)


ssim_sums = define(
    "ssim_sums",
    "Tensor reference, Tensor frames, float peak",
    "Tensor",
    _ssim,
    _fake,
    backward=no_gradient("ssim has no gradient: give it detached frames"),
)
