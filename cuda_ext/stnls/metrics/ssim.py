"""Structural similarity of frames with their references."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from stnls import _checks, _ops
from stnls._errors import StnlsValueError
from stnls.metrics._frames import take_frames

WINDOW = 11


def ssim(reference: Tensor, frames: Tensor, peak: float = 255.0) -> Tensor:
    """Mean structural similarity of each frame with its reference.

    Wang, Bovik, Sheikh & Simoncelli 2004 with their Gaussian window of 11 x 11 pixels and sigma
    1.5, K1 0.01 and K2 0.03; the mean over the channels and the windows that lie wholly inside the
    frame. Windows are applied along one axis, then the other, in float32, with half the range
    taken off before squares are summed; the mean is taken in float64. There is no gradient.

    Args:
        reference: (C, H, W), H and W at least 11; floating-point numbers of 16 bits or more,
            converted to float32. Or several, (R, C, H, W): frame n is compared with reference n
            modulo R.
        frames: (N, C, H, W), the same; N a multiple of R.
        peak: range of the values, which begins at 0.

    Returns:
        (N,) float64, 1 for frames that are equal.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    references, frames = take_frames(reference, frames)
    shape = tuple(references.shape[1:])
    if min(shape) < 1 or min(shape[1:]) < WINDOW:
        raise StnlsValueError(
            f"reference must have a channel and {WINDOW} x {WINDOW} pixels at least, not {shape}"
        )
    _checks.positive_number("peak", peak)
    sums = _ops.ssim_sums(references, frames, float(peak))
    windows = shape[0] * (shape[1] - WINDOW + 1) * (shape[2] - WINDOW + 1)
    return cast(Tensor, sums.sum(dim=(1, 2)) / windows)
