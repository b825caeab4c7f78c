"""How much frames look alike."""

from __future__ import annotations

from stnls.metrics.mean_errors import mean_errors
from stnls.metrics.ssim import ssim

__all__ = ["mean_errors", "ssim"]
