"""The aligned frame as the average of overlapping matched patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def blend_patches(frame: Tensor, offset: Tensor, weight: Tensor, ps: int) -> Tensor:
    """Average of the patches that cover each pixel, sampled by bicubic convolution.

    `frame`: (C, H, W); `offset`: (H, W, 2) = (dy, dx) from every pixel to the centre of its match,
    finite; `weight`: (H, W), above 0. Every patch has `ps` x `ps` pixels and the weight of its
    centre; what lies outside the frame is reflected. Answers (C, H, W). (Overlapped block motion
    compensation: Orchard & Sullivan 1994; the kernel is that of Keys 1981.)
    """
    import torch
    from torch.nn.functional import grid_sample

    _, height, width = frame.shape
    y = torch.arange(height, dtype=offset.dtype, device=offset.device)[:, None]
    x = torch.arange(width, dtype=offset.dtype, device=offset.device)
    scale = offset.new_tensor((2 / max(width - 1, 1), 2 / max(height - 1, 1)))
    centre = torch.stack((offset[..., 1] + x, offset[..., 0] + y), dim=-1) * scale - 1
    total, weights = torch.zeros_like(frame), torch.zeros_like(weight)
    first = -(ps // 2)
    for dy in range(first, first + ps):
        for dx in range(first, first + ps):
            # The centres whose tap (dy, dx) lies inside the frame, and where it lies.
            rows, columns = _inside(dy, height), _inside(dx, width)
            taps = (
                slice(rows.start + dy, rows.stop + dy),
                slice(columns.start + dx, columns.stop + dx),
            )
            place = centre[rows, columns] + scale * scale.new_tensor((dx, dy))
            sampled = grid_sample(
                frame[None],
                place[None],
                mode="bicubic",
                padding_mode="reflection",
                align_corners=True,
            )
            total[:, taps[0], taps[1]].addcmul_(sampled[0], weight[rows, columns])
            weights[taps] += weight[rows, columns]
    return total / weights


def _inside(shift: int, length: int) -> slice:
    """The places that stay inside when they are shifted."""
    return slice(min(max(0, -shift), length), max(min(length, length - shift), 0))
