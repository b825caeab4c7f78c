"""The operators once more, in plain PyTorch from their definition: what the kernels must equal.

Every candidate is listed and every tap visited; nothing is shared with the library. Positions are
computed in the dtype of the video, as the definition asks; everything else in float64.
"""

from __future__ import annotations

from .distances import distances_at
from .flow import compose_flow, search_flow
from .gradients import entries_of_refinement, entries_of_search, with_time
from .patch_sum import PatchOptions, gather_add, patch_stack, scatter_add, weighted_patch_sum
from .refine import paired_refine_candidates, refine_candidates
from .search import Candidates, SearchOptions, candidates, options_of, paired_candidates, select

__all__ = [
    "Candidates",
    "PatchOptions",
    "SearchOptions",
    "candidates",
    "compose_flow",
    "distances_at",
    "entries_of_refinement",
    "entries_of_search",
    "gather_add",
    "options_of",
    "paired_candidates",
    "paired_refine_candidates",
    "patch_stack",
    "refine_candidates",
    "scatter_add",
    "search_flow",
    "select",
    "weighted_patch_sum",
    "with_time",
]
