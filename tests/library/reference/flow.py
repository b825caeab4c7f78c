"""Composition of flow, point by point."""

from __future__ import annotations

import torch
from torch import Tensor

from .positions import fold, slot_frames


def flow_at(flow: Tensor, h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """(dx, dy) of (2, H, W) between pixels; each of the four corners is reflected by itself."""
    height, width = flow.shape[-2:]
    finite = torch.isfinite(h) & torch.isfinite(w)
    # So far outside that pixels lie closer than numbers do, the position itself is reflected.
    h, w = (
        torch.where(x.abs() < 1e6, x, fold(torch.where(finite, x, 0.0), length))
        for x, length in ((h, height), (w, width))
    )
    total = torch.zeros(2, *h.shape, dtype=torch.float64)
    low_h, low_w = torch.floor(h.detach()), torch.floor(w.detach())
    for row, of_row in ((low_h, 1 - (h - low_h)), (low_h + 1, h - low_h)):
        for column, of_column in ((low_w, 1 - (w - low_w)), (low_w + 1, w - low_w)):
            at = fold(row, height).long(), fold(column, width).long()
            total = total + of_row * of_column * flow.double()[:, at[0], at[1]]
    total = torch.where(finite, total, torch.nan)
    return total[0], total[1]


def compose_flow(steps: Tensor, stride0: int = 1) -> Tensor:
    """Offsets after each of the N flows of `steps`, (B, N, 2, H, W), along a path."""
    batch, _, _, height, width = steps.shape
    out = [_path(list(steps[b]), height, width, stride0) for b in range(batch)]
    return torch.stack(out)


def search_flow(fflow: Tensor, bflow: Tensor, wt: int, stride0: int = 1) -> Tensor:
    """Flow of the temporal slots 1, 2, ... of a search: (B, T, min(2 wt + 1, T) - 1, 2, nH, nW)."""
    batch, frames, _, height, width = fflow.shape
    out = []
    for b in range(batch):
        for t in range(frames):
            slots = slot_frames(t, wt, frames)[1:]
            after = [frame for frame in slots if frame > t]
            before = [frame for frame in slots if frame < t]
            forward = _path([fflow[b, frame - 1] for frame in after], height, width, stride0)
            backward = _path([bflow[b, frame + 1] for frame in before], height, width, stride0)
            out.append(torch.cat([forward, backward]))
    return torch.stack(out).unflatten(0, (batch, frames))


def _path(flows: list[Tensor], height: int, width: int, stride0: int) -> Tensor:
    rows, columns = torch.arange(0, height, stride0), torch.arange(0, width, stride0)
    start_h, start_w = torch.meshgrid(rows.double(), columns.double(), indexing="ij")
    h, w = start_h, start_w
    out = torch.empty(len(flows), 2, len(rows), len(columns), dtype=torch.float64)
    for n, flow in enumerate(flows):
        dx, dy = flow_at(flow, h, w)
        h, w = h + dy, w + dx
        out[n, 0], out[n, 1] = w - start_w, h - start_h
    return out
