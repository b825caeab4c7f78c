"""Searching around flow, refining an earlier search, and the gradient of both."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stnls import _native
from stnls._ops import _reproducible
from stnls._ops._registry import (
    DTYPES,
    Layout,
    define,
    nothing,
    pointer,
    rows_contiguous,
    run,
    schema_of,
    zeros_like_rows,
)
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
    dists, inds = _outputs(video, video, s)
    p = _native.SearchProblem()
    _describe(p, s, video, video, None, dists, inds)
    return 4 * _native.cuda_search_scratch(p)


def _outputs(
    query: Tensor, key: Tensor, s: SearchSettings, windows: int | None = None
) -> tuple[Tensor, Tensor]:
    b, heads, frames = query.shape[:3]
    grid = grid_shape(key.shape[-2:], s.stride0)
    dists = query.new_empty((b, heads, frames, *grid, entry_count(s, windows)))
    kind = query.dtype if s.float_grid else torch.int32
    return dists, query.new_empty((*dists.shape, 3 if s.with_time else 2), dtype=kind)


def _describe(
    p: _native.SearchProblem,
    s: SearchSettings,
    query: Tensor,
    key: Tensor,
    flow: Tensor | None,
    dists: Tensor,
    inds: Tensor,
) -> None:
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
    p.charge = s.charge * query.shape[3] * s.ps * s.ps
    p.offset_height, p.offset_width = s.offset_height, s.offset_width
    p.k, p.keep, p.self_action = s.k, _KEEP[s.keep], _SELF_ACTION[s.self_action]
    p.reflect_bounds, p.full_window = s.reflect_bounds, s.full_ws
    p.product, p.float_grid = s.dist_type == "prod", s.float_grid
    p.dtype, p.components = DTYPES[query.dtype], inds.shape[-1]


def _describe_prior(p: _native.SearchProblem, prior: Tensor, source: Tensor, windows: int) -> None:
    p.prior, p.source = prior.data_ptr(), source.data_ptr()
    p.prior_entries, p.windows = prior.shape[-2], windows


class _Plan(NamedTuple):
    """What a search needs to know of its tensors, and does not have to find out again."""

    problem: _native.SearchProblem  # without its pointers
    dists: tuple[int, ...]
    inds: tuple[int, ...]
    inds_dtype: torch.dtype
    direct: bool
    words: int  # of scratch memory on a GPU


@functools.lru_cache(maxsize=256)
def _plan(
    args: tuple[Any, ...],
    dtype: torch.dtype,
    query: Layout,
    key: Layout,
    flow: tuple[int, ...] | None,
    cuda: bool,
) -> _Plan:
    s = SearchSettings(*args)
    query_like, key_like = (
        torch.empty_strided(*layout, dtype=dtype, device="meta") for layout in (query, key)
    )
    flow_like = None if flow is None else torch.empty(flow, dtype=dtype, device="meta")
    dists, inds = _outputs(query_like, key_like, s)
    p = _native.SearchProblem()
    words = 0
    if dists.numel() > 0:
        _describe(p, s, query_like, key_like, flow_like, dists, inds)
        words = _native.cuda_search_scratch(p) if cuda and not s.direct else 0
    return _Plan(p, tuple(dists.shape), tuple(inds.shape), inds.dtype, s.direct, words)


def _search(query: Tensor, key: Tensor, flow: Tensor | None, *args: Any) -> tuple[Tensor, Tensor]:
    query, key = rows_contiguous(query), rows_contiguous(key)
    flow = None if flow is None else flow.contiguous()
    layouts = (query.shape, query.stride()), (key.shape, key.stride())
    flow_shape = None if flow is None else flow.shape
    plan = _plan(args, query.dtype, *layouts, flow_shape, query.is_cuda)
    dists = query.new_empty(plan.dists)
    inds = query.new_empty(plan.inds, dtype=plan.inds_dtype)
    if dists.numel() > 0:
        p = _native.SearchProblem.from_buffer_copy(plan.problem)
        p.query, p.key = query.data_ptr(), key.data_ptr()
        if flow is not None and flow.shape[3] > 0:
            p.flow = flow.data_ptr()
        p.dists, p.inds = dists.data_ptr(), inds.data_ptr()
        if query.is_cuda:
            scratch = query.new_empty(plan.words, dtype=torch.int32)
            p.scratch = scratch.data_ptr() if plan.words else None
            run("search", p, query.device)
        else:
            run("search", p, query.device, int(plan.direct))
    return dists, inds


def _search_fake(
    query: Tensor, key: Tensor, flow: Tensor | None, *args: Any
) -> tuple[Tensor, Tensor]:
    return _outputs(query, key, SearchSettings(*args))


def _refine(
    query: Tensor, key: Tensor, prior: Tensor, windows: int, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    s = SearchSettings(*args)
    query, key, prior = rows_contiguous(query), rows_contiguous(key), prior.contiguous()
    dists, inds = _outputs(query, key, s, windows)
    source = torch.empty_like(dists, dtype=torch.int32)
    if dists.numel() > 0:
        p = _native.SearchProblem()
        _describe(p, s, query, key, None, dists, inds)
        _describe_prior(p, prior, source, windows)
        run("search", p, query.device, *(() if query.is_cuda else (1,)))
    return dists, inds, source


def _refine_fake(
    query: Tensor, key: Tensor, prior: Tensor, windows: int, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    dists, inds = _outputs(query, key, SearchSettings(*args), windows)
    return dists, inds, torch.empty_like(dists, dtype=torch.int32)


class SearchGradient(NamedTuple):
    """Arguments of the gradient, before the settings of the search."""

    grad_dists: Tensor | None
    grad_inds: Tensor | None
    query: Tensor
    key: Tensor
    flow: Tensor | None
    prior: Tensor | None
    dists: Tensor
    inds: Tensor
    source: Tensor | None
    windows: int
    of_query: bool
    of_key: bool
    of_places: bool
    deterministic: bool

    @classmethod
    def of(cls, *args: Any) -> tuple[SearchGradient, SearchSettings]:
        """The arguments of the operator by name."""
        count = len(cls._fields)
        return cls(*args[:count]), SearchSettings(*args[count:])


def _gradient(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, s = SearchGradient.of(*args)
    query, key = rows_contiguous(a.query), rows_contiguous(a.key)
    dists, inds = a.dists.contiguous(), a.inds.contiguous()
    grad_dists, grad_inds, flow, prior, source = (
        None if x is None else x.contiguous()
        for x in (a.grad_dists, a.grad_inds, a.flow, a.prior, a.source)
    )
    to_query = zeros_like_rows(query) if a.of_query else None
    to_key = zeros_like_rows(key) if a.of_key else None
    to_places = _places_of(a) if a.of_places else None
    grads = tuple(nothing(query) if g is None else g for g in (to_query, to_key, to_places))
    if dists.numel() == 0:
        return grads[0], grads[1], grads[2]

    g = _native.SearchGradProblem()
    _describe(g.search, s, query, key, flow, dists, inds)
    if prior is not None and source is not None:
        _describe_prior(g.search, prior, source, a.windows)
    g.grad_dists, g.grad_inds = pointer(grad_dists), pointer(grad_inds)
    g.grad_query, g.grad_key = pointer(to_query), pointer(to_key)
    if to_places is not None and to_places.numel() > 0:
        if prior is None:
            g.grad_flow = to_places.data_ptr()
        else:
            g.grad_prior = to_places.data_ptr()
    if to_query is not None:
        g.grad_query_stride = _native.i64_array(to_query.stride()[:5])
    if to_key is not None:
        g.grad_key_stride = _native.i64_array(to_key.stride()[:5])
    g.k_agg = s.k_agg
    if not a.deterministic or grad_dists is None:
        floats = 0
        if query.is_cuda and not s.direct:
            floats = _native.cuda_search_gradient_scratch(g)
        scratch = query.new_empty(floats)
        g.scratch = scratch.data_ptr() if floats else None
        run("search_gradient", g, query.device)
        return grads[0], grads[1], grads[2]

    scale = _scale(s, grad_dists, query, key)
    fixed = [
        None if v is None else torch.zeros_like(v, dtype=torch.int64) for v in (to_query, to_key)
    ]
    g.fixed_query, g.fixed_key = pointer(fixed[0]), pointer(fixed[1])
    g.fixed_scale = scale.data_ptr()
    run("search_gradient", g, query.device)
    videos = [
        grad if sums is None else _reproducible.finish(sums, scale, grad)
        for sums, grad in zip(fixed, grads[:2], strict=True)
    ]
    return videos[0], videos[1], grads[2]


def _scale(s: SearchSettings, grad_dists: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Unit of reproducible sums: every tap of every entry may fall on one pixel."""
    values = _reproducible.largest(query) + _reproducible.largest(key)
    bound = 2 * values * _reproducible.largest(grad_dists)
    return _reproducible.scale_for(bound, grad_dists[0, 0].numel() * s.ps * s.ps)


