"""The operators as PyTorch sees them: `torch.ops.stnls.*`, on CPU and CUDA, with fake kernels,
gradients and operation counts. Arguments are taken as checked (see `_checks`)."""

from __future__ import annotations

from stnls._ops._blend import patch_blend
from stnls._ops._eager import signature
from stnls._ops._flops import patch_flops, search_flops
from stnls._ops._flow import compose_chain, compose_slots
from stnls._ops._mean_errors import error_sums
from stnls._ops._patch_problem import PatchSettings
from stnls._ops._patches import patch_scatter, patch_sum
from stnls._ops._search import refine, search
from stnls._ops._search_problem import SearchSettings, entry_count, search_scratch
from stnls._ops._ssim import ssim_sums
from stnls._ops._subpixel import subpixel
from stnls._ops._subpixel_search import subpixel_search
from stnls._ops._tvl1 import tvl1_scale

__all__ = [
    "PatchSettings",
    "SearchSettings",
    "compose_chain",
    "compose_slots",
    "entry_count",
    "error_sums",
    "patch_blend",
    "patch_flops",
    "patch_scatter",
    "patch_sum",
    "refine",
    "search",
    "search_flops",
    "search_scratch",
    "signature",
    "ssim_sums",
    "subpixel",
    "subpixel_search",
    "tvl1_scale",
]
