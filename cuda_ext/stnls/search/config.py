"""A search from a configuration."""

from __future__ import annotations

from typing import Any

from stnls import _checks, _config
from stnls.search._base import SearchModule
from stnls.search.non_local_search import NonLocalSearch
from stnls.search.paired_refine import PairedRefine
from stnls.search.paired_search import PairedSearch
from stnls.search.refine_search import RefineSearch

_COMMON: dict[str, Any] = {
    "nheads": 1,
    "stride1": 1,
    "dist_type": "l2",
    "dilation": 1,
    "reflect_bounds": True,
    "full_ws": True,
    "self_action": None,
    "use_adj": False,
    "normalize_bwd": False,
    "k_agg": -1,
    "off_Hq": 0,
    "off_Wq": 0,
    "itype": "float",
}
# Options of each search with the defaults of a configuration, which are not always the class's.
_NLS = _COMMON | {
    "ws": -1,
    "wt": -1,
    "ps": 1,
    "k": -1,
    "stride0": 1,
    "pt": 1,
    "topk_mode": "all",
    "ws_interior": 0,
    "strideQ": None,
}
_REFINE = _COMMON | {
    "ws": -1,
    "wt": -1,
    "wr": 1,
    "k": 10,
    "kr": -1,
    "ps": 1,
    "stride0": 4,
    "strideQ": None,
    "pt": 1,
    "restricted_radius": False,
    "topk_mode": "all",
}
_PAIRED = _COMMON | {"ws": -1, "ps": 3, "k": 10, "stride0": 1, "pt": 1, "charge": 0.0}
_PAIRED_REFINE = _COMMON | {
    "ws": -1,
    "wr": 1,
    "k": 10,
    "kr": -1,
    "ps": 1,
    "stride0": 1,
    "restricted_radius": False,
    "topk_mode": "each",
}
SEARCHES: dict[str, tuple[type[SearchModule], dict[str, Any]]] = {
    **dict.fromkeys(("exact", "nls", "nl"), (NonLocalSearch, _NLS)),
    "refine": (RefineSearch, _REFINE),
    **dict.fromkeys(("pair", "paired"), (PairedSearch, _PAIRED)),
    **dict.fromkeys(("paired_refine", "paired_ref"), (PairedRefine, _PAIRED_REFINE)),
}


def init(cfg: object) -> SearchModule:
    """The search that a configuration describes.

    Args:
        cfg: a dictionary, or an object with attributes. ``search_name`` is one of "nls" (default;
            also "exact", "nl"), "refine", "paired" ("pair"), "paired_refine" ("paired_ref"); the
            parameters of that class go by their names. Other keys are ignored.

    Returns:
        The module, with the defaults of the original's configurations: mostly those of the class,
        but ``k=10`` for all but "nls", ``stride0=1`` and ``ps=3`` for "paired", and ``wr=1``,
        ``kr=-1`` and ``ps=1`` for refinements.

    Raises:
        StnlsError: (also ValueError or TypeError) for an unknown name, and for a parameter that is
            missing or outside its range (``ws``, and for "nls" ``wt``, have no default).

    """
    name = _config.options(cfg, {"search_name": "nls"})["search_name"]
    _checks.one_of("search_name", name, tuple(SEARCHES))
    search, defaults = SEARCHES[name]
    options = _config.options(cfg, defaults)
    needed = {NonLocalSearch: ("ws", "wt"), PairedSearch: ("ws",)}.get(search, ())
    missing = [name for name in needed if options[name] == -1]
    _checks.configured("a search", missing)
    return search(**options)
