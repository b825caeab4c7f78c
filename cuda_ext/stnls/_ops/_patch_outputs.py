"""Memory for the results of patch operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stnls._ops._patch_problem import PatchSettings


def own_output(video: Tensor, weights: Tensor, s: PatchSettings) -> Tensor:
    """What a sum writes, the queries' own pixels: (B, HD, T, C/HD, H, W), with K after HD if
    stacked, or (B, T, C, H, W) as `PatchSettings` says."""
    heads, k = weights.shape[1], weights.shape[-1]
    if video.dim() == 5:
        b, t, c, h, w = video.shape
        if s.heads_last and not s.stacked:
            return video.new_empty((b, t, c, h, w))
        c = c // heads
    else:
        b, _, t, c, h, w = video.shape
    if s.stacked:
        return video.new_empty((b, heads, k, t, c, h, w))
    # heads_last: the heads lie beside the channels, so that they can be folded back into them.
    if s.heads_last:
        return video.new_empty((b, t, heads, c, h, w)).permute(0, 2, 1, 3, 4, 5)
    return video.new_empty((b, heads, t, c, h, w))


def contiguous_like(video: Tensor) -> Tensor:
    """A contiguous tensor of the sizes of the video."""
    # Faster than handing sizes over.
    return torch.empty_like(video) if video.is_contiguous() else video.new_empty(video.shape)


def video_of(own: Tensor, s: PatchSettings, create: Callable[..., Tensor]) -> Tensor:
    """A tensor of the sizes of the video, in the memory layout of the queries' own pixels."""
    b, heads, t, c, h, w = own[:, :, 0].shape if s.stacked and own.shape[2] > 0 else own.shape
    if s.heads_last:
        video = create((b, t, heads, c, h, w), dtype=own.dtype, device=own.device)
        return video.permute(0, 2, 1, 3, 4, 5)
    return create((b, heads, t, c, h, w), dtype=own.dtype, device=own.device)


def video_zeros(own: Tensor, s: PatchSettings) -> Tensor:
    """Zeros of the sizes of the video, in the memory layout of the queries' own pixels."""
    if s.stacked:
        own = own[:, :, 0] if own.shape[2] > 0 else own.sum(2)
    return video_of(own, s._replace(stacked=False), torch.zeros)
