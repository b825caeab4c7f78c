"""Where the pixels of a frame lie."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@functools.lru_cache(maxsize=16)
def columns_and_rows(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """x of every column, (W,), and y of every row, (H, 1). They are shared: do not change them."""
    import torch

    x = torch.arange(width, dtype=dtype, device=device)
    return x, torch.arange(height, dtype=dtype, device=device)[:, None]
