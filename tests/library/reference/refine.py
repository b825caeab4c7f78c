"""Refinement of earlier matches: the table of all candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from .distances import distances_at
from .positions import fold, inside, window
from .search import Candidates, SearchOptions, _rounding, _with_heads, _with_time

EMPTY = -100000000


def kept(kr: float, entries: int) -> int:
    """How many entries are refined: all, a share, or a number of them."""
    if kr <= 0:
        return entries
    return int(entries * kr) if isinstance(kr, float) and kr <= 1 else min(int(kr), entries)


def refine_candidates(
    o: SearchOptions, vid0: Tensor, vid1: Tensor, prior: Tensor, kr: float = -1
) -> Candidates:
    """The table around offsets (B, HD, T, nH, nW, Ks, 3); `o.ws` is the side of a window.

    Entries that are not finite, or reach 1e8 pixels (on the integer grid 1e5), are empty.
    """
    query, key = _with_heads(vid0, o.nheads), _with_heads(vid1, o.nheads)
    real = o.itype == "float"
    dtype = query.dtype if real else torch.int64
    prior = prior[..., : kept(kr, prior.shape[-2]), :]
    if not real and prior.is_floating_point():
        prior = prior.round()
    filled = torch.isfinite(prior).all(-1) & (prior.abs() < (1e8 if real else 1e5)).all(-1)
    dt, dh, dw = torch.where(filled[..., None], prior, torch.zeros_like(prior)).unbind(-1)
    t = torch.arange(query.shape[2]).view(-1, 1, 1, 1)
    i = torch.arange(prior.shape[3]).view(-1, 1, 1) * o.stride0
    j = torch.arange(prior.shape[4]).view(-1, 1) * o.stride0
    frame = fold(t + torch.floor(dt.double() + 0.5).long(), query.shape[2])
    step = torch.tensor(o.stride1 if real else max(1, int(o.stride1)), dtype=dtype)
    height, width = key.shape[-2:]
    h, anchor_h = window(fold(i + dh.to(dtype), height), step, o.ws, height, o.full_ws)
    w, anchor_w = window(fold(j + dw.to(dtype), width), step, o.ws, width, o.full_ws)
    frame, h, w = torch.broadcast_tensors(frame[..., None, None], h[..., None], w[..., None, :])

    valid = inside(h, height) & inside(w, width) & filled[..., None, None]
    centre = torch.zeros((), dtype=dtype)
    places = torch.where(valid, h, centre), torch.where(valid, w, centre)
    flat = (x.flatten(5) for x in (frame, *places))
    dists = distances_at(o, query, key, *flat).view(valid.shape)
    valid &= ~torch.isnan(dists)
    dists = torch.where(valid, dists, torch.tensor(o.invalid, dtype=torch.float64))
    offsets = (frame - t[..., None, None]).to(dtype), h - i[..., None, None], w - j[..., None, None]
    inds = torch.where(filled[..., None, None, None], torch.stack(offsets, -1), EMPTY)
    anchors = anchor_h * o.ws + anchor_w
    return Candidates(dists.flatten(-2), inds.flatten(-3, -2), anchors, *_rounding(o, query, key))


def paired_refine_candidates(
    o: SearchOptions, frame0: Tensor, frame1: Tensor, flow: Tensor, kr: float = -1
) -> Candidates:
    """The table for one pair of frames, with T = 1; flow: (B, [HD,] nH, nW, Ks, 2) = (dh, dw)."""
    query, key = (_with_heads(_with_time(frame), o.nheads) for frame in (frame0, frame1))
    if flow.ndim == 5:
        flow = flow[:, None].expand(-1, o.nheads, -1, -1, -1, -1)
    prior = torch.nn.functional.pad(flow, (1, 0))[:, :, None]
    table = refine_candidates(o, query, key, prior, kr)
    table.inds[..., 0] = 0
    return table
