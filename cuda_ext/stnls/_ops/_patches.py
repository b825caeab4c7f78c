"""Gathering the patches that entries point to, scattering patches to them, and the gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stnls import _checks, _heads, _native
from stnls._ops import _reproducible
from stnls._ops._eager import eager
from stnls._ops._registry import (
    DTYPES,
    define,
    nothing,
    pointer,
    rows_contiguous,
    run,
    schema_of,
)


class PatchSettings(NamedTuple):
    """Arguments of the operators that are no tensors; csrc/aggregate/problem.h explains them.

    Videos are (B, HD, T, C/HD, H, W), or (B, T, C, H, W) with their heads among the channels. With
    `heads_last` the sum of the latter is the same, unless it is stacked; else it has its heads.
    """

    ps: int
    stride0: int
    dilation: int
    reflect_bounds: bool
    use_adj: bool
    float_grid: bool
    stacked: bool
    normalize: bool
    heads_last: bool


# Sizes and strides of a tensor.
Layout = tuple[tuple[int, ...], tuple[int, ...]]


def _layout(video: Tensor, heads: int) -> Layout:
    return _by_head(video.shape, video.stride(), heads)


def _by_head(shape: tuple[int, ...], stride: tuple[int, ...], heads: int) -> Layout:
    """The layout of a video (B, T, C, H, W) as (B, HD, T, C/HD, H, W); of what has its heads
    already, its own."""
    if len(shape) != 5:
        return shape, stride
    b, t, channels, h, w = shape
    by_batch, by_frame, by_channel, by_row, by_column = stride
    each = channels // heads
    by_head = (by_batch, each * by_channel, by_frame, by_channel, by_row, by_column)
    return (b, heads, t, each, h, w), by_head


def _problem(
    s: PatchSettings, dtype: torch.dtype, video: Layout, own: Layout, entries: tuple[int, ...]
) -> _native.PatchProblem:
    """All but the pointers; own is (B, HD, [K,] T, C, H, W)."""
    p = _native.PatchProblem()
    shape, stride = video
    p.video_stride = _native.i64_array(stride[:5])
    own_stride = list(own[1])
    if s.stacked:
        p.own_entry_stride = own_stride.pop(2)
    p.own_stride = _native.i64_array(own_stride[:5])
    p.batch, p.heads, p.frames, p.channels, p.height, p.width = shape
    p.grid_height, p.grid_width, p.k = entries[3:]
    p.ps, p.patch_offset, p.dilation = s.ps, 0 if s.use_adj else -(s.ps // 2), s.dilation
    p.stride0, p.reflect_bounds = s.stride0, s.reflect_bounds
    p.float_grid, p.dtype = s.float_grid, DTYPES[dtype]
    p.stacked, p.normalize = s.stacked, s.normalize
    return p


class _Prepared(NamedTuple):
    """A problem that waits for its pointers, in the form for the faster kernels of the GPU if they
    can take it; the floats of scratch memory that they want."""

    problem: _native.PatchProblem | _native.PackedPatchProblem
    floats: int


@functools.lru_cache(maxsize=256)
def _prepared(
    s: PatchSettings,
    dtype: torch.dtype,
    video: Layout,
    own: Layout,
    entries: tuple[int, ...],
    grad_video: tuple[int, ...] | None,
    copies: int,
) -> _Prepared:
    """The same for equal tensors: filling structures costs more than launching kernels. `copies`
    of videos that a GPU packs, each 32 MiB at most, or one batch item and head; 0: none."""
    p = _problem(s, dtype, video, own, entries)
    if copies > 0:
        packed = _native.PackedPatchProblem(patch=p, components=3)
        if grad_video is not None:
            packed.grad_video_stride = _native.i64_array(grad_video[:5])
        floats = _native.cuda_patch_packed_scratch(packed, copies)
        if floats > 0:
            return _Prepared(packed, floats)
    return _Prepared(p, 0)


class _Call:
    """A prepared problem with its pointers, and its scratch memory."""

    def __init__(
        self,
        prepared: _Prepared,
        video: int | None,
        own: Tensor,
        weights: Tensor,
        inds: Tensor,
    ) -> None:
        problem = type(prepared.problem).from_buffer_copy(prepared.problem)
        if isinstance(problem, _native.PackedPatchProblem):
            self.packed: _native.PackedPatchProblem | None = problem
            self.patch: _native.PatchProblem = problem.patch
            self.scratch = weights.new_empty(prepared.floats)
            problem.scratch = self.scratch.data_ptr()
        else:
            self.packed, self.patch = None, problem
        p = self.patch
        p.video, p.own = video, own.data_ptr()
        p.weights, p.inds = weights.data_ptr(), inds.data_ptr()

    def run(self, plain: str, packed: str, device: torch.device) -> None:
        """The kernel of the problem's form."""
        if self.packed is None:
            run(plain, self.patch, device)
        else:
            run(packed, self.packed, device)


