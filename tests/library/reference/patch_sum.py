"""Weighted sum of matched patches, averaged where the patches of the queries overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from .positions import fold, inside, read


def weighted_patch_sum(
    vid: Tensor,
    weights: Tensor,
    inds: Tensor,
    ps: int,
    stride0: int,
    dilation: int = 1,
    reflect_bounds: bool = True,
    use_adj: bool = False,
    itype: str = "float",
) -> Tensor:
    """The shape of `vid`, (B, T, C, H, W) or (B, HD, T, C/HD, H, W), in float64.

    weights: (B, HD, T, nH, nW, K); inds: (..., K, 3) offsets (dt, dh, dw).
    """
    heads = weights.shape[1]
    video = vid
    if vid.ndim == 5:
        b, t, c, h, w = vid.shape
        video = vid.reshape(b, t, heads, c // heads, h, w).transpose(1, 2)
    out = torch.empty(video.shape, dtype=torch.float64)
    for b in range(video.shape[0]):
        for head in range(heads):
            for t in range(video.shape[2]):
                out[b, head, t] = _frame(
                    *(video[b, head], weights[b, head, t], inds[b, head, t], t),
                    *(ps, stride0, dilation, reflect_bounds, use_adj, itype),
                )
    return out.transpose(1, 2).reshape(vid.shape) if vid.ndim == 5 else out


def _frame(
    video: Tensor,
    weights: Tensor,
    inds: Tensor,
    t: int,
    ps: int,
    stride0: int,
    dilation: int,
    reflect_bounds: bool,
    use_adj: bool,
    itype: str,
) -> Tensor:
    """(C, H, W) of frame t; video (T, C, H, W), weights (nH, nW, K), inds (nH, nW, K, 3)."""
    frames, channels, height, width = video.shape
    rows = torch.arange(weights.shape[0]) * stride0
    columns = torch.arange(weights.shape[1]) * stride0
    start = 0 if use_adj else -(ps // 2)
    taps = [dilation * (p + start) for p in range(ps)]

    # The places that the entries point to; entries that a search left empty add nothing.
    if itype == "int" and inds.is_floating_point():
        inds = inds.round()
    inds = inds.to(video.dtype)
    filled = torch.isfinite(inds).all(-1) & (inds[..., 1:].abs() < 1e7).all(-1)
    dt, dh, dw = torch.where(filled[..., None], inds, 0.0).unbind(-1)
    if itype == "int":
        dh, dw = dh.long(), dw.long()
    at_frame = fold(t + dt.round().long(), frames)
    at_h, at_w = fold(rows[:, None, None] + dh, height), fold(columns[:, None] + dw, width)

    total = torch.zeros(channels, height, width, dtype=torch.float64)
    count = torch.zeros(height, width, dtype=torch.float64)
    for tap_h in taps:
        for tap_w in taps:
            to_h, to_w = torch.meshgrid(rows + tap_h, columns + tap_w, indexing="ij")
            target = inside(to_h, height) & inside(to_w, width)
            from_h, from_w = at_h + tap_h, at_w + tap_w
            if reflect_bounds:
                from_h, from_w = fold(from_h, height), fold(from_w, width)
            used = filled & inside(from_h, height) & inside(from_w, width)
            from_h, from_w = from_h.clamp(0, height - 1), from_w.clamp(0, width - 1)
            patch = torch.zeros(channels, *target.shape, dtype=torch.float64)
            for frame in range(frames):
                value = read(video[frame], from_h, from_w)
                here = used & (at_frame == frame)
                patch += torch.where(here, weights.double() * value, 0.0).sum(-1)
            # For one tap, every query has a target of its own.
            total[:, to_h[target], to_w[target]] += patch[:, target]
            count[to_h[target], to_w[target]] += 1
    return total / count
