"""Flow composition, the positions of a search, and the choice among its candidates."""

from __future__ import annotations

from stnls.nn.accumulate_flow import (
    AccumulatedFlow,
    accumulate_flow,
    extract_search_from_accumulated,
)
from stnls.nn.anchor_self import (
    anchor_self,
    anchor_self_paired,
    anchor_self_refine,
    anchor_self_time,
)
from stnls.nn.non_local_inds import index_grid, non_local_inds
from stnls.nn.search_flow import compose_flow, search_flow
from stnls.nn.topk import topk, topk_each

__all__ = [
    "AccumulatedFlow",
    "accumulate_flow",
    "anchor_self",
    "anchor_self_paired",
    "anchor_self_refine",
    "anchor_self_time",
    "compose_flow",
    "extract_search_from_accumulated",
    "index_grid",
    "non_local_inds",
    "search_flow",
    "topk",
    "topk_each",
]
