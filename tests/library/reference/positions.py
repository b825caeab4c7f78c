"""Where things are: reflection, temporal slots, search windows, reads between pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def fold(x: Tensor, length: int) -> Tensor:
    """Reflects at pixels 0 and length - 1 until the position lies inside; integer or real."""
    last = length - 1
    if last == 0:
        return torch.zeros_like(x)
    x = torch.where(x < 0, -x, x)  # not abs(), whose derivative at 0, a place inside, is 0
    x = torch.fmod(x, 2 * last)
    return torch.where(x > last, 2 * last - x, x)


def inside(x: Tensor, length: int) -> Tensor:
    return (x >= 0) & (x <= length - 1)


def slot_frames(t: int, wt: int, frames: int) -> list[int]:
    """Frame of each temporal slot: the own one, then those after it, then those before it."""
    shift = min(0, t - wt) + max(0, t + wt - (frames - 1))
    last = min(frames - 1, t + wt - shift)
    return [t + s if t + s <= last else last - s for s in range(min(2 * wt + 1, frames))]


def window(
    anchor: Tensor, step: Tensor, ws: int, length: int, full_ws: bool
) -> tuple[Tensor, Tensor]:
    """Positions of a window along one axis, (..., ws), and the index of the one at the anchor."""
    offset = torch.full_like(anchor, (ws - 1) // 2, dtype=torch.int64)
    if full_ws:
        too_low = anchor - step * offset.to(anchor.dtype) < 0
        offset = torch.where(too_low, torch.floor(anchor.double() / step.double()).long(), offset)
        too_high = anchor + step * (ws - 1 - offset).to(anchor.dtype) > length - 1
        moved = torch.ceil((anchor.double() - (length - 1)) / step.double() + (ws - 1)).long()
        offset = torch.where(too_high, moved, offset)
    steps = torch.arange(ws) - offset[..., None]
    return anchor[..., None] + step * steps.to(anchor.dtype), offset


def pixels(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Pixels of (C, H, W) at integer positions; those outside count as 0. (C, *positions)."""
    height, width = image.shape[-2:]
    exists = inside(row, height) & inside(column, width)
    at = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
    values = image.flatten(1).index_select(1, at.flatten()).unflatten(1, at.shape)
    return values if bool(exists.all()) else torch.where(exists, values, 0.0)


def read(image: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """Bilinear read of (C, H, W) at positions inside the frame: (C, *positions), float64.

    Corners are floor(h) and floor(h) + 1; one that lies outside adds nothing (its weight is 0).
    """
    image, h, w = image.double(), h.double(), w.double()
    total = torch.zeros(())
    for row in (torch.floor(h), torch.floor(h) + 1):
        for column in (torch.floor(w), torch.floor(w) + 1):
            weight = (1 - (row - h).abs()) * (1 - (column - w).abs())
            total = total + weight * pixels(image, row, column)
    return total


def corners(x: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """The two pixels around positions inside the frame, and their weights, which carry gradients.

    Beyond the last pixel lies its mirror image: the weight there is 0, but not its derivative.
    """
    low = torch.floor(x.detach())
    high = x.double() - low.double()
    return [(low.long(), 1 - high), (fold(low.long() + 1, length), high)]


def read_frames(video: Tensor, frame: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """Reads frames of (B, HD, T, C, H, W): (*positions, C), float64, differentiable.

    frame, h, w: (B, HD, ...) of one shape, all inside; real positions are read bilinearly.
    """
    batch, heads = video.shape[:2]
    rest = (1,) * (frame.ndim - 2)
    b = torch.arange(batch).view(batch, 1, *rest)
    head = torch.arange(heads).view(heads, *rest)
    last = video.double().movedim(3, -1)
    if not h.is_floating_point():
        return last[b, head, frame, h, w]
    total = torch.zeros(())
    for row, of_row in corners(h, video.shape[-2]):
        for column, of_column in corners(w, video.shape[-1]):
            total = total + (of_row * of_column).unsqueeze(-1) * last[b, head, frame, row, column]
    return total
