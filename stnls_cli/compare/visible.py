"""Which pixels of a frame are seen in its neighbour, by two flows that lead there and back."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls_cli.warp import warp

RELATIVE, ABSOLUTE = 0.01, 0.5
"""Sundaram, Brox & Keutzer 2010: share of the squared lengths, and squared pixels."""


def visible(there: Tensor, back: Tensor) -> Tensor:
    """Pixels whose way there and back ends where it began: (H, W) bool.

    `there` is the flow (2, H, W) = (dx, dy) in pixels from the reference to the neighbour, `back`
    the one from the neighbour to the reference. With w the flow there and v the flow back, taken
    (bilinearly) where w ends, a pixel is visible where |w + v|^2 < 0.01 (|w|^2 + |v|^2) + 0.5 and w
    ends inside the frame (Sundaram, Brox & Keutzer, ECCV 2010, equation 5).
    """
    _, height, width = there.shape
    x = torch.arange(width, device=there.device) + there[0]
    y = torch.arange(height, device=there.device)[:, None] + there[1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    returned = warp(back, there)
    gap = (there + returned).square().sum(0)
    lengths = there.square().sum(0) + returned.square().sum(0)
    return inside & (gap < RELATIVE * lengths + ABSOLUTE)
