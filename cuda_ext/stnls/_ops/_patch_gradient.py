"""The gradients of patch sums: patches scattered to the places of entries, and dot products."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stnls import _heads, _native
from stnls._ops import _reproducible
from stnls._ops._patch_outputs import contiguous_like, video_of, video_zeros
from stnls._ops._patch_problem import (
    SETTINGS,
    Call,
    PatchSettings,
    by_head,
    layout_by_head,
    prepared_problem,
)
from stnls._ops._registry import (
    Layout,
    by_name,
    define,
    nothing,
    pointer,
    rows_contiguous,
    run,
    schema_of,
)


def scatter(own: Tensor, weights: Tensor, inds: Tensor, deterministic: bool, *args: Any) -> Tensor:
    s = PatchSettings(*args)
    own, weights, inds = rows_contiguous(own), weights.contiguous(), inds.contiguous()
    out = video_zeros(own, s)
    if out.numel() == 0 or weights.numel() == 0:
        return out
    to, given = (out.shape, out.stride()), (own.shape, own.stride())
    copies = int(own.is_cuda and not deterministic)
    prepared = prepared_problem(s, own.dtype, to, given, weights.shape, out.stride(), copies)
    call = Call(prepared, out.data_ptr(), own, weights, inds)
    if call.packed is not None:
        call.packed.grad_video = out.data_ptr()
    if not deterministic:
        call.run("patch_scatter", "patch_packed_gradient", out.device)
        return out
    bound = _reproducible.largest(own) * _reproducible.largest(weights)
    scale = _reproducible.scale_for(bound, weights[0, 0].numel() * s.ps * s.ps)
    fixed = torch.zeros_like(out, dtype=torch.int64)
    call.patch.fixed_video, call.patch.fixed_scale = fixed.data_ptr(), scale.data_ptr()
    run("patch_scatter", call.patch, out.device)
    return _reproducible.finish(fixed, scale, out)


def scatter_fake(
    own: Tensor, weights: Tensor, inds: Tensor, deterministic: bool, *args: Any
) -> Tensor:
    return video_zeros(own, PatchSettings(*args))


class PatchDot(NamedTuple):
    """Arguments of the dot products, before the settings."""

    video: Tensor
    own: Tensor
    weights: Tensor
    inds: Tensor
    of_weights: bool
    of_inds: bool


def _dot(*args: Any) -> tuple[Tensor, Tensor]:
    a, s = by_name(PatchDot, PatchSettings, args)
    video, own = rows_contiguous(a.video), rows_contiguous(a.own)
    weights, inds = a.weights.contiguous(), a.inds.contiguous()
    to_weights = torch.zeros_like(weights) if a.of_weights else None
    to_inds = torch.zeros_like(inds) if a.of_inds else None
    if weights.numel() > 0 and video.numel() > 0:
        heads = weights.shape[1]
        layouts = layout_by_head(video, heads), layout_by_head(own, heads)
        prepared = prepared_problem(
            s, video.dtype, *layouts, weights.shape, None, int(video.is_cuda)
        )
        call = Call(prepared, video.data_ptr(), own, weights, inds)
        call.patch.grad_weights, call.patch.grad_inds = pointer(to_weights), pointer(to_inds)
        call.run("patch_dot", "patch_packed_gradient", video.device)
    return (
        nothing(video) if to_weights is None else to_weights,
        nothing(video) if to_inds is None else to_inds,
    )


def _dot_fake(*args: Any) -> tuple[Tensor, Tensor]:
    a, _ = by_name(PatchDot, PatchSettings, args)
    return (
        a.weights.new_empty(a.weights.shape) if a.of_weights else nothing(a.video),
        a.inds.new_empty(a.inds.shape) if a.of_inds else nothing(a.video),
    )


patch_dot = define(
    "patch_dot",
    f"{schema_of(PatchDot)}, {SETTINGS}",
    "(Tensor, Tensor)",
    _dot,
    _dot_fake,
)


class PatchGradient(NamedTuple):
    """Arguments of the gradients of `patch_sum`, before its settings."""

    video: Tensor
    grad: Tensor
    weights: Tensor
    inds: Tensor
    of_video: bool
    of_weights: bool
    of_inds: bool
    deterministic: bool

    def dot(self, own: Tensor) -> PatchDot:
        """Those of the part for weights and offsets."""
        return PatchDot(self.video, own, self.weights, self.inds, self.of_weights, self.of_inds)


def _gradient(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `patch_sum`, in one pass over the entries where that can be."""
    a, s = by_name(PatchGradient, PatchSettings, args)
    found = None
    if a.video.is_cuda and not (a.of_video and a.deterministic):
        found = _gradient_at_once(a, s)
    if found is not None:
        return found
    own = divided_by_coverage(a.grad, a.weights, s) if s.normalize else a.grad
    to_video = nothing(a.video)
    if a.of_video:
        heads = a.weights.shape[1]
        to_video = scatter(_heads.split(own, heads), a.weights, a.inds, a.deterministic, *s)
        if a.video.dim() == 5:
            to_video = _heads.merge(to_video)
    if not (a.of_weights or a.of_inds):
        return to_video, nothing(a.video), nothing(a.video)
    return to_video, *_dot(*a.dot(own), *s)


