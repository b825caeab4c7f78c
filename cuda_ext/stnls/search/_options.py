"""The parameters that the searches share, checked once, and the call of the operator."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from stnls import _checks, _ops
from stnls._offsets import integer_offsets
from stnls._ops import SearchSettings
from stnls._positions import grid_shape

# What the operator does for each self_action: (leave out slot 0, treatment of the own position).
SELF_ACTIONS: dict[str | None, tuple[int, str]] = {
    None: (0, "none"),
    "anchor": (0, "anchor"),
    "anchor_self": (0, "anchor"),
    "anchor_each": (0, "anchor_each"),
    "remove": (0, "remove"),
    "remove_ref_frame": (1, "none"),
    "anchor_and_remove_ref_frame": (1, "anchor_each"),
}


INTEGERS = ("ws", "wt", "ps", "k", "nheads", "stride0", "dilation", "off_Hq", "off_Wq", "k_agg")
# Parameters that are there for the order of arguments only.
ONLY_DEFAULTS = {"pt": 1, "ws_interior": 0, "normalize_bwd": False}


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Parameters of one search, with the names of the public classes."""

    ws: int
    wt: int = 0
    ps: int
    k: int
    nheads: int
    stride0: int
    stride1: float
    dist_type: str
    dilation: int
    self_action: str | None
    topk_mode: str = "all"
    reflect_bounds: bool
    full_ws: bool
    use_adj: bool
    off_Hq: int  # noqa: N815 - the original's name
    off_Wq: int  # noqa: N815
    strideQ: int | None = None  # noqa: N815
    itype: str
    k_agg: int
    charge: float = 0.0

    def __post_init__(self) -> None:
        _checks.positive_int("wt", self.wt, minimum=0)
        for name in ("ws", "ps", "nheads", "stride0", "dilation"):
            _checks.positive_int(name, getattr(self, name))
        for name in INTEGERS:  # those of NumPy become Python's
            object.__setattr__(self, name, _checks.any_int(name, getattr(self, name)))
        if self.strideQ is not None:
            object.__setattr__(self, "strideQ", _checks.positive_int("strideQ", self.strideQ))
        for name in ("reflect_bounds", "full_ws", "use_adj"):
            _checks.boolean(name, getattr(self, name))
        stride1 = _checks.positive_number("stride1", self.stride1, maximum=1e6)
        object.__setattr__(self, "stride1", stride1)
        charge = _checks.not_negative_number("charge", self.charge, maximum=1e12)
        object.__setattr__(self, "charge", charge)
        _checks.one_of("dist_type", self.dist_type, ("l2", "prod"))
        _checks.one_of("itype", self.itype, ("float", "int"))
        _checks.one_of("self_action", self.self_action, tuple(SELF_ACTIONS))
        _checks.one_of("topk_mode", self.topk_mode, ("all", "each", "none"))
        first_slot, _ = SELF_ACTIONS[self.self_action]
        _checks.choice_of_candidates(self.topk_mode, self.k, self.self_action, first_slot, self.wt)
        _checks.few_candidates(2 * self.wt + 1, self.ws, f"ws={self.ws} and wt={self.wt}")

    @property
    def stride_query(self) -> int:
        """Pixels between queries in the query video."""
        return self.stride0 if self.strideQ is None else self.strideQ

    @property
    def float_grid(self) -> bool:
        """Whether positions are real numbers, read with bilinear interpolation."""
        return self.itype == "float"

    @property
    def step(self) -> float:
        """Pixels between positions; the integer grid truncates, as the original does."""
        return self.stride1 if self.float_grid else float(max(1, int(self.stride1)))

    def grid(self, key: Tensor) -> tuple[int, int]:
        """Rows and columns of queries for a key video."""
        return grid_shape(key.shape[-2:], self.stride0)

    def settings(self, *, with_time: bool, windows: int | None = None) -> SearchSettings:
        """Arguments of the operator: no more entries than there are candidates."""
        first_slot, action = SELF_ACTIONS[self.self_action]
        area = self.ws * self.ws
        slots = 2 * self.wt + 1 - first_slot if windows is None else windows
        if self.k <= 0:
            keep, k = "every", 0
        elif self.topk_mode == "each":
            keep, k = "each", min(self.k, area)
        else:
            keep, k = "all", min(self.k, slots * area - (1 if action == "remove" else 0))
        return SearchSettings(
            ws=self.ws,
            wt=self.wt,
            ps=self.ps,
            k=k,
            keep=keep,
            self_action=action,
            first_slot=first_slot,
            stride0=self.stride0,
            stride1=self.step,
            charge=self.charge,
            stride_query=self.stride_query,
            dist_type=self.dist_type,
            dilation=self.dilation,
            reflect_bounds=self.reflect_bounds,
            full_ws=self.full_ws,
            use_adj=self.use_adj,
            offset_height=self.off_Hq,
            offset_width=self.off_Wq,
            float_grid=self.float_grid,
            with_time=with_time,
            k_agg=self.k_agg,
            direct=False,
        )

    def run(
        self,
        query: Tensor,
        key: Tensor,
        flow: Tensor | None,
        *,
        with_time: bool,
        passed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Searches (B, HD, T, C, H, W) videos around (B, HD, T, S, 2, nH, nW) flow;
        `passed`: equal ones, eager as well, passed all checks."""
        if flow is not None and not self.float_grid:
            flow = _whole_flow(flow, query.dtype)
        if passed:
            settings = _settings(self, with_time)
        else:
            settings = self.settings(with_time=with_time)
            _checks.no_tangents(query, key, flow)
        dists, inds = _ops.search(query, key, flow, *settings)
        return dists, inds

    def run_subpixel(
        self, query: Tensor, key: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Searches (B, 1, 1, C, H, W) frames, and moves the best matches, (B, H, W, 2), between
        positions."""
        if any(x.requires_grad for x in (query, key, flow)) and torch.is_grad_enabled():
            dists, inds = self.run(query, key, flow, with_time=False)
            frames = (x.detach()[:, 0, 0] for x in (query, key))
            best = inds.detach()[:, 0, 0, :, :, 0].to(query.dtype)
            return dists, inds, _ops.subpixel(*frames, best, self.ps, self.step)
        if not self.float_grid:
            flow = _whole_flow(flow, query.dtype)
        _checks.no_tangents(query, key, flow)
        settings = self.settings(with_time=False)
        dists, inds, moved = _ops.subpixel_search(query, key, flow, *settings)
        return dists, inds, moved

    def refine(
        self, query: Tensor, key: Tensor, prior: Tensor, windows: int
    ) -> tuple[Tensor, Tensor]:
        """Searches around the first `windows` entries of (B, HD, T, nH, nW, Ks, 3 or 2)."""
        with_time = prior.shape[-1] == 3
        settings = self.settings(with_time=with_time, windows=windows)
        if not self.float_grid:
            prior = integer_offsets(prior, query.dtype)
        _checks.no_tangents(query, key, prior)
        dists, inds, _ = _ops.refine(query, key, prior, windows, *settings)
        return dists, inds


def _whole_flow(flow: Tensor, dtype: torch.dtype) -> Tensor:
    """Flow for the integer grid. It is rounded as it is given, since a narrower dtype could move it
    to a half first; that of the query the operator rounds itself."""
    flow = flow.detach()
    if flow.dtype == dtype:
        return flow
    return (flow.round() if flow.is_floating_point() else flow).to(dtype)


@functools.lru_cache(maxsize=256)
def _settings(o: SearchOptions, with_time: bool) -> SearchSettings:
    return o.settings(with_time=with_time)


def only_defaults(**given: object) -> None:
    """Parameters that are there for the order of arguments only have their defaults."""
    for name, value in given.items():
        _checks.only_default(name, value, ONLY_DEFAULTS[name])


def anchored(self_action: str | None) -> str | None:
    """The self_action of a search around one place for each query, or several: all names mean that
    place."""
    _checks.one_of("self_action", self_action, (None, "anchor", "anchor_self", "anchor_each"))
    return None if self_action is None else "anchor_each"
