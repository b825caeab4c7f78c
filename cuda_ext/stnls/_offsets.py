"""Offsets and flow in the dtype to compute in."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks, _precision

EMPTY_OFFSET = -100000000
"""Offset of an entry that is empty."""


def integer_offsets(inds: Tensor, dtype: torch.dtype) -> Tensor:
    """Offsets on the integer grid, int32; what int32 does not hold becomes the mark of an empty
    entry. Reals are rounded half to even in `dtype`."""
    if inds.is_floating_point():
        inds = torch.nan_to_num(inds.detach().round().to(dtype), nan=EMPTY_OFFSET)
    elif inds.dtype != torch.int64:
        return inds.to(torch.int32)
    return inds.clamp(EMPTY_OFFSET, -EMPTY_OFFSET).to(torch.int32)


def real_offsets(name: str, offsets: Tensor, video_name: str, video: Tensor) -> Tensor:
    """Offsets, or flow, on the real grid in the dtype of the (widened) video; checks their device
    and dtype."""
    _checks.same_place(name, offsets, video_name, video)
    _checks.numbers(name, offsets)
    offsets = _precision.widened(offsets)
    if not offsets.is_floating_point():
        offsets = offsets.to(video.dtype)  # of a search on the integer grid
    if _precision.autocast_on(video.device):
        offsets = offsets.to(video.dtype)
    _checks.same_dtype(name, offsets, video_name, video)
    return offsets