def _own_output(video: Tensor, weights: Tensor, s: PatchSettings) -> Tensor:
    heads, k = weights.shape[1], weights.shape[-1]
    if video.dim() == 5:
        b, t, c, h, w = video.shape
        if s.heads_last and not s.stacked:
            return video.new_empty((b, t, c, h, w))
        c = c // heads
    else:
        b, _, t, c, h, w = video.shape
    if s.stacked:
        return video.new_empty((b, heads, k, t, c, h, w))
    # heads_last: the heads lie beside the channels, so that they can be folded back into them.
    if s.heads_last:
        return video.new_empty((b, t, heads, c, h, w)).permute(0, 2, 1, 3, 4, 5)
    return video.new_empty((b, heads, t, c, h, w))


def _like_video(video: Tensor) -> Tensor:
    """A contiguous tensor of the sizes of the video."""
    # Faster than handing sizes over.
    return torch.empty_like(video) if video.is_contiguous() else video.new_empty(video.shape)


class _SumPlan(NamedTuple):
    """What a patch sum needs to know of its tensors, and does not have to find out again."""

    settings: PatchSettings
    like_video: bool  # the result has the sizes of the video
    prepared: _Prepared | None  # None: an empty result


@functools.lru_cache(maxsize=256)
def _sum_plan(
    args: tuple[Any, ...], dtype: torch.dtype, video: Layout, entries: tuple[int, ...], copies: int
) -> _SumPlan:
    s = PatchSettings(*args)
    shape, stride = video
    if s.normalize:
        _checks.covered(shape[-2], shape[-1], s.ps, s.stride0, s.dilation, s.use_adj)
    like_video = len(shape) == 5 and s.heads_last and not s.stacked
    out = _own_output(torch.empty(shape, device="meta"), torch.empty(entries, device="meta"), s)
    if out.numel() == 0:
        return _SumPlan(s, like_video, None)
    heads = entries[1]
    layouts = _by_head(shape, stride, heads), _by_head(out.shape, out.stride(), heads)
    return _SumPlan(s, like_video, _prepared(s, dtype, *layouts, entries, None, copies))


def _sum(video: Tensor, weights: Tensor, inds: Tensor, *args: Any) -> Tensor:
    video, weights, inds = rows_contiguous(video), weights.contiguous(), inds.contiguous()
    layout = video.shape, video.stride()
    plan = _sum_plan(args, video.dtype, layout, weights.shape, int(video.is_cuda))
    out = _like_video(video) if plan.like_video else _own_output(video, weights, plan.settings)
    if plan.prepared is not None:
        call = _Call(plan.prepared, video.data_ptr(), out, weights, inds)
        call.run("patch_sum", "patch_packed_sum", out.device)
    return out


def _sum_fake(video: Tensor, weights: Tensor, inds: Tensor, *args: Any) -> Tensor:
    return _own_output(video, weights, PatchSettings(*args))


def _video_like(own: Tensor, s: PatchSettings, create: Callable[..., Tensor]) -> Tensor:
    """The sizes of the video, in the memory layout of the queries' own pixels."""
    b, heads, t, c, h, w = own[:, :, 0].shape if s.stacked and own.shape[2] > 0 else own.shape
    if s.heads_last:
        zeros = create((b, t, heads, c, h, w), dtype=own.dtype, device=own.device)
        return zeros.permute(0, 2, 1, 3, 4, 5)
    return create((b, heads, t, c, h, w), dtype=own.dtype, device=own.device)


def _video_output(own: Tensor, s: PatchSettings) -> Tensor:
    """Zeros of the sizes of the video, in the memory layout of the queries' own pixels."""
    if s.stacked:
        own = own[:, :, 0] if own.shape[2] > 0 else own.sum(2)
    return _video_like(own, s._replace(stacked=False), torch.zeros)


