"""The dtype that an operator computes in.

float32 and float64 as they are; float16 and bfloat16 in float32 (positions need more than their 8
or 11 bits, and sums more than their range). Tensors of several dtypes are an error, except under
`torch.autocast`, where all are taken in the widest of them.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def widened(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; what else there is as it is."""
    return tensor.float() if tensor.dtype in HALF else tensor


def autocast_on(device: torch.device) -> bool:
    """Whether `torch.autocast` is on for a device; there are some that it does not know."""
    return device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type)


def unified(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as they are; under autocast, real ones in the widest dtype among them."""
    reals = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    if len(set(reals)) < 2 or not autocast_on(tensors[0].device):
        return tensors
    widest = functools.reduce(torch.promote_types, reals)
    return tuple(t.to(widest) if t.is_floating_point() else t for t in tensors)
