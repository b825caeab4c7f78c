"""Order and defaults of the original's positional parameters (SPEC 1 to 3), and that classes hand
each of them on under its own name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import stnls

_OF_SUM = "pt=1, dilation=1, reflect_bounds=True, use_adj=False, itype='float'"
SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (
        stnls.search.NonLocalSearch,
        "ws, wt, ps=1, k=-1, nheads=1, stride0=1, stride1=1, dist_type='l2', dilation=1, pt=1, "
        "self_action=None, topk_mode='all', ws_interior=0, reflect_bounds=True, full_ws=True, "
        "use_adj=False, normalize_bwd=False, k_agg=-1, off_Hq=0, off_Wq=0, strideQ=None, "
        "itype='float'",
    ),
    (
        stnls.search.PairedSearch,
        "ws, ps, k, nheads=1, dist_type='l2', stride0=4, stride1=1, dilation=1, pt=1, "
        "reflect_bounds=True, full_ws=True, self_action=None, use_adj=False, "
        "normalize_bwd=False, k_agg=-1, off_Hq=0, off_Wq=0, itype='float'",
    ),
    (
        stnls.search.RefineSearch,
        "ws, wt, wr, k, kr, ps, nheads=1, stride0=4, stride1=1, strideQ=None, dilation=1, pt=1, "
        "dist_type='l2', restricted_radius=True, reflect_bounds=True, full_ws=True, "
        "topk_mode='all', self_action=None, use_adj=False, normalize_bwd=False, k_agg=-1, "
        "off_Hq=0, off_Wq=0, itype='float'",
    ),
    (
        stnls.search.PairedRefine,
        "ws, wr, k, kr, ps, nheads=1, dist_type='l2', stride0=1, stride1=1, dilation=1, "
        "restricted_radius=False, reflect_bounds=True, full_ws=True, self_action=None, "
        "use_adj=False, normalize_bwd=False, k_agg=-1, topk_mode='each', off_Hq=0, off_Wq=0, "
        "itype='float'",
    ),
    (stnls.agg.NonLocalGather, f"ps=1, stride0=1, {_OF_SUM}"),
    (stnls.agg.NonLocalGatherAdd, f"ps, strideIn, strideOut, outH=0, outW=0, {_OF_SUM}"),
    (stnls.agg.NonLocalScatterAdd, f"ps, strideIn, strideOut, outH=0, outW=0, {_OF_SUM}"),
    (stnls.agg.WeightedPatchSum, f"ps, stride0, {_OF_SUM}"),
    (stnls.nn.search_flow, "fflow, bflow, wt, stride0=1"),
    (
        stnls.nn.topk,
        "dists, inds, k, dim=1, anchor=False, descending=True, unique=False, return_order=False",
    ),
    (stnls.nn.anchor_self, "dists, inds, stride0, nH, nW"),
]
# A value other than the default for every parameter of a search that takes more than one.
OTHERS: dict[str, Any] = {
    "nheads": 2, "stride0": 3, "stride1": 0.5, "dist_type": "prod", "dilation": 2,
    "reflect_bounds": False, "full_ws": False, "use_adj": True, "k_agg": 3, "off_Hq": 1,
    "off_Wq": -1, "self_action": "anchor_each", "topk_mode": "each", "strideQ": 2, "itype": "int",
    "restricted_radius": True, "wt": 2, "ws": 7, "ps": 5, "k": 6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("called", "expected"), SIGNATURES, ids=lambda v: getattr(v, "__name__", "")
)
def test_positional_parameters(called: Callable[..., Any], expected: str) -> None:
    positional = [
        p if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in inspect.signature(called).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    names = [p if isinstance(p, str) else p.name for p in positional]
    assert ", ".join(names) == expected


@pytest.mark.parametrize("module", [s[0] for s in SIGNATURES[:4]], ids=lambda v: v.__name__)
def test_searches_hand_each_parameter_on(module: Callable[..., Any]) -> None:
    """Positionally, with one parameter at a time other than by default."""
    parameters = inspect.signature(module).parameters.values()
    usual = {"ws": 5, "wt": 1, "wr": 3, "k": 4, "kr": 2, "ps": 3}
    plain = [usual.get(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    for place, p in enumerate(parameters):
        if p.name not in OTHERS or p.kind is not p.POSITIONAL_OR_KEYWORD:
            continue
        given = [*plain[:place], OTHERS[p.name], *plain[place + 1 :]]
        shown = module(*given)._shown_parameters()
        if p.name not in shown:  # a refinement does not need what the earlier search had
            continue
        assert shown[p.name] == OTHERS[p.name], p.name
        for other, value in zip(parameters, plain, strict=False):
            if other.name in shown and other.name != p.name:
                assert shown[other.name] == value, (p.name, other.name)