def _scatter(own: Tensor, weights: Tensor, inds: Tensor, deterministic: bool, *args: Any) -> Tensor:
    s = PatchSettings(*args)
    own, weights, inds = rows_contiguous(own), weights.contiguous(), inds.contiguous()
    out = _video_output(own, s)
    if out.numel() == 0 or weights.numel() == 0:
        return out
    to, given = (out.shape, out.stride()), (own.shape, own.stride())
    copies = int(own.is_cuda and not deterministic)
    prepared = _prepared(s, own.dtype, to, given, weights.shape, out.stride(), copies)
    call = _Call(prepared, out.data_ptr(), own, weights, inds)
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


def _scatter_fake(
    own: Tensor, weights: Tensor, inds: Tensor, deterministic: bool, *args: Any
) -> Tensor:
    return _video_output(own, PatchSettings(*args))


def _dot(
    video: Tensor,
    own: Tensor,
    weights: Tensor,
    inds: Tensor,
    of_weights: bool,
    of_inds: bool,
    *args: Any,
) -> tuple[Tensor, Tensor]:
    s = PatchSettings(*args)
    video, own = rows_contiguous(video), rows_contiguous(own)
    weights, inds = weights.contiguous(), inds.contiguous()
    to_weights = torch.zeros_like(weights) if of_weights else None
    to_inds = torch.zeros_like(inds) if of_inds else None
    if weights.numel() > 0 and video.numel() > 0:
        heads = weights.shape[1]
        layouts = _layout(video, heads), _layout(own, heads)
        prepared = _prepared(s, video.dtype, *layouts, weights.shape, None, int(video.is_cuda))
        call = _Call(prepared, video.data_ptr(), own, weights, inds)
        call.patch.grad_weights, call.patch.grad_inds = pointer(to_weights), pointer(to_inds)
        call.run("patch_dot", "patch_packed_gradient", video.device)
    return (
        nothing(video) if to_weights is None else to_weights,
        nothing(video) if to_inds is None else to_inds,
    )


def _dot_fake(
    video: Tensor,
    own: Tensor,
    weights: Tensor,
    inds: Tensor,
    of_weights: bool,
    of_inds: bool,
    *args: Any,
) -> tuple[Tensor, Tensor]:
    return (
        weights.new_empty(weights.shape) if of_weights else nothing(video),
        inds.new_empty(inds.shape) if of_inds else nothing(video),
    )


_SETTINGS = schema_of(PatchSettings)

patch_dot = define(
    "patch_dot",
    "Tensor video, Tensor own, Tensor weights, Tensor inds, bool of_weights, bool of_inds, "
    + _SETTINGS,
    "(Tensor, Tensor)",
    _dot,
    _dot_fake,
)


