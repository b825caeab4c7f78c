"""The distance between a query patch and the patch at a place, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from .positions import fold, inside, read_frames
from .search import SearchOptions


def distances_at(
    o: SearchOptions, query: Tensor, key: Tensor, frame: Tensor, h: Tensor, w: Tensor
) -> Tensor:
    """(B, HD, T, nH, nW, K), float64, for videos (B, HD, T, C, H, W).

    frame, h, w: (B, HD, T, nH, nW, K), places inside the frame; real ones are read bilinearly.
    """
    (query_height, query_width), (height, width) = query.shape[-2:], key.shape[-2:]
    step = o.stride0 if o.strideQ is None else o.strideQ
    tap_h, tap_w = torch.tensor(o.taps).view(-1, 1), torch.tensor(o.taps)
    i = torch.arange(h.shape[3]).view(-1, 1, 1, 1, 1)
    j = torch.arange(h.shape[4]).view(-1, 1, 1, 1)
    qh = (i * step) % query_height + o.off_Hq + tap_h
    qw = (j * step) % query_width + o.off_Wq + tap_w
    kh, kw = h[..., None, None] + tap_h, w[..., None, None] + tap_w
    if o.reflect_bounds:
        qh, qw = fold(qh, query_height), fold(qw, query_width)
        kh, kw = fold(kh, height), fold(kw, width)
    used = inside(qh, query_height) & inside(qw, query_width)
    used = used & inside(kh, height) & inside(kw, width)
    qh, qw = qh.clamp(0, query_height - 1), qw.clamp(0, query_width - 1)
    kh, kw = torch.where(inside(kh, height), kh, 0), torch.where(inside(kw, width), kw, 0)
    own = torch.arange(query.shape[2]).view(-1, 1, 1, 1, 1, 1)
    of_query = (*h.shape[:5], 1, o.ps, o.ps)
    v0 = read_frames(query, *(x.expand(of_query) for x in (own, qh, qw)))
    v1 = read_frames(key, *torch.broadcast_tensors(frame[..., None, None], kh, kw))
    terms = (v0 - v1).square() if o.dist_type == "l2" else v0 * v1
    return torch.where(used, terms.sum(-1), 0.0).sum((-1, -2))
