"""Heads: sharing channels among them, and sharing what has fewer of them."""

from __future__ import annotations

import torch
from torch import Tensor


def split(video: Tensor, heads: int) -> Tensor:
    """(B, T, C, H, W) as a view (B, HD, T, C/HD, H, W), channels split head-major; what has a
    dimension for its heads already, as it is."""
    if video.ndim != 5:
        return video
    by_head: Tensor = video.unflatten(2, (heads, video.shape[2] // heads))
    return by_head.transpose(1, 2)


def merge(video: Tensor) -> Tensor:
    """(B, HD, T, C/HD, H, W) as (B, T, C, H, W): a view where the heads lie beside the channels."""
    return video.transpose(1, 2).flatten(2, 3)


def repeat(value: Tensor, heads: int) -> Tensor:
    """(B, HD', ...) as (B, HD, ...): head hd is head hd modulo those that there are."""
    if value.shape[1] == heads:
        return value
    if value.shape[1] == 1:
        return value.expand(-1, heads, *value.shape[2:])
    return value[:, torch.arange(heads, device=value.device) % value.shape[1]]
