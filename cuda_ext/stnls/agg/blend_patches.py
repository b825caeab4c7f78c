"""The aligned frame as the average of overlapping matched patches, sampled bicubically."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from stnls import _checks, _ops
from stnls._offsets import real_offsets
from stnls._precision import unified, widened


def blend_patches(video: Tensor, offset: Tensor, weight: Tensor, ps: int) -> Tensor:
    """Average of the matched patches that cover each pixel.

    Overlapped block motion compensation (Orchard & Sullivan 1994): with o the offset and w the
    weight of a pixel q, and I the video between its pixels by bicubic convolution (Keys 1981, with
    a = -3/4, as PyTorch has it),

        out(p) = sum_q w(q) I(p + o(q)) / sum_q w(q),

    where q runs over the pixels whose patch of ps x ps pixels covers p: q = p - d, d in
    -(ps // 2) ... ps - 1 - ps // 2 along each axis. Beyond the frame the video is reflected at its
    outermost pixels. Bicubic kernels overshoot: values may leave the range of the video. There is
    no gradient; `WeightedPatchSum` has one, and samples bilinearly.

    Args:
        video: (B, C, H, W), the frame that is sampled. float32 or float64; float16 and bfloat16
            are computed in float32.
        offset: (B, H, W, 2) = (dh, dw) in pixels, from each pixel to the centre of its match, as a
            search returns them: integers, or reals of the dtype that is computed in (or narrower).
            Where it is not finite the pixels of its patch are NaN.
        weight: (B, H, W), above 0, the video's dtype (or float32 with a narrower video).
        ps: pixels along each side of a patch; even ones lie half a pixel up and left. Fastest for
            the odd ones up to 9.

    Returns:
        (B, C, H, W), of the video's dtype.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _checks.tensor("video", video, (4,), "(B, C, H, W)")
    _checks.tensor("offset", offset, (4,), "(B, H, W, 2)")
    _checks.tensor("weight", weight, (3,), "(B, H, W)")
    _checks.same_place("video", video, "weight", weight)
    _checks.floating("video", video)
    dtype = video.dtype
    video, weight = (widened(value) for value in unified(video, weight))
    _checks.same_dtype("video", video, "weight", weight)
    offset = real_offsets("offset", offset, "video", video)
    batch, _, height, width = video.shape
    _checks.shape("offset", offset, (batch, height, width, 2), "(B, H, W, 2)")
    _checks.shape("weight", weight, (batch, height, width), "(B, H, W)")
    _checks.positive_int("ps", ps)
    return cast(Tensor, _ops.patch_blend(video, offset, weight, ps).to(dtype))
