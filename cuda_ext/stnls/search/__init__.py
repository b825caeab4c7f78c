"""Searches: the K best matches of every query patch around the place that optical flow predicts."""

from __future__ import annotations

from stnls.search.non_local_search import NonLocalSearch
from stnls.search.paired_search import PairedSearch

__all__ = ["NonLocalSearch", "PairedSearch"]
