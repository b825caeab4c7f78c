"""The order of all entries that select the same key pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks
from stnls.graph_opts._keys import check_offsets, key_pixels


def scatter_labels(
    flows: object,
    flows_k: Tensor,
    ws: int,
    wt: int,
    stride0: int,
    stride1: int,
    H: int,
    W: int,
    full_ws: bool,
) -> tuple[Tensor, Tensor]:
    """Numbers, for every key pixel, the entries of a search that select it: who attends to me.

    Query q = (t nH + i) nW + j, at pixel (i stride0, j stride0) of frame t, selects with its entry
    k the pixel at the offset ``flows_k[q, k]``. The entries (q, k) that select one pixel get the
    labels 0, 1, 2, …, in rising order of q, then of k. All batches and heads are by themselves.

    The number of layers depends on the offsets: on a GPU the host waits for it.

    Args:
        flows: not used; nothing depends on where the windows lay. The same holds for `ws`, `wt`,
            `stride1` and `full_ws`.
        flows_k: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw) in frames and pixels, of integers,
            as a search of ``itype="int"`` returns them; nH = (H - 1) // stride0 + 1. Entries that
            lead outside the video, or with an offset of 1e7 or more (the mark of an empty entry),
            are left out.
        ws: see `flows`.
        wt: see `flows`.
        stride0: pixels between queries.
        stride1: see `flows`.
        H: rows of a frame.
        W: columns of a frame.
        full_ws: see `flows`.

    Returns:
        names: (B, HD, S, T, H, W, 2) int32, the (q, k) of every label at every pixel; -1 where
            fewer than S entries select the pixel. S = ``labels.max() + 1`` layers, 0 without any.
        labels: (B, HD, Q, K) int32, Q = T nH nW; -1 for entries that are left out.

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    _checks.positive_int("ws", ws)
    _checks.positive_int("wt", wt, minimum=0)
    flows_k = check_offsets(flows_k, stride0, stride1, H, W)
    b, heads, frames, rows, columns, k, _ = flows_k.shape
    keys, there = key_pixels(flows_k, stride0, 1, H, W)
    labels = _ranks(keys, there)
    layers = int(labels.max()) + 1 if labels.numel() else 0

    shape = (b * heads, layers * frames * H * W, 2)
    names = torch.full(shape, -1, dtype=torch.int32, device=keys.device)
    cells = labels * (frames * H * W) + keys
    plane, entry = there.flatten(0, 1).nonzero(as_tuple=True)
    pairs = torch.stack([entry.div(max(k, 1), rounding_mode="floor"), entry % max(k, 1)], -1)
    names[plane, cells.flatten(0, 1)[plane, entry]] = pairs.to(torch.int32)
    return (
        names.view(b, heads, layers, frames, H, W, 2),
        labels.to(torch.int32).view(b, heads, frames * rows * columns, k),
    )


def _ranks(keys: Tensor, there: Tensor) -> Tensor:
    """Rank of every entry among those with its key, in the order given; -1 where it has none."""
    ordered, order = torch.where(there, keys, -1).sort(dim=-1, stable=True)
    place = torch.arange(keys.shape[-1], device=keys.device).expand_as(keys)
    first = torch.ones_like(there)
    first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    start = torch.where(first, place, 0).cummax(-1).values
    ranks = torch.empty_like(keys).scatter_(-1, order, place - start)
    return torch.where(there, ranks, -1)
