"""The average of overlapping patches, sampled by bicubic convolution."""

from __future__ import annotations

from torch import Tensor

from stnls import _native
from stnls._ops._registry import DTYPES, define, no_gradient, run


def _blend(video: Tensor, offset: Tensor, weight: Tensor, ps: int) -> Tensor:
    video, offset, weight = video.contiguous(), offset.contiguous(), weight.contiguous()
    out = _blend_fake(video, offset, weight, ps)
    if out.numel() > 0:
        f = _native.BlendProblem()
        f.video, f.offset, f.weight = video.data_ptr(), offset.data_ptr(), weight.data_ptr()
        f.out = out.data_ptr()
        f.batch, f.channels, f.height, f.width = video.shape
        f.ps, f.dtype = ps, DTYPES[video.dtype]
        run("patch_blend", f, out.device)
    return out


def _blend_fake(video: Tensor, offset: Tensor, weight: Tensor, ps: int) -> Tensor:
    return video.new_empty(video.shape)


patch_blend = define(
    "patch_blend",
    "Tensor video, Tensor offset, Tensor weight, int ps",
    "Tensor",
    _blend,
    _blend_fake,
    backward=no_gradient(
        "blend_patches has no gradient: give it detached tensors, or use WeightedPatchSum"
    ),
)
