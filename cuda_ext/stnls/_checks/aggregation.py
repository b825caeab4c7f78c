"""Checks of aggregations: coverage, strides, sizes, and the kernel of a convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls._checks.scalars import positive_int
from stnls._errors import StnlsTypeError, StnlsValueError

LARGEST_STRIDE = 64
"""Up to which a patch size is looked for that covers."""


def covered(height: int, width: int, ps: int, stride0: int, dilation: int, use_adj: bool) -> None:
    """Patches of the query grid cover every pixel of the frame."""

    def reached(length: int, ps: int, dilation: int, stride0: int) -> bool:
        start = 0 if use_adj else -(ps // 2)
        taps = [dilation * (tap + start) for tap in range(ps)]
        pixels = {origin + tap for origin in range(0, length, stride0) for tap in taps}
        return pixels.issuperset(range(length))

    def all_reached(ps: int, dilation: int, stride0: int) -> bool:
        return all(reached(length, ps, dilation, stride0) for length in (height, width))

    def enough(dilation: int) -> int | None:
        most = min(stride0, max(height, width), LARGEST_STRIDE)
        larger = range(ps, max(ps, 2 * most) + 2)
        return next((p for p in larger if all_reached(p, dilation, stride0)), None)

    for length in (height, width):
        if not reached(length, ps, dilation, stride0):
            larger, plain = enough(dilation), enough(1)
            if larger is not None:
                remedy = f"a larger ps ({larger} is enough)"
            elif plain is None:
                remedy = "a larger ps"
            else:  # gaps between the pixels of a patch that no other patch fills
                remedy = "dilation 1" if plain == ps else f"dilation 1 with ps={plain}"
            smaller = range(min(stride0, max(height, width)) - 1, 0, -1)  # 1 always does
            nearer = next(s for s in smaller if all_reached(ps, dilation, s))
            raise StnlsValueError(
                f"patches of ps={ps} (dilation {dilation}) on a grid of stride0={stride0} do not "
                f"cover all of {length} pixels: take {remedy} or stride0={nearer}"
            )


def one_stride(strideIn: object, strideOut: object) -> None:
    """Input and output share the grid of queries."""
    positive_int("strideIn", strideIn)
    positive_int("strideOut", strideOut)
    if strideIn != strideOut:
        raise StnlsValueError(
            f"strideIn and strideOut must be equal, not {strideIn} and {strideOut}"
        )


def input_size(outH: int, outW: int, video: Tensor) -> None:
    """The size of the result is that of the video; 0 stands for it."""
    height, width = video.shape[-2:]
    if (outH and outH != height) or (outW and outW != width):
        raise StnlsValueError(
            f"outH and outW must be 0 or the size of the video, {height} and {width}, "
            f"not {outH} and {outW}"
        )


def odd(name: str, value: int) -> None:
    """A kernel has a centre."""
    if value % 2 == 0:
        raise StnlsValueError(f"{name} must be odd, so that the kernel has a centre, not {value}")


def dtype_of_convolution(name: str, video: Tensor, weight: Tensor, *, autocast: bool) -> None:
    """A convolution takes a video of another dtype under autocast, which converts all but
    float64."""
    if not autocast or torch.float64 in (video.dtype, weight.dtype):
        raise StnlsTypeError(
            f"{name} must have the dtype of the convolution, {weight.dtype}, not {video.dtype}: "
            "convert one of them, or use torch.autocast (for all but float64)"
        )


def whole_kernel(k_agg: int, matches: int) -> None:
    """There are as many matches as one kernel takes."""
    if matches < k_agg:
        raise StnlsValueError(f"a kernel takes k_agg={k_agg} matches, but there are {matches}")
