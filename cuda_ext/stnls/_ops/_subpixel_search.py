"""Searching for matches, and placing the best ones between the positions of the grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stnls import _native
from stnls._ops._registry import define, no_gradient, run
from stnls._ops._search import prepare, search, search_fake
from stnls._ops._search_problem import SETTINGS, SearchSettings
from stnls._ops._subpixel import subpixel


def _subpixel_search(
    query: Tensor, key: Tensor, flow: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    if query.is_cuda:
        dists, inds = search(query, key, flow, *args)
        frames, s = (x[:, 0, 0] for x in (query, key)), SearchSettings(*args)
        best = inds[:, 0, 0, :, :, 0].to(query.dtype)
        return dists, inds, subpixel(*frames, best, s.ps, s.stride1)
    # One reference for several frames need not be copied for each.
    if not query[:1].is_contiguous():
        query = query.contiguous()
    key, flow = key.contiguous(), flow.contiguous()
    p = _native.SubpixelSearchProblem()
    dists, inds, p.search, plan = prepare(query, key, flow, args)
    moved = _moved(query, dists)
    p.moved = moved.data_ptr()
    if dists.numel() > 0:
        run("subpixel_search", p, query.device, int(plan.direct))
    return dists, inds, moved


def _subpixel_search_fake(
    query: Tensor, key: Tensor, flow: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    dists, inds = search_fake(query, key, flow, *args)
    return dists, inds, _moved(query, dists)


def _moved(query: Tensor, dists: Tensor) -> Tensor:
    return query.new_empty((*(dists.shape[n] for n in (0, 3, 4)), 2))


subpixel_search = define(
    "subpixel_search",
    f"Tensor query, Tensor key, Tensor flow, {SETTINGS}",
    "(Tensor, Tensor, Tensor)",
    _subpixel_search,
    _subpixel_search_fake,
    backward=no_gradient("stnls::subpixel_search has no gradient"),
)
