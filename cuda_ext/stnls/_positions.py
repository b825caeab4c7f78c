"""The rules of position of csrc/common/geometry.h in PyTorch, on any device and differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fold(x: Tensor, length: int) -> Tensor:
    """Reflects at pixels 0 and length - 1 until the position lies inside; integer or real.

    What is not finite becomes NaN.
    """
    last = length - 1
    if last == 0:
        return x - x
    # Not abs(): its derivative at 0, a position inside, is 0.
    x = torch.where(x < 0, -x, x)
    x = torch.fmod(x, 2 * last)
    return torch.where(x > last, 2 * last - x, x)


def window(anchor: Tensor, step: float, ws: int, length: int, full_ws: bool) -> Tensor:
    """Positions of the search window along one axis: real (...) to (..., ws).

    They are anchor + step (i - offset), i = 0 .. ws - 1. With `full_ws` the window is moved by
    whole steps so that it lies inside the frame; if it is longer, its low end leaves it. Choices
    count as constants in the gradient. NaN stays NaN.
    """
    a = anchor.detach()
    s = a.new_full((), step)
    offset = torch.full_like(a, (ws - 1) // 2)
    if full_ws:
        # Comparisons in the tensor's dtype, divisions in double, as in the kernels.
        too_low = a - s * offset < 0
        offset = torch.where(too_low, torch.floor(a.double() / s.double()).to(a.dtype), offset)
        too_high = a + s * (ws - 1 - offset) > length - 1
        moved = torch.ceil((a.double() - (length - 1)) / s.double() + (ws - 1))
        offset = torch.where(too_high, moved.to(a.dtype), offset)
    steps = torch.arange(ws, device=a.device) - offset.unsqueeze(-1)
    return anchor.unsqueeze(-1) + s * steps


def last_forward_frame(t: int, wt: int, frames: int) -> int:
    """The latest frame in the temporal window of frame t."""
    return min(frames - 1, max(t + wt, 2 * wt))


def slot_frames(t: int, wt: int, frames: int) -> list[int]:
    """Frame of each temporal slot: the own one, then those after it, then those before it."""
    last = last_forward_frame(t, wt, frames)
    return [t + s if t + s <= last else last - s for s in range(min(2 * wt + 1, frames))]


def slot_offsets(wt: int, frames: int, device: torch.device) -> Tensor:
    """(T, min(2 wt + 1, T)) int64: from each frame to those of its temporal slots."""
    t = torch.arange(frames, device=device)[:, None]
    s = torch.arange(min(2 * wt + 1, frames), device=device)
    # A lower limit above the upper one gives way to it.
    last = (t + wt).clamp(2 * wt, frames - 1)
    return torch.where(t + s <= last, s, last - s - t)


def grid_size(length: int, stride0: int) -> int:
    """Number of queries along an axis of `length` pixels."""
    # Not (length - 1) // stride0 + 1, whose range torch.compile gets wrong for sizes that change.
    return (length + stride0 - 1) // stride0


def grid_shape(size: Sequence[int], stride0: int) -> tuple[int, int]:
    """Rows and columns of queries on frames of `size`, (H, W)."""
    height, width = size
    return grid_size(height, stride0), grid_size(width, stride0)


def queries(count: int, stride0: int, like: Tensor) -> Tensor:
    """(count,) positions of the queries along one axis, in the dtype of `like`."""
    return (torch.arange(count, device=like.device) * stride0).to(like.dtype)