def _places_of(a: SearchGradient) -> Tensor:
    """Zeros for the gradient of what says where to search: flow for every head, or offsets."""
    if a.prior is not None:
        return a.prior.new_zeros(a.prior.shape)
    assert a.flow is not None
    return a.flow.new_zeros((a.flow.shape[0], a.query.shape[1], *a.flow.shape[2:]))


def _gradient_fake(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, _ = SearchGradient.of(*args)
    return (
        zeros_like_rows(rows_contiguous(a.query)) if a.of_query else nothing(a.query),
        zeros_like_rows(rows_contiguous(a.key)) if a.of_key else nothing(a.query),
        _places_of(a) if a.of_places else nothing(a.query),
    )


_SETTINGS = schema_of(SearchSettings)

search_gradient = define(
    "search_gradient",
    f"{schema_of(SearchGradient)}, {_SETTINGS}",
    "(Tensor, Tensor, Tensor)",
    _gradient,
    _gradient_fake,
)


def _search_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, flow, *args = inputs
    ctx.settings = args
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, flow, *output)


def _search_backward(ctx: Any, grad_dists: Tensor | None, grad_inds: Tensor | None) -> Any:
    query, key, flow, dists, inds = ctx.saved_tensors
    to_query, to_key, to_flow = _gradients(
        ctx,
        grad_dists,
        grad_inds,
        query=query,
        key=key,
        flow=flow,
        prior=None,
        dists=dists,
        inds=inds,
        source=None,
        windows=0,
    )
    if to_flow is not None:
        to_flow = _sum_heads(to_flow, flow.shape[1])
    return to_query, to_key, to_flow, *(None,) * len(ctx.settings)


