"""Searches: the K best matches of every query patch around the place that optical flow predicts."""

from __future__ import annotations

from stnls.search.config import init
from stnls.search.functional import (
    empty_flow,
    get_time_window_inds,
    nls,
    paired_refine,
    paired_search,
    refine,
)
from stnls.search.non_local_search import NonLocalSearch
from stnls.search.paired_refine import PairedRefine
from stnls.search.paired_search import PairedSearch
from stnls.search.refine_search import RefineSearch
from stnls.search.subpixel_offsets import subpixel_offsets

__all__ = [
    "NonLocalSearch",
    "PairedRefine",
    "PairedSearch",
    "RefineSearch",
    "empty_flow",
    "get_time_window_inds",
    "init",
    "nls",
    "paired_refine",
    "paired_search",
    "refine",
    "subpixel_offsets",
]
