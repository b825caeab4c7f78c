"""Placing matches between the positions of the grid."""

from __future__ import annotations

from torch import Tensor

from stnls import _native
from stnls._ops._registry import DTYPES, define, no_gradient, run


def _subpixel(query: Tensor, key: Tensor, offsets: Tensor, ps: int, stride1: float) -> Tensor:
    # One reference for several frames need not be copied for each.
    if not query[:1].is_contiguous():
        query = query.contiguous()
    key, offsets = key.contiguous(), offsets.contiguous()
    moved = _subpixel_fake(query, key, offsets)
    if moved.numel() > 0:
        p = _native.SubpixelProblem()
        p.query, p.key = query.data_ptr(), key.data_ptr()
        p.offsets, p.moved = offsets.data_ptr(), moved.data_ptr()
        p.query_stride = query.stride(0)
        p.batch, p.channels, p.height, p.width = key.shape
        p.ps, p.dtype, p.stride1 = ps, DTYPES[key.dtype], stride1
        run("subpixel", p, key.device)
    return moved


def _subpixel_fake(query: Tensor, key: Tensor, offsets: Tensor, *_: object) -> Tensor:
    return offsets.new_empty(offsets.shape)


subpixel = define(
    "subpixel",
    "Tensor query, Tensor key, Tensor offsets, int ps, float stride1",
    "Tensor",
    _subpixel,
    _subpixel_fake,
    backward=no_gradient("subpixel_offsets has no gradient: give it detached tensors"),
)