def _gradients(
    ctx: Any, grad_dists: Tensor | None, grad_inds: Tensor | None, **arguments: Any
) -> list[Tensor | None]:
    """Gradients of the query, the key, and the flow or the entries to refine, where needed."""
    s = SearchSettings(*ctx.settings)
    needed = list(ctx.needs_input_grad[:3])
    if not s.float_grid:
        needed[2], grad_inds = False, None
    if grad_dists is None and grad_inds is None:
        return [None, None, None]
    gradient = SearchGradient(
        grad_dists=grad_dists,
        grad_inds=grad_inds,
        of_query=needed[0],
        of_key=needed[1],
        of_places=needed[2],
        deterministic=_reproducible.wanted(arguments["query"].device),
        **arguments,
    )
    grads = search_gradient(*gradient, *ctx.settings)
    return [grad if wanted else None for grad, wanted in zip(grads, needed, strict=True)]


def _sum_heads(grad: Tensor, flow_heads: int) -> Tensor:
    """Gradients of the heads that share a head of the flow: hd uses hd % flow_heads."""
    heads = grad.shape[1]
    if heads == flow_heads:
        return grad
    return torch.stack([grad[:, head::flow_heads].sum(1) for head in range(flow_heads)], 1)


search = define(
    "search",
    f"Tensor query, Tensor key, Tensor? flow, {_SETTINGS}",
    "(Tensor, Tensor)",
    _search,
    _search_fake,
    backward=_search_backward,
    setup_context=_search_context,
)


def _refine_context(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    query, key, prior, windows, *args = inputs
    ctx.windows, ctx.settings = windows, args
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, prior, *output)


def _refine_backward(
    ctx: Any, grad_dists: Tensor | None, grad_inds: Tensor | None, _: Tensor | None
) -> Any:
    query, key, prior, dists, inds, source = ctx.saved_tensors
    grads = _gradients(
        ctx,
        grad_dists,
        grad_inds,
        query=query,
        key=key,
        flow=None,
        prior=prior,
        dists=dists,
        inds=inds,
        source=source,
        windows=ctx.windows,
    )
    return *grads, None, *(None,) * len(ctx.settings)


refine = define(
    "refine",
    f"Tensor query, Tensor key, Tensor prior, int windows, {_SETTINGS}",
    "(Tensor, Tensor, Tensor)",
    _refine,
    _refine_fake,
    backward=_refine_backward,
    setup_context=_refine_context,
)
