"""Searching around flow, and refining an earlier search."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stnls import _native
from stnls._ops._registry import Layout, define, rows_contiguous, run
from stnls._ops._search_gradient import gradients, sum_heads
from stnls._ops._search_problem import (
    SETTINGS,
    SearchSettings,
    describe,
    describe_prior,
    outputs,
)


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
    dists, inds = outputs(query_like, key_like, s)
    p = _native.SearchProblem()
    words = 0
    if dists.numel() > 0:
        describe(p, s, query_like, key_like, flow_like, dists, inds)
        words = _native.cuda_search_scratch(p) if cuda and not s.direct else 0
    return _Plan(p, tuple(dists.shape), tuple(inds.shape), inds.dtype, s.direct, words)


def _search(query: Tensor, key: Tensor, flow: Tensor | None, *args: Any) -> tuple[Tensor, Tensor]:
    query, key = rows_contiguous(query), rows_contiguous(key)
    flow = None if flow is None else flow.contiguous()
    dists, inds, p, plan = prepare(query, key, flow, args)
    if dists.numel() > 0:
        if query.is_cuda:
            scratch = query.new_empty(plan.words, dtype=torch.int32)
            p.scratch = scratch.data_ptr() if plan.words else None
            run("search", p, query.device)
        else:
            run("search", p, query.device, int(plan.direct))
    return dists, inds


def prepare(
    query: Tensor, key: Tensor, flow: Tensor | None, args: tuple[Any, ...]
) -> tuple[Tensor, Tensor, _native.SearchProblem, _Plan]:
    """Memory for the results of a search, and what its kernel is told."""
    layouts = (query.shape, query.stride()), (key.shape, key.stride())
    flow_shape = None if flow is None else flow.shape
    plan = _plan(args, query.dtype, *layouts, flow_shape, query.is_cuda)
    dists = query.new_empty(plan.dists)
    inds = query.new_empty(plan.inds, dtype=plan.inds_dtype)
    p = _native.SearchProblem.from_buffer_copy(plan.problem)
    p.query, p.key = query.data_ptr(), key.data_ptr()
    if flow is not None and flow.shape[3] > 0:
        p.flow = flow.data_ptr()
    p.dists, p.inds = dists.data_ptr(), inds.data_ptr()
    return dists, inds, p, plan


def search_fake(
    query: Tensor, key: Tensor, flow: Tensor | None, *args: Any
) -> tuple[Tensor, Tensor]:
    """Its results, empty."""
    return outputs(query, key, SearchSettings(*args))


def _refine(
    query: Tensor, key: Tensor, prior: Tensor, windows: int, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    s = SearchSettings(*args)
    query, key, prior = rows_contiguous(query), rows_contiguous(key), prior.contiguous()
    dists, inds = outputs(query, key, s, windows)
    source = torch.empty_like(dists, dtype=torch.int32)
    if dists.numel() > 0:
        p = _native.SearchProblem()
        describe(p, s, query, key, None, dists, inds)
        describe_prior(p, prior, source, windows)
        run("search", p, query.device, *(() if query.is_cuda else (1,)))
    return dists, inds, source


def _refine_fake(
    query: Tensor, key: Tensor, prior: Tensor, windows: int, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    dists, inds = outputs(query, key, SearchSettings(*args), windows)
    return dists, inds, torch.empty_like(dists, dtype=torch.int32)


def _search_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, flow, *args = inputs
    ctx.settings = args
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, flow, *output)


def _search_backward(ctx: Any, grad_dists: Tensor | None, grad_inds: Tensor | None) -> Any:
    query, key, flow, dists, inds = ctx.saved_tensors
    to_query, to_key, to_flow = gradients(
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
        to_flow = sum_heads(to_flow, flow.shape[1])
    return to_query, to_key, to_flow, *(None,) * len(ctx.settings)


search = define(
    "search",
    f"Tensor query, Tensor key, Tensor? flow, {SETTINGS}",
    "(Tensor, Tensor)",
    _search,
    search_fake,
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
    grads = gradients(
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
    f"Tensor query, Tensor key, Tensor prior, int windows, {SETTINGS}",
    "(Tensor, Tensor, Tensor)",
    _refine,
    _refine_fake,
    backward=_refine_backward,
    setup_context=_refine_context,
)
