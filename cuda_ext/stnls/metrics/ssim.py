"""Structural similarity of frames with their references."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from stnls import _checks, _ops
from stnls._errors import StnlsValueError

WINDOW = 11


def ssim(reference: Tensor, frames: Tensor, peak: float = 255.0) -> Tensor:
    """Mean structural similarity of each frame with its reference.

    Wang, Bovik, Sheikh & Simoncelli 2004 with their Gaussian window of 11 x 11 pixels and sigma
    1.5, K1 0.01 and K2 0.03; the mean over the channels and the windows that lie wholly inside the
    frame. Windows are applied along one axis, then the other, in float32, with half the range
    taken off before squares are summed; the mean is taken in float64. There is no gradient.

    Args:
        reference: (C, H, W), H and W at least 11; real numbers of 16 bits or more, converted to
            float32. Or several, (R, C, H, W): frame n is compared with reference n modulo R.
        frames: (N, C, H, W), the same; N a multiple of R.
        peak: range of the values, which begins at 0.

    Returns:
        (N,) float64, 1 for frames that are equal.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _checks.tensor("reference", reference, (3, 4), "(C, H, W) or (R, C, H, W)")
    _checks.tensor("frames", frames, (4,), "(N, C, H, W)")
    _checks.floating("reference", reference)
    _checks.floating("frames", frames)
    _checks.same_place("reference", reference, "frames", frames)
    references = reference if reference.ndim == 4 else reference[None]
    shape = tuple(references.shape[1:])
    _checks.same("shape", "reference", shape, "each of frames", tuple(frames.shape[1:]))
    if references.shape[0] == 0 or frames.shape[0] % references.shape[0] != 0:
        raise StnlsValueError(
            f"frames must be as many for each reference: {frames.shape[0]} frames, "
            f"{references.shape[0]} references"
        )
    if min(shape) < 1 or min(shape[1:]) < WINDOW:
        raise StnlsValueError(
            f"reference must have a channel and {WINDOW} x {WINDOW} pixels at least, not {shape}"
        )
    _checks.positive_number("peak", peak)
    sums = _ops.ssim_sums(references.float(), frames.float(), float(peak))
    windows = shape[0] * (shape[1] - WINDOW + 1) * (shape[2] - WINDOW + 1)
    return cast(Tensor, sums.sum(dim=(1, 2)) / windows)
