"""Sums on the GPU that are the same in every run.

Floating-point sums depend on their order, which atomic additions leave open; sums of integers do
not. Where torch asks for deterministic algorithms, every term is rounded to a 64-bit integer, at a
scale at which the largest possible sum still fits, and the sum is scaled back. For n terms of at
most m the rounding is below n^2 m / 2^62, in practice far below that of float32 sums.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wanted(device: torch.device) -> bool:
    """Whether sums on this device need care. Those on the CPU never depend on the order."""
    return device.type == "cuda" and torch.are_deterministic_algorithms_enabled()


def largest(values: Tensor) -> Tensor:
    """Largest finite magnitude, a float64 tensor with one element; 0 for no values."""
    if values.numel() == 0:
        return torch.zeros((), dtype=torch.float64, device=values.device)
    magnitudes = torch.where(values.isfinite(), values, torch.zeros_like(values)).abs()
    return magnitudes.amax().double()


def scale_for(bound: Tensor, terms: int) -> Tensor:
    """Units for sums of at most `terms` terms, none larger than `bound`; a power of two."""
    room = 62 - max(terms, 1).bit_length()
    exponent = torch.frexp(bound.clamp(min=1e-300)).exponent
    return torch.ldexp(torch.ones_like(bound), room - exponent)


def finish(fixed: Tensor, scale: Tensor, grad: Tensor) -> Tensor:
    """The sums as numbers; where a term was not finite, `grad` is NaN and so is the sum."""
    return (fixed.double() / scale).to(grad.dtype) + grad
