"""What the kernels of searches are told: settings, layouts of tensors, and memory for results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stnls import _native
from stnls._ops._registry import DTYPES, schema_of
from stnls._positions import grid_shape

_KEEP = {"all": 0, "each": 1, "every": 2}
_SELF_ACTION = {"none": 0, "anchor": 1, "anchor_each": 2, "remove": 3}


class SearchSettings(NamedTuple):
    """Arguments of the operators that are no tensors; csrc/search/problem.h explains them."""

    ws: int
    wt: int
    ps: int
    k: int
    keep: str
    self_action: str
    first_slot: int
    stride0: int
    stride1: float
    charge: float  # for each squared pixel and each value of a patch
    stride_query: int
    dist_type: str
    dilation: int
    reflect_bounds: bool
    full_ws: bool
    use_adj: bool
    offset_height: int
    offset_width: int
    float_grid: bool
    with_time: bool
    k_agg: int
    direct: bool


SETTINGS = schema_of(SearchSettings)


def entry_count(s: SearchSettings, windows: int | None = None) -> int:
    """Entries that a search returns for each query; `windows` of a refinement."""
    slots = 2 * s.wt + 1 - s.first_slot if windows is None else windows
    if s.keep == "every":
        return slots * s.ws * s.ws - (1 if s.self_action == "remove" else 0)
    return slots * s.k if s.keep == "each" else s.k


def search_scratch(shape: Sequence[int], s: SearchSettings, dtype: torch.dtype) -> int:
    """Bytes of scratch memory that a search of two such (B, HD, T, C, H, W) videos takes on a
    GPU."""
    video = torch.empty(tuple(shape), dtype=dtype, device="meta")
    dists, inds = outputs(video, video, s)
    p = _native.SearchProblem()
    describe(p, s, video, video, None, dists, inds)
    return 4 * _native.cuda_search_scratch(p)


def outputs(
    query: Tensor, key: Tensor, s: SearchSettings, windows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Memory for distances and offsets; `windows` of a refinement."""
    b, heads, frames = query.shape[:3]
    grid = grid_shape(key.shape[-2:], s.stride0)
    dists = query.new_empty((b, heads, frames, *grid, entry_count(s, windows)))
    kind = query.dtype if s.float_grid else torch.int32
    return dists, query.new_empty((*dists.shape, 3 if s.with_time else 2), dtype=kind)


def describe(
    p: _native.SearchProblem,
    s: SearchSettings,
    query: Tensor,
    key: Tensor,
    flow: Tensor | None,
    dists: Tensor,
    inds: Tensor,
) -> None:
    """Fills in all but what refinements have besides."""
    p.query, p.key = query.data_ptr(), key.data_ptr()
    p.query_stride = _native.i64_array(query.stride()[:5])
    p.key_stride = _native.i64_array(key.stride()[:5])
    if flow is not None and flow.shape[3] > 0:
        p.flow, p.flow_heads, p.flow_slots = flow.data_ptr(), flow.shape[1], flow.shape[3]
    p.dists, p.inds = dists.data_ptr(), inds.data_ptr()
    p.batch, p.heads, p.frames, p.channels, p.query_height, p.query_width = query.shape
    p.height, p.width = key.shape[-2:]
    p.grid_height, p.grid_width = dists.shape[3:5]
    p.wt, p.first_slot, p.ws, p.ps = s.wt, s.first_slot, s.ws, s.ps
    p.patch_offset, p.dilation = 0 if s.use_adj else -(s.ps // 2), s.dilation
    p.stride0, p.stride1, p.stride_query = s.stride0, s.stride1, s.stride_query
    p.charge = 0.0 if s.keep == "every" else s.charge * query.shape[3] * s.ps * s.ps
    p.offset_height, p.offset_width = s.offset_height, s.offset_width
    p.k, p.keep, p.self_action = s.k, _KEEP[s.keep], _SELF_ACTION[s.self_action]
    p.reflect_bounds, p.full_window = s.reflect_bounds, s.full_ws
    p.product, p.float_grid = s.dist_type == "prod", s.float_grid
    p.dtype, p.components = DTYPES[query.dtype], inds.shape[-1]


def describe_prior(p: _native.SearchProblem, prior: Tensor, source: Tensor, windows: int) -> None:
    """Fills in what refinements have besides."""
    p.prior, p.source = prior.data_ptr(), source.data_ptr()
    p.prior_entries, p.windows = prior.shape[-2], windows
