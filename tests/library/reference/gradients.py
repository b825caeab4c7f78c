"""What gradients are the derivatives of: entries of a search as functions of its inputs.

Choices (frame, step in the window, the pixels around a position) are constants. An entry outside
the frame, at an infinite distance, and those from `k_agg` on, do not depend on anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .distances import distances_at
from .positions import fold, slot_frames
from .search import SearchOptions, _with_heads, _with_time


def _moving(inds: Tensor, anchors: Tensor) -> Tensor:
    """The offsets (..., 3) with the derivatives of the anchors (..., 2) that they move with."""
    moved = anchors - anchors.detach()
    return inds.detach() + torch.nn.functional.pad(moved, (1, 0))


def _entries(
    o: SearchOptions, query: Tensor, key: Tensor, inds: Tensor, dists: Tensor, k_agg: int
) -> tuple[Tensor, Tensor]:
    alive = torch.isfinite(dists)
    if k_agg > 0:
        alive = alive & (torch.arange(dists.shape[-1]) < k_agg)
    inds = torch.where(alive[..., None], inds, inds.detach())
    # What takes no part is measured at the query itself, for it may lie anywhere.
    dt, dh, dw = torch.where(alive[..., None], inds, torch.zeros_like(inds)).unbind(-1)
    frame = torch.arange(inds.shape[2]).view(-1, 1, 1, 1) + dt.long()
    i = torch.arange(inds.shape[3]).view(-1, 1, 1) * o.stride0
    j = torch.arange(inds.shape[4]).view(-1, 1) * o.stride0
    at = distances_at(o, query, key, frame, i + dh, j + dw)
    return torch.where(alive, at, dists.double()), inds


def entries_of_search(
    o: SearchOptions,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    found: tuple[Tensor, Tensor],
    k_agg: int = -1,
) -> tuple[Tensor, Tensor]:
    """The (dists, inds) that a search found, as functions of (vid0, vid1, flows)."""
    vid0, vid1, flows = inputs
    query, key = _with_heads(vid0, o.nheads), _with_heads(vid1, o.nheads)
    dists, inds = (x.detach() for x in found)
    if o.itype == "float" and flows is not None:
        flows = flows[:, None] if flows.ndim == 6 else flows
        inds = _moving(inds, _anchors_of_flow(o, flows, inds, key.shape[-2:]))
    return _entries(o, query, key, inds, dists, k_agg)


def _anchors_of_flow(
    o: SearchOptions, flows: Tensor, inds: Tensor, size: tuple[int, int]
) -> Tensor:
    """(B, HD, T, nH, nW, K, 2): where flow leads the query to in the slot of each entry."""
    heads, frames, rows, columns = inds.shape[1:5]
    flows = flows[:, torch.arange(heads) % flows.shape[1]]
    if flows.shape[3] == 2 * o.wt:
        flows = torch.cat([flows.new_zeros((*flows.shape[:3], 1, *flows.shape[4:])), flows], 3)
    flows = torch.where(torch.isfinite(flows), flows, 0.0)
    slot = torch.zeros(inds.shape[:-1], dtype=torch.int64)
    for t in range(frames):
        for number, frame in enumerate(slot_frames(t, o.wt, frames)):
            slot[:, :, t][inds[:, :, t, ..., 0] == frame - t] = number
    by_slot = flows.movedim(3, -1)  # (B, HD, T, 2, nH, nW, S)
    dx, dy = (torch.gather(by_slot[:, :, :, axis], -1, slot) for axis in (0, 1))
    i = torch.arange(rows).view(-1, 1, 1) * o.stride0
    j = torch.arange(columns).view(-1, 1) * o.stride0
    return torch.stack([fold(i + dy, size[0]), fold(j + dx, size[1])], -1)


def entries_of_refinement(
    o: SearchOptions,
    inputs: tuple[Tensor, Tensor, Tensor],
    found: tuple[Tensor, Tensor],
    source: Tensor,
    k_agg: int = -1,
) -> tuple[Tensor, Tensor]:
    """The same for a refinement of (..., Ks, 3) offsets; source: that of each entry, (..., K)."""
    vid0, vid1, prior = inputs
    query, key = _with_heads(vid0, o.nheads), _with_heads(vid1, o.nheads)
    dists, inds = (x.detach() for x in found)
    if o.itype == "float":
        i = torch.arange(inds.shape[3]).view(-1, 1, 1) * o.stride0
        j = torch.arange(inds.shape[4]).view(-1, 1) * o.stride0
        dh, dw = (torch.gather(prior[..., axis], -1, source) for axis in (1, 2))
        dh, dw = (torch.where(torch.isfinite(d) & (d.abs() < 1e8), d, 0.0) for d in (dh, dw))
        anchors = torch.stack([fold(i + dh, key.shape[-2]), fold(j + dw, key.shape[-1])], -1)
        inds = _moving(inds, anchors)
    return _entries(o, query, key, inds, dists, k_agg)


def with_time(frames: tuple[Tensor, Tensor], nheads: int, heads: int) -> tuple[Tensor, Tensor]:
    """Frames (B, [HD,] C, H, W) as videos (B, HD, 1, C, H, W) of so many heads, modulo theirs."""
    videos = [_with_heads(_with_time(frame), nheads) for frame in frames]
    videos = [v[:, torch.arange(heads) % v.shape[1]] for v in videos]
    return videos[0], videos[1]
