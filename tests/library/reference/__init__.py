"""The operators once more, in plain PyTorch from their definition: what the kernels must equal.

Every candidate is listed and every tap visited; nothing is shared with the library. Positions are
computed in the dtype of the video, as the definition asks; everything else in float64.
"""

from __future__ import annotations

from .flow import compose_flow, search_flow
from .patch_sum import weighted_patch_sum
from .search import Candidates, SearchOptions, candidates, options_of, paired_candidates, select

__all__ = [
    "Candidates",
    "SearchOptions",
    "candidates",
    "compose_flow",
    "options_of",
    "paired_candidates",
    "search_flow",
    "select",
    "weighted_patch_sum",
]
