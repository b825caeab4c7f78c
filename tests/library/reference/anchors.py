"""Which candidate lies at a wanted place, found one by one, and its exchange with the first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .positions import fold, slot_frames


def pin(dists: Tensor, inds: Tensor, wanted: Tensor) -> int:
    """Puts the candidate at the offset `wanted`, (D,), in front of all (N,), (N, D); its number."""
    real = inds.is_floating_point()
    at, least = 0, 1e4 if real else 0.5
    for n, offset in enumerate(inds):
        if real:
            away = sum(abs(float(a) - float(b)) for a, b in zip(offset, wanted, strict=True))
            away = 0.0 if away < 1e-8 else away
        else:
            away = float(offset.tolist() != wanted.tolist())
        if away < least:
            at, least = n, away
    if at != 0:
        dists[[0, at]] = dists[[at, 0]]
        inds[[0, at]] = inds[[at, 0]]
        inds[0] = wanted
    return at


def place(offset: Tensor, query: int, length: int, real: bool) -> float:
    """Offset of a query that flow leads to, mirrored at the border."""
    value = float(offset) if math.isfinite(offset) else 0.0
    if not real:
        value = max(-1e9, min(1e9, float(torch.tensor(value, dtype=torch.float64).round())))
        return float(fold(torch.tensor(int(value) + query), length)) - query
    dtype = offset.dtype if offset.is_floating_point() else torch.float64
    start = torch.tensor(query, dtype=dtype)
    return float(fold(start + torch.tensor(value, dtype=dtype), length) - start)


def pin_slots(
    dists: Tensor, inds: Tensor, flows: Tensor, wt: int, stride0: int, size: tuple[int, int]
) -> None:
    """Pins the place of the flow in every slot of (B, HD, Q, S, ws, ws) candidates."""
    batch, heads, queries, slots = dists.shape[:4]
    frames, rows, columns = flows.shape[2], flows.shape[5], flows.shape[6]
    every, real = 2 * wt + 1, inds.is_floating_point()
    for b in range(batch):
        for head in range(heads):
            for q in range(queries):
                t, i, j = q // (rows * columns), q // columns % rows, q % columns
                for n in range(slots):
                    slot = n + every - slots
                    number = slot - (every - flows.shape[3])
                    dh = dw = torch.zeros(())
                    if number >= 0:
                        dw, dh = flows[b, head % flows.shape[1], t, number, :, i, j]
                    wanted = [
                        slot_frames(t, wt, frames)[slot] - t,
                        place(dh, i * stride0, size[0], real),
                        place(dw, j * stride0, size[1], real),
                    ]
                    window = dists[b, head, q, n].view(-1), inds[b, head, q, n].view(-1, 3)
                    pin(*window, torch.tensor(wanted, dtype=inds.dtype))
