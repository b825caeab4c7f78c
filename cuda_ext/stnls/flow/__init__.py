"""Optical flow between two frames."""

from __future__ import annotations

from stnls.flow.tvl1 import tvl1

__all__ = ["tvl1"]
