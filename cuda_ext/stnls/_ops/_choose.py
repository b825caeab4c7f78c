"""Choosing among the matches of a query, and placing the one taken between positions."""

from __future__ import annotations

from torch import Tensor

from stnls import _native
from stnls._ops._registry import DTYPES, define, run

Chosen = tuple[Tensor, Tensor, Tensor]


def _choose(
    query: Tensor,
    key: Tensor,
    flow: Tensor,
    dists: Tensor,
    offsets: Tensor,
    ps: int,
    stride1: float,
    charge: float,
    full_ws: bool,
    near: bool,
    between: bool,
) -> Chosen:
    # One reference for several frames need not be copied for each.
    if not query[:1].is_contiguous():
        query = query.contiguous()
    key, flow = key.contiguous(), flow.contiguous()
    dists, offsets = dists.contiguous(), offsets.contiguous()
    distance, position, offset = found = _choose_fake(query, key, flow, dists, offsets)
    if distance.numel() > 0:
        c = _native.ChooseProblem()
        c.query, c.key, c.flow = query.data_ptr(), key.data_ptr(), flow.data_ptr()
        c.dists, c.offsets = dists.data_ptr(), offsets.data_ptr()
        c.distance, c.position = distance.data_ptr(), position.data_ptr()
        c.offset = offset.data_ptr()
        c.query_stride = query.stride(0)
        c.batch, c.channels, c.height, c.width = key.shape
        c.entries, c.ps, c.dtype = dists.shape[-1], ps, DTYPES[key.dtype]
        c.full_window, c.near, c.between = int(full_ws), int(near), int(between)
        c.stride1, c.charge = stride1, charge
        run("choose_match", c, key.device)
    return found


def _choose_fake(
    query: Tensor, key: Tensor, flow: Tensor, dists: Tensor, offsets: Tensor, *_: object
) -> Chosen:
    places = offsets.shape[:3]
    return dists.new_empty(places), offsets.new_empty((*places, 2)), offsets.new_empty((*places, 2))


choose_match = define(
    "choose_match",
    "Tensor query, Tensor key, Tensor flow, Tensor dists, Tensor offsets, int ps, float stride1, "
    "float charge, bool full_ws, bool near, bool between",
    "(Tensor, Tensor, Tensor)",
    _choose,
    _choose_fake,
)
