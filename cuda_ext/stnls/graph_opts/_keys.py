"""The key pixel to which each entry of a search points, and the check of what names it."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import grid_shape, grid_size

# Offsets from here on mark an entry of a search as empty.
EMPTY = 10_000_000


def check_offsets(flows_k: Tensor, stride0: int, stride1: int, H: int, W: int) -> Tensor:
    """Offsets (B, HD, T, nH, nW, K, 3) of integers, on the grid of queries of H × W frames."""
    for name, value in (("stride0", stride0), ("stride1", stride1), ("H", H), ("W", W)):
        _checks.positive_int(name, value)
    layout = "(B, HD, T, nH, nW, K, 3)"
    flows_k = _checks.tensor("flows_k", flows_k, (7,), layout)
    _checks.integers("flows_k", flows_k)
    b, heads, t, _, _, k, _ = flows_k.shape
    grid = grid_shape((H, W), stride0)
    _checks.shape("flows_k", flows_k, (b, heads, t, *grid, k, 3), layout)
    return flows_k


def check_labels(labels: Tensor, flows_k: Tensor) -> Tensor:
    """Labels (B, HD, Q, K) of integers, one for each offset."""
    labels = _checks.tensor("labels", labels, (4,), "(B, HD, Q, K)")
    _checks.integers("labels", labels)
    _checks.same_place("flows_k", flows_k, "labels", labels)
    b, heads, t, rows, columns, k, _ = flows_k.shape
    _checks.shape("labels", labels, (b, heads, t * rows * columns, k), "(B, HD, T nH nW, K)")
    return labels


def key_pixels(
    flows_k: Tensor, stride0: int, stride1: int, H: int, W: int
) -> tuple[Tensor, Tensor]:
    """The number of every entry's key pixel on the grid of stride1, and whether it has one.

    Both are (B, HD, Q K); entries that are empty, lie outside the frames or between the pixels of
    the grid have none, and a number without meaning.
    """
    frames, rows, columns = flows_k.shape[2:5]
    far = flows_k.long()
    there = ((far > -EMPTY) & (far < EMPTY)).all(-1)
    number = torch.zeros((), dtype=torch.int64, device=flows_k.device)
    axes = ((frames, 1, frames, 1), (rows, stride0, H, stride1), (columns, stride0, W, stride1))
    for axis, (count, stride, length, step) in enumerate(axes):
        own = torch.arange(count, device=flows_k.device) * stride
        at = far[..., axis] + own.view(-1, *[1] * (3 - axis))
        there = there & (at >= 0) & (at < length) & (at % step == 0)
        number = number * grid_size(length, step) + at.div(step, rounding_mode="floor")
    return number.flatten(2), there.flatten(2)
