"""Aggregation: what becomes of a video when every patch is replaced by its matches."""

from __future__ import annotations

from stnls.agg.weighted_patch_sum import WeightedPatchSum

__all__ = ["WeightedPatchSum"]
