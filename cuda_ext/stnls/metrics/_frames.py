"""The frames that measures compare."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks
from stnls._errors import StnlsValueError


def take_frames(reference: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """References (R, C, H, W) and frames (N, C, H, W) in float32. Raises StnlsError where they do
    not fit together."""
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
    return references.float(), frames.float()
