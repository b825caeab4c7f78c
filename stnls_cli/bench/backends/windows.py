"""Which keys a query of neighbourhood attention sees: a window, moved inside the frame."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls_cli.bench.problem import Problem


def visible(query: Tensor, key: Tensor, ws: int, length: int) -> Tensor:
    """Whether positions along one axis of `length` pixels see each other."""
    half = ws // 2
    centre = query.clamp(half, length - 1 - half)
    return (key - centre).abs() <= half


def mask(p: Problem, device: torch.device) -> Tensor:
    """(pixels, pixels) for a whole frame."""
    pixel = torch.arange(p.height * p.width, device=device)
    query, key = pixel[:, None], pixel[None]
    rows = visible(query // p.width, key // p.width, p.ws, p.height)
    return rows & visible(query % p.width, key % p.width, p.ws, p.width)


def as_tokens(p: Problem, video: Tensor) -> Tensor:
    """(1, T, C, H, W) as (T, heads, pixels, c)."""
    heads: Tensor = video[0].unflatten(1, (p.heads, -1))
    return heads.flatten(3).transpose(2, 3).contiguous()


def as_video(p: Problem, tokens: Tensor) -> Tensor:
    """And back."""
    frames: Tensor = tokens.transpose(2, 3).unflatten(3, (p.height, p.width))
    return frames.flatten(1, 2)[None]
