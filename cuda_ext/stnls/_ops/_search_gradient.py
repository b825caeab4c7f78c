"""The gradients of searches and refinements."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from stnls import _native
from stnls._ops import _reproducible
from stnls._ops._registry import (
    by_name,
    define,
    nothing,
    pointer,
    rows_contiguous,
    run,
    schema_of,
    zeros_like_rows,
)
from stnls._ops._search_problem import SETTINGS, SearchSettings, describe, describe_prior


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


def _gradient(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, s = by_name(SearchGradient, SearchSettings, args)
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
    describe(g.search, s, query, key, flow, dists, inds)
    if prior is not None and source is not None:
        describe_prior(g.search, prior, source, a.windows)
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
    a, _ = by_name(SearchGradient, SearchSettings, args)
    return (
        zeros_like_rows(rows_contiguous(a.query)) if a.of_query else nothing(a.query),
        zeros_like_rows(rows_contiguous(a.key)) if a.of_key else nothing(a.query),
        _places_of(a) if a.of_places else nothing(a.query),
    )


search_gradient = define(
    "search_gradient",
    f"{schema_of(SearchGradient)}, {SETTINGS}",
    "(Tensor, Tensor, Tensor)",
    _gradient,
    _gradient_fake,
)


def gradients(
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


def sum_heads(grad: Tensor, flow_heads: int) -> Tensor:
    """Gradients of the heads that share a head of the flow: hd uses hd % flow_heads."""
    heads = grad.shape[1]
    if heads == flow_heads:
        return grad
    return torch.stack([grad[:, head::flow_heads].sum(1) for head in range(flow_heads)], 1)
