"""Floating-point operations of the operators by their definition, for `torch.utils.flop_counter`
and the `flops` of the modules. What the kernels save by sharing work is not subtracted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.utils.flop_counter import register_flop_formula

from stnls._ops import (  # noqa: F401  they define the operators
    _blend,
    _flow,
    _mean_errors,
    _patches,
    _search,
    _ssim,
    _subpixel,
    _subpixel_search,
    _tvl1,
)
from stnls._ops._patch_gradient import PatchDot, PatchGradient
from stnls._ops._patch_problem import PatchSettings
from stnls._ops._registry import by_name
from stnls._ops._search_gradient import SearchGradient
from stnls._ops._search_problem import SearchSettings
from stnls._positions import grid_shape

BILINEAR = 7
"""Four products and three sums for an interpolated pixel."""


def search_flops(
    query: Sequence[int], key: Sequence[int], s: SearchSettings, windows: int | None = None
) -> int:
    """Of a search of (B, HD, T, C, H, W) videos; every candidate counts."""
    b, heads, frames, channels = query[:4]
    queries = math.prod(grid_shape(key[-2:], s.stride0)) * b * heads * frames
    slots = 2 * s.wt + 1 - s.first_slot if windows is None else windows
    term = (2 if s.dist_type == "prod" else 3) + (BILINEAR if s.float_grid else 0)
    return queries * slots * s.ws**2 * s.ps**2 * channels * term


def patch_flops(video: Sequence[int], weights: Sequence[int], s: PatchSettings) -> int:
    """Of a weighted patch sum of a (B, HD, T, C/HD, H, W) or (B, T, C, H, W) video; every entry
    counts."""
    term = 2 + (BILINEAR if s.float_grid else 0)
    channels = video[3] if len(video) == 6 else video[2] // weights[1]
    return math.prod(weights) * s.ps**2 * channels * term


@register_flop_formula(torch.ops.stnls.search)
def _(query: Any, key: Any, flow: Any, *args: Any, **_: Any) -> int:
    return search_flops(query, key, SearchSettings(*args))


@register_flop_formula(torch.ops.stnls.refine)
def _(query: Any, key: Any, prior: Any, windows: int, *args: Any, **_: Any) -> int:
    return search_flops(query, key, SearchSettings(*args), windows)


@register_flop_formula(torch.ops.stnls.search_gradient)
def _(*args: Any, **_: Any) -> int:
    g, s = by_name(SearchGradient, SearchSettings, args)
    query, dists = cast(Any, (g.query, g.dists))  # a counter has shapes in the place of tensors
    entries = math.prod(dists[:-1]) * (min(s.k_agg, dists[-1]) if s.k_agg > 0 else dists[-1])
    read = BILINEAR if s.float_grid else 0
    # A difference and a product for each; the key's is spread over four pixels on the real grid.
    term = (read + 4) * (g.of_query + g.of_key) + (2 * read + 4) * g.of_places
    return int(entries * s.ps**2 * query[3] * term)


@register_flop_formula(torch.ops.stnls.patch_sum)
def _(video: Any, weights: Any, inds: Any, *args: Any, **_: Any) -> int:
    return patch_flops(video, weights, PatchSettings(*args))


@register_flop_formula(torch.ops.stnls.patch_blend)
def _(video: Any, offset: Any, weight: Any, ps: int, **_: Any) -> int:
    # Sixteen products and sums for a sample, and those of the average.
    return int(math.prod(video) * ps**2 * (2 * 16 + 2))


def _move_flops(key: Sequence[int], ps: int) -> int:
    """Of placing a match of every pixel: nine distances, which share their samples."""
    return math.prod(key) * (6 * (ps + 2) ** 2 + 3 * 9 * ps**2)


@register_flop_formula(torch.ops.stnls.subpixel)
def _(query: Any, key: Any, offsets: Any, ps: int, *_: Any, **__: Any) -> int:
    return _move_flops(key, ps)


@register_flop_formula(torch.ops.stnls.subpixel_search)
def _(query: Any, key: Any, flow: Any, *args: Any, **_: Any) -> int:
    s = SearchSettings(*args)
    return search_flops(query, key, s) + _move_flops(key, s.ps)


@register_flop_formula(torch.ops.stnls.ssim_sums)
def _(reference: Any, frames: Any, *_: Any, **__: Any) -> int:
    # Five means along both axes of a window of eleven.
    return int(math.prod(frames) * (11 * (2 + 2 + 3 * 2) + 11 * 5 * 2 + 20))


@register_flop_formula(torch.ops.stnls.error_sums)
def _(reference: Any, frames: Any, **__: Any) -> int:
    # A difference, its magnitude and square, and two sums.
    return int(math.prod(frames) * 5)


@register_flop_formula(torch.ops.stnls.patch_scatter)
def _(own: Any, weights: Any, inds: Any, deterministic: bool, *args: Any, **_: Any) -> int:
    s = PatchSettings(*args)
    return patch_flops(own[:2] + own[3:] if s.stacked else own, weights, s)


@register_flop_formula(torch.ops.stnls.patch_dot)
def _(*args: Any, **_: Any) -> int:
    a, s = by_name(PatchDot, PatchSettings, args)
    video, weights = cast(Any, (a.video, a.weights))
    return patch_flops(video, weights, s) * (a.of_weights + 2 * a.of_inds)


@register_flop_formula(torch.ops.stnls.patch_gradient)
def _(*args: Any, **_: Any) -> int:
    a, s = by_name(PatchGradient, PatchSettings, args)
    video, weights = cast(Any, (a.video, a.weights))
    return patch_flops(video, weights, s) * (a.of_video + a.of_weights + 2 * a.of_inds)


# Of each query and step: two interpolated components, and the sums of the path; backward their
# corners, the slopes of both along both axes, and a product of two by two with the adjoint.
STEP, STEP_BACK = 2 * BILINEAR + 2, 2 * 8 + 4 * 5 + 8


@register_flop_formula(torch.ops.stnls.compose_slots)
def _(fflow: Any, bflow: Any, wt: int, slots: int, stride0: int, **_: Any) -> int:
    queries = math.prod(grid_shape(fflow[-2:], stride0)) * fflow[0] * fflow[1]
    return int(queries * slots * STEP)


@register_flop_formula(torch.ops.stnls.compose_chain)
def _(steps: Any, stride0: int, **_: Any) -> int:
    return int(math.prod(grid_shape(steps[-2:], stride0)) * steps[0] * steps[1] * STEP)


@register_flop_formula(
    [torch.ops.stnls.compose_slots_gradient, torch.ops.stnls.compose_chain_gradient]
)
def _(grad_out: Any, *_: Any, **__: Any) -> int:
    return int(math.prod(grad_out) // 2 * STEP_BACK)


@register_flop_formula(torch.ops.stnls.tvl1_scale)
def _(frame0: Any, frame1: Any, start: Any, *args: Any, **_: Any) -> int:
    warps, outer, inner = args[-4:-1]
    # As many iterations as there may be: 2 operations for the residual, 2 to clamp, 10 for the
    # flow and 22 for the dual variables. A warp samples bicubically and makes slopes.
    return int(math.prod(frame0) * warps * (outer * inner * 36 + 190))
