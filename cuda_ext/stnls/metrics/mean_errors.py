"""Mean absolute and mean squared error of frames."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks, _ops
from stnls._errors import StnlsValueError
from stnls.metrics._frames import take_frames


def mean_errors(reference: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute and mean squared difference of each frame from its reference, in one pass.

    Differences are taken in float32, their means over channels and pixels in float64: PSNR is
    10 log10(peak² / mean squared error). There is no gradient.

    Args:
        reference: (C, H, W); floating-point numbers of 16 bits or more, converted to float32. Or
            several, (R, C, H, W): frame n is compared with reference n modulo R.
        frames: (N, C, H, W), the same; N a multiple of R.

    Returns:
        absolute: (N,) float64.
        squared: (N,) float64.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    references, frames = take_frames(reference, frames)
    _checks.not_empty_frames("reference", references)
    if references.shape[1] == 0:
        raise StnlsValueError(f"reference must have a channel, not {tuple(references.shape)}")
    means = _ops.error_sums(references, frames).sum(1) / references[0].numel()
    absolute, squared = means.unbind(1)
    return absolute, squared
