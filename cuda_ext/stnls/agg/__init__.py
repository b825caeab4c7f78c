"""Aggregation: what becomes of a video when every patch is replaced by its matches."""

from __future__ import annotations

from stnls.agg.blend_patches import blend_patches
from stnls.agg.config import init
from stnls.agg.functional import gather, gather_add, scatter_add
from stnls.agg.gather import NonLocalGather
from stnls.agg.gather_add import NonLocalGatherAdd
from stnls.agg.scatter_add import NonLocalScatterAdd
from stnls.agg.stack_conv import StackConv
from stnls.agg.weighted_patch_sum import WeightedPatchSum

__all__ = [
    "NonLocalGather",
    "NonLocalGatherAdd",
    "NonLocalScatterAdd",
    "StackConv",
    "WeightedPatchSum",
    "blend_patches",
    "gather",
    "gather_add",
    "init",
    "scatter_add",
]