def _gradient(
    video: Tensor,
    grad: Tensor,
    weights: Tensor,
    inds: Tensor,
    of_video: bool,
    of_weights: bool,
    of_inds: bool,
    deterministic: bool,
    *args: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `patch_sum`, in one pass over the entries where that can be."""
    s = PatchSettings(*args)
    found = None
    if video.is_cuda and not (of_video and deterministic):
        found = _gradient_at_once(video, grad, weights, inds, of_video, of_weights, of_inds, s)
    if found is not None:
        return found
    own = _divided(grad, weights, s) if s.normalize else grad
    to_video = nothing(video)
    if of_video:
        to_video = _scatter(_split(own, weights), weights, inds, deterministic, *args)
        if video.dim() == 5:
            to_video = _heads.merged(to_video)
    if not (of_weights or of_inds):
        return to_video, nothing(video), nothing(video)
    return to_video, *_dot(video, own, weights, inds, of_weights, of_inds, *args)


def _split(video: Tensor, weights: Tensor) -> Tensor:
    """With heads of their own."""
    return _heads.split(video, weights.shape[1]) if video.dim() == 5 else video


def _gradient_at_once(
    video: Tensor,
    grad: Tensor,
    weights: Tensor,
    inds: Tensor,
    of_video: bool,
    of_weights: bool,
    of_inds: bool,
    s: PatchSettings,
) -> tuple[Tensor, Tensor, Tensor] | None:
    if video.numel() == 0 or weights.numel() == 0 or video.dtype != torch.float32:
        return None
    video, own = rows_contiguous(video), rows_contiguous(grad)
    weights, inds = weights.contiguous(), inds.contiguous()
    heads = weights.shape[1]
    to_video = nothing(video)
    to_stride = None
    if of_video:
        to_video = _like_video(video) if video.dim() == 5 else _video_like(own, s, torch.empty)
        to_stride = _layout(to_video, heads)[1]
    prepared = _prepared(
        *(s, video.dtype, _layout(video, heads), _layout(own, heads), weights.shape, to_stride),
        int(of_video) + int(of_weights or of_inds),
    )
    if prepared.floats == 0:
        return None
    call = _Call(prepared, video.data_ptr(), own, weights, inds)
    assert call.packed is not None
    call.packed.divide_own = s.normalize
    if of_video:
        call.packed.grad_video = to_video.data_ptr()
    to_weights = torch.empty_like(weights) if of_weights else nothing(video)
    to_inds = torch.empty_like(inds) if of_inds else nothing(video)
    call.patch.grad_weights = to_weights.data_ptr() if of_weights else None
    call.patch.grad_inds = to_inds.data_ptr() if of_inds else None
    run("patch_packed_gradient", call.packed, video.device)
    return to_video, to_weights, to_inds


def _gradient_fake(
    video: Tensor,
    grad: Tensor,
    weights: Tensor,
    inds: Tensor,
    of_video: bool,
    of_weights: bool,
    of_inds: bool,
    deterministic: bool,
    *args: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    to_video = nothing(video)
    if of_video and video.dim() == 5:
        to_video = video.new_empty(video.shape)
    elif of_video:
        to_video = _video_output(_split(grad, weights), PatchSettings(*args))
    return to_video, *_dot_fake(video, grad, weights, inds, of_weights, of_inds, *args)


patch_gradient = define(
    "patch_gradient",
    "Tensor video, Tensor grad, Tensor weights, Tensor inds, bool of_video, bool of_weights, "
    f"bool of_inds, bool deterministic, {_SETTINGS}",
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


def _divided(grad: Tensor, weights: Tensor, s: PatchSettings) -> Tensor:
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
def _gradient_plan(
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
        to_stride = _by_head(shape, torch.empty(shape, device="meta").stride(), heads)[1]
    layouts = _by_head(*video, heads), _by_head(*own, heads)
    prepared = _prepared(s, dtype, *layouts, entries, to_stride, copies)
    if not isinstance(prepared.problem, _native.PackedPatchProblem):
        return None
    problem = type(prepared.problem).from_buffer_copy(prepared.problem)
    problem.divide_own = s.normalize
    return _GradientPlan(problem, prepared.floats, own[1], of_video, of_weights, of_inds)


def _planned_gradient(
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
        to_video = _like_video(video)
        problem.grad_video = to_video.data_ptr()
    if plan.of_weights:
        to_weights = torch.empty_like(weights)
        patch.grad_weights = to_weights.data_ptr()
    if plan.of_inds:
        to_inds = torch.empty_like(inds)
        patch.grad_inds = to_inds.data_ptr()
    run("patch_packed_gradient", problem, video.device)
    return to_video, to_weights, to_inds


def _sum_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    video, weights, inds, *args = inputs
    ctx.settings = args
    ctx.save_for_backward(video, weights, inds)


def _plan_sum_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    video, weights, inds, *args = inputs
    ctx.plan = None
    if video.is_cuda and video.stride(-1) == 1 and weights.is_contiguous() and inds.is_contiguous():
        ctx.plan = _gradient_plan(
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
        found = _planned_gradient(plan, video, weights, inds, grad)
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
        grad = _divided(grad, weights, s)
    if of_video:
        to_video = patch_scatter(_split(grad, weights), weights, inds, deterministic, *ctx.settings)
        if video.dim() == 5:
            to_video = _heads.merged(to_video)
    if of_weights or of_inds:
        dots = patch_dot(video, grad, weights, inds, of_weights, of_inds, *ctx.settings)
        to_weights, to_inds = dots[0] if of_weights else None, dots[1] if of_inds else None
    return to_video, to_weights, to_inds, *(None,) * len(ctx.settings)


patch_sum = define(
    "patch_sum",
    f"Tensor video, Tensor weights, Tensor inds, {_SETTINGS}",
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
    f"Tensor own, Tensor weights, Tensor inds, bool deterministic, {_SETTINGS}",
    "Tensor",
    _scatter,
    _scatter_fake,
    backward=_scatter_backward,
    setup_context=_scatter_context,
)
