"""An aggregation from a configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from stnls import _checks, _config
from stnls.agg.gather import NonLocalGather
from stnls.agg.gather_add import NonLocalGatherAdd
from stnls.agg.scatter_add import NonLocalScatterAdd
from stnls.agg.stack_conv import StackConv
from stnls.agg.weighted_patch_sum import WeightedPatchSum

_COMMON: dict[str, Any] = {
    "dilation": 1,
    "reflect_bounds": True,
    "use_adj": False,
    "itype": "float",
}
_GATHER = _COMMON | {"ps": 1, "stride0": 1, "pt": 1}
_ADD = _COMMON | {"ps": 3, "strideIn": 1, "strideOut": 1, "outH": 0, "outW": 0, "pt": 1}
_STACK_CONV = _COMMON | {
    "k_agg": -1,
    "ps": 3,
    "nheads": 1,
    "channels": -1,
    "stride0": 1,
    "dropout": 0.0,
    "bias": True,
}
AGGREGATIONS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "wpsum": (WeightedPatchSum, _COMMON | {"ps": 3, "stride0": 1, "pt": 1}),
    **dict.fromkeys(("gather", "nlgather", "nlstack"), (NonLocalGather, _GATHER)),
    "gather_add": (NonLocalGatherAdd, _ADD),
    **dict.fromkeys(("scatter_add", "scatter_sum"), (NonLocalScatterAdd, _ADD)),
    "stack_conv": (StackConv, _STACK_CONV),
}


def init(cfg: object) -> nn.Module:
    """The aggregation that a configuration describes.

    Args:
        cfg: a dictionary, or an object with attributes. ``agg_name`` is one of "wpsum" (default),
            "gather" ("nlgather", "nlstack"), "gather_add", "scatter_add" ("scatter_sum"),
            "stack_conv"; the parameters of that class go by their names. Other keys are ignored.

    Returns:
        The module, with the defaults of the class; ``ps`` is 3 where the class has none, and the
        strides are 1.

    Raises:
        StnlsError: (also ValueError or TypeError) for an unknown name, and for a parameter outside
            its range ("stack_conv" needs ``k_agg`` and ``channels``).

    """
    name = _config.options(cfg, {"agg_name": "wpsum"})["agg_name"]
    _checks.one_of("agg_name", name, tuple(AGGREGATIONS))
    aggregation, defaults = AGGREGATIONS[name]
    options = _config.options(cfg, defaults)
    needed = ("k_agg", "channels") if aggregation is StackConv else ()
    _checks.configured(f"agg_name={name!r}", [name for name in needed if options[name] == -1])
    return aggregation(**options)
