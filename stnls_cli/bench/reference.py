"""The operators once more in plain PyTorch, from their definition: gathers, no kernels of ours.

Every candidate is listed and every tap visited, for the queries of a block. It knows what the
presets use: batch 1, squared differences or products, mirrored borders, windows moved inside the
frame, and the query's own position in front where `anchor` is set. Differentiable.

Videos are (HD, T, c, H, W). Positions are computed in the type of the flow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stnls_cli.bench.problem import Problem


@dataclass(frozen=True)
class Block:
    """Rows and columns of the queries to compute."""

    rows: range
    columns: range

    def places(self, device: torch.device, stride0: int = 1) -> tuple[Tensor, Tensor]:
        """(R, 1) and (1, Q): their pixels."""
        rows, columns = (
            stride0 * torch.tensor(n, device=device) for n in (self.rows, self.columns)
        )
        return rows[:, None], columns[None]

    def of(self, x: Tensor, dim: int) -> Tensor:
        """The block of a tensor with rows at `dim` and columns after it."""
        x = x.narrow(dim, self.rows.start, len(self.rows))
        return x.narrow(dim + 1, self.columns.start, len(self.columns))


def split_heads(video: Tensor, heads: int) -> Tensor:
    """(1, T, C, H, W) as (HD, T, c, H, W)."""
    split: Tensor = video[0].unflatten(1, (heads, -1))
    return split.transpose(0, 1)


def fold(x: Tensor, length: int) -> Tensor:
    """Mirrors positions at the first and the last pixel until they lie inside."""
    if length == 1:
        return torch.zeros_like(x)
    last = length - 1
    x = torch.fmod(torch.where(x < 0, -x, x), 2 * last)
    return torch.where(x > last, 2 * last - x, x)


def slot_frames(t: int, wt: int, frames: int) -> list[int]:
    """Frame of each temporal slot: the own one, those after it, those before it."""
    shift = min(0, t - wt) + max(0, t + wt - (frames - 1))
    last = min(frames - 1, t + wt - shift)
    return [t + s if t + s <= last else last - s for s in range(2 * wt + 1)]


class Pixels:
    """A video to read at positions (HD or 1, ...): values (HD, c, ...)."""

    def __init__(self, video: Tensor) -> None:
        self.height, self.width = video.shape[-2:]
        self._flat = video.transpose(1, 2).flatten(2)

    def read(self, frame: Tensor | int, h: Tensor, w: Tensor) -> Tensor:
        """At whole pixels, or bilinearly between them."""
        if not h.is_floating_point():
            return self._at(frame, h, w)
        total = torch.zeros((), device=h.device)
        for row, of_row in _corners(h, self.height):
            for column, of_column in _corners(w, self.width):
                weight = (of_row * of_column).to(self._flat.dtype)[:, None]
                total = total + weight * self._at(frame, row, column)
        return total

    def _at(self, frame: Tensor | int, h: Tensor, w: Tensor) -> Tensor:
        index = (frame * self.height + h) * self.width + w
        heads, channels = self._flat.shape[:2]
        flat = index.flatten(1)[:, None].expand(heads, channels, -1)
        values: Tensor = torch.gather(self._flat, 2, flat).unflatten(2, index.shape[1:])
        return values


def _corners(x: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """The pixels below and above a position, with their weights."""
    low = torch.floor(x.detach())
    above = x - low
    return [(low.long(), 1 - above), (fold(low.long() + 1, length), above)]


def _window(anchor: Tensor, step: float, ws: int, length: int) -> Tensor:
    """Positions along one axis, (..., ws), moved inside the frame by whole steps."""
    before = torch.full_like(anchor, (ws - 1) // 2, dtype=torch.int64)
    real = anchor.double()
    before = torch.where(anchor - step * before < 0, torch.floor(real / step).long(), before)
    beyond = anchor + step * (ws - 1 - before) > length - 1
    moved = torch.ceil((real - (length - 1)) / step + (ws - 1)).long()
    before = torch.where(beyond, moved, before)
    steps = torch.arange(ws, device=anchor.device) - before[..., None]
    if not anchor.is_floating_point():
        return anchor[..., None] + int(step) * steps
    return anchor[..., None] + step * steps


def _taps(ps: int) -> range:
    return range(-(ps // 2), ps - ps // 2)


def _distances(
    p: Problem,
    query: Pixels,
    key: Pixels,
    t: Tensor | int,
    frame: Tensor | int,
    at: tuple[Tensor, ...],
) -> Tensor:
    """(HD, R, Q, N): `at` holds rows and columns of the queries, and of their candidates."""
    own_h, own_w, h, w = at
    total = torch.zeros((), device=h.device)
    for dy in _taps(p.ps):
        for dx in _taps(p.ps):
            tap = fold(own_h + dy, query.height), fold(own_w + dx, query.width)
            a = query.read(t, *torch.broadcast_tensors(tap[0][None], tap[1][None]))[..., None]
            b = key.read(frame, fold(h + dy, key.height), fold(w + dx, key.width))
            products = p.operator == "NeighbourhoodAttention"
            total = total + (a * b if products else (a - b).square()).sum(1)
    return total


def search(
    p: Problem, query: Tensor, key: Tensor, flows: Tensor, block: Block
) -> tuple[Tensor, Tensor]:
    """dists (HD, T, R, Q, K) and inds (..., 3); `flows` is (T, S, 2, nH, nW)."""
    images = Pixels(query), Pixels(key)
    frames = query.shape[1]
    found = [_search_frame(p, *images, flows, block, t, frames) for t in range(frames)]
    dists, inds = zip(*found, strict=True)
    return torch.stack(dists, 1), torch.stack(inds, 1)


def _search_frame(
    p: Problem, query: Pixels, key: Pixels, flows: Tensor, block: Block, t: int, frames: int
) -> tuple[Tensor, Tensor]:
    tables = []
    for slot, frame in enumerate(slot_frames(t, p.wt, frames)):
        number = slot - (p.slots - flows.shape[1])
        flow = None if number < 0 else block.of(flows[t, number], 1)
        tables.append(_candidates(p, query, key, flow, block, t, frame))
    dists = torch.cat([table[0] for table in tables], -1)
    inds = torch.cat([table[1] for table in tables], -2)
    if p.anchor:
        return _with_own_first(p, dists, inds)
    return _best(p, dists, inds, p.entries)


def _candidates(
    p: Problem, query: Pixels, key: Pixels, flow: Tensor | None, block: Block, t: int, frame: int
) -> tuple[Tensor, Tensor]:
    """Distances (HD, R, Q, ws²) and offsets (HD, R, Q, ws², 3) of one slot."""
    rows, columns = block.places(query._flat.device, p.stride0)
    real = p.grid == "float"
    kind = torch.float32 if real else torch.int64
    size = len(block.rows), len(block.columns)
    dx, dy = (torch.zeros(2, *size, device=rows.device) if flow is None else flow).unbind(0)
    if not real:
        dx, dy = dx.round(), dy.round()
    step = p.stride1 if real else 1
    h = _window(fold(rows.to(kind) + dy.to(kind), key.height), step, p.ws, key.height)
    w = _window(fold(columns.to(kind) + dx.to(kind), key.width), step, p.ws, key.width)
    h, w = (x.flatten(-2) for x in torch.broadcast_tensors(h[..., :, None], w[..., None, :]))
    outside = (h < 0) | (h > key.height - 1) | (w < 0) | (w > key.width - 1)
    dists = _distances(p, query, key, t, frame, (rows, columns, h[None], w[None]))
    dists = torch.where(outside, math.inf, dists)
    offsets = h - rows[..., None].to(kind), w - columns[..., None].to(kind)
    inds = torch.stack([torch.full_like(h, frame - t), *offsets], -1)
    return dists, inds.expand(len(dists), *inds.shape)


def _best(p: Problem, dists: Tensor, inds: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if p.k <= 0:
        return dists, inds
    dists, order = torch.topk(dists, k, largest=False)
    return dists, _entries(inds, order)


def _entries(inds: Tensor, order: Tensor) -> Tensor:
    return torch.gather(inds, -2, order[..., None].expand(*order.shape, 3))


def _with_own_first(p: Problem, dists: Tensor, inds: Tensor) -> tuple[Tensor, Tensor]:
    """The candidate nearest to the query's own position, whatever its distance, then the best; of
    every candidate, it changes places with the first."""
    own = inds.abs().sum(-1).argmin(-1, keepdim=True)
    first = torch.gather(dists, -1, own)
    if p.k <= 0:
        places = torch.arange(dists.shape[-1], device=dists.device).expand_as(dists)
        order = places.scatter(-1, own, 0)[..., 1:]
        others, places = torch.gather(dists, -1, order), _entries(inds, order)
    else:
        rest = dists.scatter(-1, own, math.inf)
        others, places = _best(p, rest, inds, p.entries - 1)
    zero = torch.zeros_like(places[..., :1, :])
    return torch.cat([first, others], -1), torch.cat([zero, places], -2)


def distances_at(p: Problem, query: Tensor, key: Tensor, inds: Tensor, block: Block) -> Tensor:
    """(HD, T, R, Q, K) distances of the entries `inds`, (HD, T, R, Q, K, 3)."""
    rows, columns = block.places(query.device, p.stride0)
    images = Pixels(query), Pixels(key)
    found = []
    for t in range(query.shape[1]):
        dt, dh, dw = inds[:, t].unbind(-1)
        h, w = rows[..., None] + dh, columns[..., None] + dw
        found.append(_distances(p, *images, t, t + dt.long(), (rows, columns, h, w)))
    return torch.stack(found, 1)


def anchored(p: Problem, inds: Tensor, flows: Tensor, block: Block) -> Tensor:
    """The offsets `inds` as functions of the flow that leads to them."""
    rows, columns = block.places(flows.device, p.stride0)
    moved = []
    for t in range(inds.shape[1]):
        dt, dh, dw = inds[:, t].detach().unbind(-1)
        shift_h, shift_w = torch.zeros_like(dh), torch.zeros_like(dw)
        for slot, frame in enumerate(slot_frames(t, p.wt, inds.shape[1])):
            number = slot - (p.slots - flows.shape[1])
            if number < 0:
                continue
            dx, dy = block.of(flows[t, number], 1).unbind(0)
            h, w = fold(rows + dy, p.height)[..., None], fold(columns + dx, p.width)[..., None]
            here = dt == frame - t
            shift_h = torch.where(here, h - h.detach(), shift_h)
            shift_w = torch.where(here, w - w.detach(), shift_w)
        moved.append(torch.stack([dt, dh + shift_h, dw + shift_w], -1))
    return torch.stack(moved, 1)


def patch_sum(p: Problem, video: Tensor, weights: Tensor, inds: Tensor, block: Block) -> Tensor:
    """(HD, T, c, R, Q) pixels; weights are (HD, T, H, W, K), inds (HD, T, H, W, K, 3)."""
    image = Pixels(video)
    rows, columns = block.places(video.device)
    frames = [
        _sum_frame(p, image, weights[:, t], inds[:, t], rows, columns, t)
        for t in range(video.shape[1])
    ]
    return torch.stack(frames, 1)


def _sum_frame(
    p: Problem, image: Pixels, weights: Tensor, inds: Tensor, rows: Tensor, columns: Tensor, t: int
) -> Tensor:
    height, width = image.height, image.width
    total = torch.zeros((), device=rows.device)
    count = torch.zeros((), device=rows.device)
    for dy in _taps(p.ps):
        for dx in _taps(p.ps):
            # Each pixel is a tap of the patches of the queries around it.
            h, w = torch.broadcast_tensors(rows - dy, columns - dx)
            covers = (h >= 0) & (h < height) & (w >= 0) & (w < width)
            h, w = h.clamp(0, height - 1), w.clamp(0, width - 1)
            dt, dh, dw = inds[:, h, w].unbind(-1)  # (HD, R, Q, K)
            at_h = fold(fold(h[..., None] + dh, height) + dy, height)
            at_w = fold(fold(w[..., None] + dw, width) + dx, width)
            if p.grid == "int":
                at_h, at_w = at_h.long(), at_w.long()
            values = image.read(t + dt.long(), at_h, at_w)
            sums = (values * weights[:, None, h, w].to(values.dtype)).sum(-1)
            total = total + torch.where(covers, sums, 0)
            count = count + covers
    return total / count


def attention(p: Problem, q: Tensor, k: Tensor, v: Tensor, scale: float, block: Block) -> Tensor:
    """(HD, T, c, R, Q): softmax over every position of the window."""
    flows = torch.zeros(q.shape[1], 1, 2, *q.shape[-2:], device=q.device)
    products, inds = search(p, q, k, flows, block)
    weights = torch.softmax(scale * products, -1)
    image, (rows, columns) = Pixels(v), block.places(v.device)
    out = []
    for t in range(q.shape[1]):
        _, dh, dw = inds[:, t].unbind(-1)
        values = image.read(t, rows[..., None] + dh, columns[..., None] + dw)
        out.append((values * weights[:, t, None]).sum(-1))
    return torch.stack(out, 1)
