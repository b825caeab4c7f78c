"""Offsets from a query, and the places to which they lead."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks


def flow2inds(flow: Tensor, stride0: int) -> Tensor:
    """Offsets from each query to absolute places: adds (t, i stride0, j stride0).

    Args:
        flow: (B, T, nH, nW, K, 3) or (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw) in frames and
            pixels, as a search returns them; integer or real.
        stride0: pixels between queries.

    Returns:
        The same shape and dtype, (t, h, w).

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together, and for a
            dtype that does not hold the queries' places as whole numbers (float16 ends at 2048,
            bfloat16 at 256).

    """
    return _checked("flow", flow, stride0) + _own_places("flow", flow, stride0)


def inds2flow(inds: Tensor, stride0: int) -> Tensor:
    """Absolute places to offsets from each query: the inverse of `flow2inds`.

    Args:
        inds: (B, T, nH, nW, K, 3) or (B, HD, T, nH, nW, K, 3), places (t, h, w) in frames and
            pixels; integer or real.
        stride0: pixels between queries.

    Returns:
        The same shape and dtype, (dt, dh, dw).

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together, and for a
            dtype that does not hold the queries' places as whole numbers (float16 ends at 2048,
            bfloat16 at 256).

    """
    return _checked("inds", inds, stride0) - _own_places("inds", inds, stride0)


def _checked(name: str, value: Tensor, stride0: int) -> Tensor:
    _checks.positive_int("stride0", stride0)
    layout = "(B, T, nH, nW, K, 3) or (B, HD, T, nH, nW, K, 3)"
    value = _checks.tensor(name, value, (6, 7), layout)
    _checks.numbers(name, value)
    _checks.common_dtype(name, value)
    _checks.shape(name, value, (*value.shape[:-1], 3), layout)
    return value


def _own_places(name: str, like: Tensor, stride0: int) -> Tensor:
    """(T, nH, nW, 1, 3): (t, h, w) of every query."""
    frames, rows, columns = like.shape[-5:-2]
    last = frames - 1, (rows - 1) * stride0, (columns - 1) * stride0
    _checks.holds_grid(name, like.dtype, *last)
    axes = (
        torch.arange(count, device=like.device) * step
        for count, step in ((frames, 1), (rows, stride0), (columns, stride0))
    )
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).unsqueeze(-2).to(like.dtype)
