"""Who attends to a pixel: every entry of a search visited in order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

Pixel = tuple[int, int, int]


def selected(
    flows_k: Tensor, stride0: int, height: int, width: int
) -> Iterator[tuple[tuple[int, int], int, int, Pixel]]:
    """((batch, head), q, k, (t, h, w)) of every entry that leads to a pixel of the video."""
    batch, heads, frames, rows, columns, entries, _ = flows_k.shape
    for plane in ((b, head) for b in range(batch) for head in range(heads)):
        offsets = flows_k[plane].flatten(0, 2).tolist()
        for q in range(frames * rows * columns):
            own = q // (rows * columns), q // columns % rows * stride0, q % columns * stride0
            for k in range(entries):
                t, h, w = (a + b for a, b in zip(own, offsets[q][k], strict=True))
                marked = max(abs(x) for x in offsets[q][k]) >= 10**7
                if not marked and 0 <= t < frames and 0 <= h < height and 0 <= w < width:
                    yield plane, q, k, (t, h, w)


def scatter_labels(flows_k: Tensor, stride0: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """names (B, HD, S, T, H, W, 2) and labels (B, HD, Q, K)."""
    batch, heads, frames, rows, columns, entries, _ = flows_k.shape
    labels = torch.full((batch, heads, frames * rows * columns, entries), -1, dtype=torch.int32)
    at: dict[tuple[tuple[int, int], Pixel], list[tuple[int, int]]] = {}
    for plane, q, k, pixel in selected(flows_k, stride0, height, width):
        known = at.setdefault((plane, pixel), [])
        labels[(*plane, q, k)] = len(known)
        known.append((q, k))
    layers = max((len(known) for known in at.values()), default=0)
    names = torch.full((batch, heads, layers, frames, height, width, 2), -1, dtype=torch.int32)
    for (plane, pixel), known in at.items():
        for label, name in enumerate(known):
            names[(*plane, label, *pixel)] = torch.tensor(name, dtype=torch.int32)
    return names, labels


def scatter_tensor(
    tensor: Tensor,
    flows_k: Tensor,
    labels: Tensor,
    stride0: int,
    stride1: int,
    height: int,
    width: int,
    invalid: float,
) -> Tensor:
    """(B, HD, Q1, S, ...): the entries' values (B, HD, T, nH, nW, K, ...) at their key pixels."""
    batch, heads, frames = flows_k.shape[:3]
    rows, columns = (height - 1) // stride1 + 1, (width - 1) // stride1 + 1
    layers = int(labels.max()) + 1 if labels.numel() else 0
    values = tensor.flatten(2, 4)
    out = torch.full(
        (batch, heads, frames * rows * columns, layers, *tensor.shape[6:]),
        invalid,
        dtype=tensor.dtype,
    )
    for plane, q, k, (t, h, w) in selected(flows_k, stride0, height, width):
        if h % stride1 == 0 and w % stride1 == 0:
            key = (t * rows + h // stride1) * columns + w // stride1
            out[(*plane, key, labels[(*plane, q, k)])] = values[(*plane, q, k)]
    return out
