"""How much frames look alike."""

from __future__ import annotations

from stnls.metrics.ssim import ssim

__all__ = ["ssim"]