def _gradient_at_once(a: PatchGradient, s: PatchSettings) -> tuple[Tensor, Tensor, Tensor] | None:
    if a.video.numel() == 0 or a.weights.numel() == 0 or a.video.dtype != torch.float32:
        return None
    video, own = rows_contiguous(a.video), rows_contiguous(a.grad)
    weights, inds = a.weights.contiguous(), a.inds.contiguous()
    heads = weights.shape[1]
    to_video = nothing(video)
    to_stride = None
    if a.of_video:
        to_video = contiguous_like(video) if video.dim() == 5 else video_of(own, s, torch.empty)
        to_stride = layout_by_head(to_video, heads)[1]
    prepared = prepared_problem(
        *(
            s,
            video.dtype,
            layout_by_head(video, heads),
            layout_by_head(own, heads),
            weights.shape,
            to_stride,
        ),
        int(a.of_video) + int(a.of_weights or a.of_inds),
    )
    if prepared.floats == 0:
        return None
    call = Call(prepared, video.data_ptr(), own, weights, inds)
    assert call.packed is not None
    call.packed.divide_own = s.normalize
    if a.of_video:
        call.packed.grad_video = to_video.data_ptr()
    to_weights = torch.empty_like(weights) if a.of_weights else nothing(video)
    to_inds = torch.empty_like(inds) if a.of_inds else nothing(video)
    call.patch.grad_weights = to_weights.data_ptr() if a.of_weights else None
    call.patch.grad_inds = to_inds.data_ptr() if a.of_inds else None
    run("patch_packed_gradient", call.packed, video.device)
    return to_video, to_weights, to_inds


def _gradient_fake(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, s = by_name(PatchGradient, PatchSettings, args)
    to_video = nothing(a.video)
    if a.of_video and a.video.dim() == 5:
        to_video = a.video.new_empty(a.video.shape)
    elif a.of_video:
        to_video = video_zeros(_heads.split(a.grad, a.weights.shape[1]), s)
    return to_video, *_dot_fake(*a.dot(a.grad), *s)


patch_gradient = define(
    "patch_gradient",
    f"{schema_of(PatchGradient)}, {SETTINGS}",
    "(Tensor, Tensor, Tensor)",
    _gradient,
    _gradient_fake,
)


def _coverage(length: int, grid: int, s: PatchSettings, like: Tensor) -> Tensor:
    """Number of patches that cover each pixel along an axis, (length,)."""
    start = 0 if s.use_adj else -(s.ps // 2)
    pixels = torch.arange(length, device=like.device)
    taps = s.dilation * (torch.arange(s.ps, device=like.device) + start)
    origins = pixels[:, None] - taps
    hits = (origins % s.stride0 == 0) & (origins >= 0) & (origins < grid * s.stride0)
    return hits.sum(1).to(like.dtype)


def divided_by_coverage(grad: Tensor, weights: Tensor, s: PatchSettings) -> Tensor:
    """By the number of patches that cover each pixel."""
    rows = _coverage(grad.shape[-2], weights.shape[3], s, grad)
    columns = _coverage(grad.shape[-1], weights.shape[4], s, grad)
    return grad / (rows[:, None] * columns)


class _GradientPlan(NamedTuple):
    """What the gradients of a patch sum on a GPU need to know. PyTorch asks for them on a thread
    of its own, whose processor is often cold: there, little is to be done."""

    problem: _native.PackedPatchProblem
    floats: int
    stride: tuple[int, ...]  # of the gradient that arrives
    of_video: bool
    of_weights: bool
    of_inds: bool


@functools.lru_cache(maxsize=256)
def gradient_plan(
    args: tuple[Any, ...],
    dtype: torch.dtype,
    video: Layout,
    own: Layout,
    entries: tuple[int, ...],
    of: tuple[bool, bool, bool],
) -> _GradientPlan | None:
    """None for what has no such plan."""
    s = PatchSettings(*args)
    of_video, of_weights, of_inds = of
    of_inds = of_inds and s.float_grid
    (shape, _), heads, copies = video, entries[1], int(of_video) + int(of_weights or of_inds)
    plain = shape == own[0] and (len(shape) == 5 or not s.heads_last) and not s.stacked
    if dtype != torch.float32 or not plain or 0 in shape or 0 in entries or copies == 0:
        return None
    to_stride = None
    if of_video:
        to_stride = by_head(shape, torch.empty(shape, device="meta").stride(), heads)[1]
    layouts = by_head(*video, heads), by_head(*own, heads)
    prepared = prepared_problem(s, dtype, *layouts, entries, to_stride, copies)
    if not isinstance(prepared.problem, _native.PackedPatchProblem):
        return None
    problem = type(prepared.problem).from_buffer_copy(prepared.problem)
    problem.divide_own = s.normalize
    return _GradientPlan(problem, prepared.floats, own[1], of_video, of_weights, of_inds)


def planned_gradient(
    plan: _GradientPlan, video: Tensor, weights: Tensor, inds: Tensor, grad: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    problem = type(plan.problem).from_buffer_copy(plan.problem)
    patch = problem.patch
    scratch = video.new_empty(plan.floats)
    problem.scratch = scratch.data_ptr()
    patch.video, patch.own = video.data_ptr(), grad.data_ptr()
    patch.weights, patch.inds = weights.data_ptr(), inds.data_ptr()
    to_video = to_weights = to_inds = None
    if plan.of_video:
        to_video = contiguous_like(video)
        problem.grad_video = to_video.data_ptr()
    if plan.of_weights:
        to_weights = torch.empty_like(weights)
        patch.grad_weights = to_weights.data_ptr()
    if plan.of_inds:
        to_inds = torch.empty_like(inds)
        patch.grad_inds = to_inds.data_ptr()
    run("patch_packed_gradient", problem, video.device)
    return to_video, to_weights, to_inds
