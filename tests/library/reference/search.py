"""The Shifted Non-Local Search: the table of all candidates, and the choice among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .positions import fold, inside, pixels, read, slot_frames, window


@dataclass(frozen=True)
class SearchOptions:
    """The parameters of `stnls.search.NonLocalSearch`, with its names and defaults."""

    ws: int
    wt: int
    ps: int = 1
    k: int = -1
    nheads: int = 1
    stride0: int = 1
    stride1: float = 1
    dist_type: str = "l2"
    dilation: int = 1
    self_action: str | None = None
    topk_mode: str = "all"
    reflect_bounds: bool = True
    full_ws: bool = True
    use_adj: bool = False
    off_Hq: int = 0  # noqa: N815
    off_Wq: int = 0  # noqa: N815
    strideQ: int | None = None  # noqa: N815
    itype: str = "float"

    @property
    def invalid(self) -> float:
        return math.inf if self.dist_type == "l2" else -math.inf

    @property
    def taps(self) -> list[int]:
        """Offsets of the taps of a patch along one axis."""
        start = 0 if self.use_adj else -(self.ps // 2)
        return [self.dilation * (p + start) for p in range(self.ps)]


@dataclass(frozen=True)
class Candidates:
    """Every candidate of every query, in raster order (slot, window row, window column).

    dists: (B, HD, T, nH, nW, S, ws * ws), float64, infinite for invalid ones.
    inds: (..., 3), offsets (dt, dh, dw): int64 on the integer grid, else the video's dtype.
    anchors: (B, HD, T, nH, nW, S), the candidate of the slot that lies where the flow points.
    rounding: size of a distance that float32 rounding of the pixels alone can make.
    cancellation: the same where a distance between pixels is computed from those at the pixels
        around it, which can be much larger (see csrc/search/tiles_cpu.h).
    """

    dists: Tensor
    inds: Tensor
    anchors: Tensor
    rounding: float
    cancellation: float


def candidates(o: SearchOptions, vid0: Tensor, vid1: Tensor, flows: Tensor | None) -> Candidates:
    """The table for videos (B, T, C, H, W) or (B, HD, T, C/HD, H, W).

    flows: (B, T, S, 2, nH, nW) or (B, HD, T, S, 2, nH, nW), S = 2 wt (no flow for the own frame) or
    2 wt + 1; None is zero flow.
    """
    query, key = _with_heads(vid0, o.nheads), _with_heads(vid1, o.nheads)
    if flows is not None and flows.ndim == 6:
        flows = flows[:, None]
    batch, heads, frames = query.shape[:3]
    tables = []
    for b in range(batch):
        for head in range(heads):
            for t in range(frames):
                slots = []
                for slot, frame in enumerate(slot_frames(t, o.wt, frames)):
                    flow = _flow_of_slot(o, flows, b, head, t, slot)
                    planes = query[b, head, t], key[b, head, frame]
                    slots.append(_slot(o, *planes, flow, frame - t))
                tables.append([torch.stack(parts, 2) for parts in zip(*slots, strict=True)])
    dists, inds, anchors = (
        torch.stack(parts).unflatten(0, (batch, heads, frames))
        for parts in zip(*tables, strict=True)
    )
    return Candidates(dists, inds, anchors, *_rounding(o, query, key))


def paired_candidates(o: SearchOptions, frame0: Tensor, frame1: Tensor, flow: Tensor) -> Candidates:
    """The table for one pair of frames, (B, C, H, W) or (B, HD, C, H, W), with T = S = 1.

    flow: (B, 2, nH, nW) or (B, HD, 2, nH, nW); what has fewer heads is taken modulo their number.
    """
    query, key = (_with_heads(_with_time(frame), o.nheads) for frame in (frame0, frame1))
    flows = (flow[:, None] if flow.ndim == 4 else flow)[:, :, None, None]
    heads = max(query.shape[1], flows.shape[1])
    query, key = (v[:, torch.arange(heads) % v.shape[1]] for v in (query, key))
    return candidates(o, query, key, flows)


def _rounding(o: SearchOptions, query: Tensor, key: Tensor) -> tuple[float, float]:
    if min(query.numel(), key.numel()) == 0:
        return 0.0, 0.0
    largest = max(float(v.abs().max()) for v in (query, key))
    terms = o.ps * o.ps * key.shape[3]
    if o.dist_type == "prod":
        return terms * 1e-6 * largest**2, 0.0
    alone = float(terms * (1e-6 * largest) ** 2)
    if o.itype == "int":
        return alone, 0.0
    span = max(float(v.amax() - w.amin()) for v in (query, key) for w in (query, key))
    return alone, terms * 0.5e-6 * max(span, 0.0) ** 2


def _with_heads(video: Tensor, nheads: int) -> Tensor:
    """(B, HD, T, C, H, W): channel hd * C/HD + c is channel c of head hd."""
    if video.ndim == 6:
        return video
    b, t, c, h, w = video.shape
    return video.reshape(b, t, nheads, c // nheads, h, w).transpose(1, 2)


def _with_time(frame: Tensor) -> Tensor:
    return frame.unsqueeze(1) if frame.ndim == 4 else frame.unsqueeze(2)


def _flow_of_slot(
    o: SearchOptions, flows: Tensor | None, b: int, head: int, t: int, slot: int
) -> Tensor | None:
    """(2, nH, nW), or None for the slot of the own frame that has none."""
    if flows is None:
        return None
    if flows.shape[3] == 2 * o.wt:
        slot -= 1
    return None if slot < 0 else flows[b, head % flows.shape[1], t, slot]


def _slot(
    o: SearchOptions, query: Tensor, key: Tensor, flow: Tensor | None, dt: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (nH, nW, ws²), offsets (nH, nW, ws², 3) and anchors (nH, nW) of one slot."""
    real = o.itype == "float"
    dtype = query.dtype if real else torch.int64
    step = torch.tensor(o.stride1 if real else max(1, int(o.stride1)), dtype=dtype)
    query_height, query_width = query.shape[-2:]
    height, width = key.shape[-2:]
    rows = torch.arange((height - 1) // o.stride0 + 1) * o.stride0
    columns = torch.arange((width - 1) // o.stride0 + 1) * o.stride0
    grid = (len(rows), len(columns))

    finite = torch.ones(grid, dtype=torch.bool)
    h, w = torch.zeros(grid, dtype=dtype), torch.zeros(grid, dtype=dtype)
    if flow is not None:
        finite = torch.isfinite(flow).all(0)
        dx, dy = torch.where(finite, flow, torch.zeros_like(flow))
        if not real:
            # No frame is as large as the limit; it keeps the conversion to integers defined.
            dx, dy = (d.round().double().clamp(-1e9, 1e9) for d in (dx, dy))
        h, w = dy.to(dtype), dx.to(dtype)
    h, w = h + rows[:, None].to(dtype), w + columns.to(dtype)
    at_h, anchor_h = window(fold(h, height), step, o.ws, height, o.full_ws)
    at_w, anchor_w = window(fold(w, width), step, o.ws, width, o.full_ws)
    at_h, at_w = at_h[..., :, None], at_w[..., None, :]

    stride_query = o.stride0 if o.strideQ is None else o.strideQ
    query_h = (torch.arange(grid[0]) * stride_query) % query_height + o.off_Hq
    query_w = (torch.arange(grid[1]) * stride_query) % query_width + o.off_Wq
    query, key = query.double(), key.double()
    dists = torch.zeros(*grid, o.ws, o.ws, dtype=torch.float64)
    tap_w = torch.tensor(o.taps)  # all taps of a row at once: the last dimension
    for tap_h in o.taps:
        qh, qw = query_h[:, None, None] + tap_h, query_w[:, None] + tap_w
        kh, kw = at_h[..., None] + tap_h, at_w[..., None] + tap_w
        if o.reflect_bounds:
            qh, qw = fold(qh, query_height), fold(qw, query_width)
            kh, kw = fold(kh, height), fold(kw, width)
        used = inside(kh, height) & inside(kw, width)
        used &= (inside(qh, query_height) & inside(qw, query_width))[:, :, None, None]
        v0 = pixels(query, qh, qw)[:, :, :, None, None]
        kh, kw = kh.clamp(0, height - 1), kw.clamp(0, width - 1)
        v1 = read(key, kh, kw) if real else pixels(key, kh, kw)
        term = (v0 - v1).square() if o.dist_type == "l2" else v0 * v1
        dists += torch.where(used, term.sum(0), 0.0).sum(-1)

    valid = inside(at_h, height) & inside(at_w, width) & finite[..., None, None]
    valid &= ~torch.isnan(dists)
    dists = torch.where(valid, dists, torch.tensor(o.invalid, dtype=torch.float64))
    own_h, own_w = rows[:, None, None, None].to(dtype), columns[:, None, None].to(dtype)
    offsets = torch.full_like(at_h, dt), at_h - own_h, at_w - own_w
    inds = torch.stack(torch.broadcast_tensors(*offsets), -1)
    return dists.flatten(-2), inds.flatten(-3, -2), anchor_h * o.ws + anchor_w


def select(o: SearchOptions, table: Candidates) -> tuple[Tensor, Tensor]:
    """What the search returns: dists (B, HD, T, nH, nW, K) and inds (..., K, 3)."""
    first = 1 if o.self_action in ("remove_ref_frame", "anchor_and_remove_ref_frame") else 0
    dists, inds = table.dists[..., first:, :], table.inds[..., first:, :, :]
    slots, area = dists.shape[-2:]
    dists, inds = dists.flatten(-2), inds.flatten(-3, -2)
    anchors = table.anchors[..., first:] + torch.arange(slots) * area
    count = slots * area
    order = torch.arange(count).expand(dists.shape).clone()

    # The anchor changes places with the first candidate (of its slot); in sorted lists it is first.
    pinned = torch.zeros(dists.shape, dtype=torch.bool)
    if o.self_action in ("anchor", "anchor_self", "remove"):
        own = _own_position(o, inds)
        order = _swap(order, torch.zeros_like(own), own)
        pinned.scatter_(-1, own[..., None], True)
        if o.self_action != "remove":
            approximate = own[..., None] != 0
            at_own = pinned & approximate
            inds = torch.where(at_own[..., None], torch.zeros((), dtype=inds.dtype), inds)
    elif o.self_action in ("anchor_each", "anchor_and_remove_ref_frame"):
        each = o.topk_mode == "each" or o.k <= 0
        for slot in range(slots if each else 1):
            anchor = anchors[..., slot]
            order = _swap(order, torch.full_like(anchor, slot * area), anchor)
            pinned.scatter_(-1, anchor[..., None], True)

    if o.k > 0:
        groups = order.unflatten(-1, (slots if o.topk_mode == "each" else 1, -1)).sort(-1).values
        key = dists if o.dist_type == "l2" else -dists
        for by in (key, (~pinned).to(key.dtype)):  # stable: ties keep the lowest raster index first
            place = _at(by, groups).argsort(dim=-1, stable=True)
            groups = torch.gather(groups, -1, place)
        dropped = 1 if o.self_action == "remove" else 0
        order = groups[..., dropped : dropped + o.k].flatten(-2)
    elif o.self_action == "remove":
        order = order[..., 1:]
    dists = torch.gather(dists, -1, order)
    return dists, torch.gather(inds, -2, order[..., None].expand(*order.shape, 3))


def _at(values: Tensor, groups: Tensor) -> Tensor:
    """(..., N) values at the indices of (..., G, N / G) groups."""
    return torch.gather(values, -1, groups.flatten(-2)).unflatten(-1, groups.shape[-2:])


def _own_position(o: SearchOptions, inds: Tensor) -> Tensor:
    """Candidate at (0, 0, 0): on the integer grid the first exact one, or candidate 0 if there is
    none; on the real grid the first of the nearest in the L1 sense."""
    distance = inds.double().abs().sum(-1)
    nearest = _first_minimum(distance)
    if o.itype == "float":
        return nearest
    exact = torch.gather(distance, -1, nearest[..., None])[..., 0] == 0
    return torch.where(exact, nearest, 0)


def _first_minimum(x: Tensor) -> Tensor:
    at_minimum = x == x.min(-1, keepdim=True).values
    return at_minimum.to(torch.int8).argmax(-1)


def _swap(order: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Exchanges the entries at indices a and b of the last dimension."""
    a, b = a[..., None], b[..., None]
    at_a, at_b = torch.gather(order, -1, a), torch.gather(order, -1, b)
    return order.scatter(-1, a, at_b).scatter(-1, b, at_a)


def options_of(values: dict[str, Any]) -> SearchOptions:
    """Options from a dictionary with more keys than there are options."""
    names = SearchOptions.__dataclass_fields__
    return SearchOptions(**{name: value for name, value in values.items() if name in names})
