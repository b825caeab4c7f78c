"""Flow to time with, by the names of its kinds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

SPREAD = 30
"""Pixels between the smallest and the largest flow of a neighbourhood, for "wild"."""


def smooth_flow(frames: int, height: int, width: int, generator: Generator) -> Tensor:
    """Smooth, with a standard deviation of 3 px."""
    coarse = torch.randn(frames, 2, max(2, height // 96), max(2, width // 96), generator=generator)
    flow = interpolate(coarse, size=(height, width), mode="bicubic")
    return 3.0 * flow / flow.std()


def edges_flow(frames: int, height: int, width: int, generator: Generator) -> Tensor:
    """Like that of real scenes: smooth, four ellipses that jump by 5 to 9 px, 0.3 px of jitter."""
    flow = smooth_flow(frames, height, width, generator)
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    for _ in range(4):
        where = torch.rand(4, generator=generator)
        jump = torch.randn(2, generator=generator)
        jump = jump / jump.norm() * (5 + 4 * torch.rand(1, generator=generator))
        inside = ((y - 1.6 * where[0] + 0.8) / (0.15 + 0.25 * where[2])) ** 2 + (
            (x - 1.6 * where[1] + 0.8) / (0.1 + 0.2 * where[3])
        ) ** 2 < 1
        flow = flow + inside * jump[:, None, None]
    return flow + 0.3 * torch.randn(flow.shape, generator=generator)


def zero_flow(frames: int, height: int, width: int, generator: Generator) -> Tensor:
    """No motion."""
    return torch.zeros(frames, 2, height, width)


def wild_flow(frames: int, height: int, width: int, generator: Generator) -> Tensor:
    """Smooth, and every pixel by itself up to 15 px away: neighbours share nothing."""
    noise = torch.rand(frames, 2, height, width, generator=generator) - 0.5
    return smooth_flow(frames, height, width, generator) + SPREAD * noise


_KINDS: dict[str, Callable[[int, int, int, Generator], Tensor]] = {
    "edges": edges_flow,
    "smooth": smooth_flow,
    "zero": zero_flow,
    "wild": wild_flow,
}


def slot_flows(
    name: str, frames: int, slots: int, height: int, width: int, generator: Generator
) -> Tensor:
    """(frames, slots, 2, height, width): every slot's flow is of this kind, none is composed."""
    make = _KINDS[name]
    return torch.stack([make(frames, height, width, generator) for _ in range(slots)], 1)
