"""What the kernels of patches are told: settings and layouts of tensors."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from stnls import _native
from stnls._ops._registry import DTYPES, Layout, run, schema_of


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
