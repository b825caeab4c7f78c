"""What the kernels of patches are told: settings, layouts of tensors, and memory for results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stnls import _heads, _native
from stnls._ops._registry import DTYPES, run, schema_of


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


SETTINGS = schema_of(PatchSettings)

# Sizes and strides of a tensor.
Layout = tuple[tuple[int, ...], tuple[int, ...]]


def layout_by_head(video: Tensor, heads: int) -> Layout:
    return by_head(video.shape, video.stride(), heads)


def by_head(shape: tuple[int, ...], stride: tuple[int, ...], heads: int) -> Layout:
    """The layout of a video (B, T, C, H, W) as (B, HD, T, C/HD, H, W); of what has its heads
    already, its own."""
    if len(shape) != 5:
        return shape, stride
    b, t, channels, h, w = shape
    by_batch, by_frame, by_channel, by_row, by_column = stride
    each = channels // heads
    strides = by_batch, each * by_channel, by_frame, by_channel, by_row, by_column
    return (b, heads, t, each, h, w), strides


def problem_of(
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


class Prepared(NamedTuple):
    """A problem that waits for its pointers, in the form for the faster kernels of the GPU if they
    can take it; the floats of scratch memory that they want."""

    problem: _native.PatchProblem | _native.PackedPatchProblem
    floats: int


@functools.lru_cache(maxsize=256)
def prepared_problem(
    s: PatchSettings,
    dtype: torch.dtype,
    video: Layout,
    own: Layout,
    entries: tuple[int, ...],
    grad_video: tuple[int, ...] | None,
    copies: int,
) -> Prepared:
    """The same for equal tensors: filling structures costs more than launching kernels. `copies`
    of videos that a GPU packs, each 32 MiB at most, or one batch item and head; 0: none."""
    p = problem_of(s, dtype, video, own, entries)
    if copies > 0:
        packed = _native.PackedPatchProblem(patch=p, components=3)
        if grad_video is not None:
            packed.grad_video_stride = _native.i64_array(grad_video[:5])
        floats = _native.cuda_patch_packed_scratch(packed, copies)
        if floats > 0:
            return Prepared(packed, floats)
    return Prepared(p, 0)


class Call:
    """A prepared problem with its pointers, and its scratch memory."""

    def __init__(
        self,
        prepared: Prepared,
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


def own_output(video: Tensor, weights: Tensor, s: PatchSettings) -> Tensor:
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


def like_video(video: Tensor) -> Tensor:
    """A contiguous tensor of the sizes of the video."""
    # Faster than handing sizes over.
    return torch.empty_like(video) if video.is_contiguous() else video.new_empty(video.shape)


def video_like(own: Tensor, s: PatchSettings, create: Callable[..., Tensor]) -> Tensor:
    """The sizes of the video, in the memory layout of the queries' own pixels."""
    b, heads, t, c, h, w = own[:, :, 0].shape if s.stacked and own.shape[2] > 0 else own.shape
    if s.heads_last:
        zeros = create((b, t, heads, c, h, w), dtype=own.dtype, device=own.device)
        return zeros.permute(0, 2, 1, 3, 4, 5)
    return create((b, heads, t, c, h, w), dtype=own.dtype, device=own.device)


def video_output(own: Tensor, s: PatchSettings) -> Tensor:
    """Zeros of the sizes of the video, in the memory layout of the queries' own pixels."""
    if s.stacked:
        own = own[:, :, 0] if own.shape[2] > 0 else own.sum(2)
    return video_like(own, s._replace(stacked=False), torch.zeros)


def with_heads(video: Tensor, weights: Tensor) -> Tensor:
    """With heads of their own."""
    return _heads.split(video, weights.shape[1]) if video.dim() == 5 else video
