"""Gathering the patches that entries point to, and scattering patches to them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stnls import _checks, _heads
from stnls._ops import _reproducible
from stnls._ops._eager import eager
from stnls._ops._patch_gradient import (
    divided_by_coverage,
    gradient_plan,
    patch_dot,
    patch_gradient,
    planned_gradient,
    scatter,
    scatter_fake,
)
from stnls._ops._patch_outputs import contiguous_like, own_output
from stnls._ops._patch_problem import (
    SETTINGS,
    Call,
    PatchSettings,
    Prepared,
    by_head,
    prepared_problem,
)
from stnls._ops._registry import Layout, define, rows_contiguous


class _SumPlan(NamedTuple):
    """What a patch sum needs to know of its tensors, and does not have to find out again."""

    settings: PatchSettings
    same_sizes: bool  # the result has the sizes of the video
    prepared: Prepared | None  # None: an empty result


@functools.lru_cache(maxsize=256)
def _sum_plan(
    args: tuple[Any, ...], dtype: torch.dtype, video: Layout, entries: tuple[int, ...], copies: int
) -> _SumPlan:
    s = PatchSettings(*args)
    shape, stride = video
    if s.normalize:
        _checks.covered(shape[-2], shape[-1], s.ps, s.stride0, s.dilation, s.use_adj)
    same_sizes = len(shape) == 5 and s.heads_last and not s.stacked
    out = own_output(torch.empty(shape, device="meta"), torch.empty(entries, device="meta"), s)
    if out.numel() == 0:
        return _SumPlan(s, same_sizes, None)
    heads = entries[1]
    layouts = by_head(shape, stride, heads), by_head(out.shape, out.stride(), heads)
    return _SumPlan(s, same_sizes, prepared_problem(s, dtype, *layouts, entries, None, copies))


def _sum(video: Tensor, weights: Tensor, inds: Tensor, *args: Any) -> Tensor:
    video, weights, inds = rows_contiguous(video), weights.contiguous(), inds.contiguous()
    layout = video.shape, video.stride()
    plan = _sum_plan(args, video.dtype, layout, weights.shape, int(video.is_cuda))
    out = contiguous_like(video) if plan.same_sizes else own_output(video, weights, plan.settings)
    if plan.prepared is not None:
        call = Call(plan.prepared, video.data_ptr(), out, weights, inds)
        call.run("patch_sum", "patch_packed_sum", out.device)
    return out


def _sum_fake(video: Tensor, weights: Tensor, inds: Tensor, *args: Any) -> Tensor:
    return own_output(video, weights, PatchSettings(*args))


def _sum_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    video, weights, inds, *args = inputs
    ctx.settings = args
    ctx.save_for_backward(video, weights, inds)


def _plan_sum_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    video, weights, inds, *args = inputs
    ctx.plan = None
    if video.is_cuda and video.stride(-1) == 1 and weights.is_contiguous() and inds.is_contiguous():
        ctx.plan = gradient_plan(
            *(tuple(args), video.dtype, (video.shape, video.stride())),
            *((output.shape, output.stride()), weights.shape, ctx.needs_input_grad[:3]),
        )


def _sum_backward(ctx: Any, grad: Tensor) -> Any:
    video, weights, inds = ctx.saved_tensors
    plan = getattr(ctx, "plan", None)
    if (
        plan is not None
        and grad.stride() == plan.stride
        and not torch.is_grad_enabled()
        and not (plan.of_video and torch.are_deterministic_algorithms_enabled())
        and not _checks.tangents_possible()
        and eager((grad,))
    ):
        found = planned_gradient(plan, video, weights, inds, grad)
        return *found, *(None,) * len(ctx.settings)
    s = PatchSettings(*ctx.settings)
    of_video, of_weights, of_inds, *_ = ctx.needs_input_grad
    of_inds = of_inds and s.float_grid
    deterministic = _reproducible.wanted(grad.device)
    to_video = to_weights = to_inds = None
    if not torch.is_grad_enabled():
        found = patch_gradient(
            *(video, grad, weights, inds, of_video, of_weights, of_inds, deterministic), *s
        )
        to_video = found[0] if of_video else None
        to_weights = found[1] if of_weights else None
        to_inds = found[2] if of_inds else None
        return to_video, to_weights, to_inds, *(None,) * len(s)
    # The gradient of the video can be differentiated again.
    if s.normalize:
        grad = divided_by_coverage(grad, weights, s)
    if of_video:
        to_video = patch_scatter(
            _heads.split(grad, weights.shape[1]), weights, inds, deterministic, *ctx.settings
        )
        if video.dim() == 5:
            to_video = _heads.merge(to_video)
    if of_weights or of_inds:
        dots = patch_dot(video, grad, weights, inds, of_weights, of_inds, *ctx.settings)
        to_weights, to_inds = dots[0] if of_weights else None, dots[1] if of_inds else None
    return to_video, to_weights, to_inds, *(None,) * len(ctx.settings)


patch_sum = define(
    "patch_sum",
    f"Tensor video, Tensor weights, Tensor inds, {SETTINGS}",
    "Tensor",
    _sum,
    _sum_fake,
    backward=_sum_backward,
    setup_context=_sum_context,
    plan_backward=_plan_sum_backward,
)


def _scatter_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    own, weights, inds, _, *args = inputs
    ctx.settings = args
    ctx.save_for_backward(own, weights, inds)


def _scatter_backward(ctx: Any, grad: Tensor) -> Any:
    own, weights, inds = ctx.saved_tensors
    s = PatchSettings(*ctx.settings)._replace(normalize=False)
    of_own, of_weights, of_inds = ctx.needs_input_grad[:3]
    of_inds = of_inds and s.float_grid
    to_own = patch_sum(grad, weights, inds, *s) if of_own else None
    to_weights = to_inds = None
    if of_weights or of_inds:
        dots = patch_dot(grad, own, weights, inds, of_weights, of_inds, *s)
        to_weights, to_inds = dots[0] if of_weights else None, dots[1] if of_inds else None
    return to_own, to_weights, to_inds, None, *(None,) * len(ctx.settings)


patch_scatter = define(
    "patch_scatter",
    f"Tensor own, Tensor weights, Tensor inds, bool deterministic, {SETTINGS}",
    "Tensor",
    scatter,
    scatter_fake,
    backward=_scatter_backward,
    setup_context=_scatter_context,
)
