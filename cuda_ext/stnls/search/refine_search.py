"""Refining the matches of an earlier search."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks, _ops
from stnls._errors import StnlsValueError
from stnls.search._base import SearchModule
from stnls.search._options import (
    SearchOptions,
    check_kr,
    check_sizes,
    kept,
    split_heads,
    take_places,
    take_videos,
)

SELF_ACTIONS = (None, "anchor", "anchor_self", "anchor_each")


class RefineSearch(SearchModule):
    r"""Searches a small window around every match that an earlier search found.

    The window of ``wr`` × ``wr`` positions, ``stride1`` pixels apart, lies around query + offset,
    mirrored at the border; frame and distance are as in `NonLocalSearch`. A coarse search (large
    ``stride1``) is refined this way step by step. Gauen & Chan, arXiv 2309.16849.

    Args:
        ws, wt: accepted for the order of the arguments; without effect.
        wr: positions along each side of the window (≥ 1).
        k: matches to return; 0 or less returns every candidate in raster order (match, window row,
            window column).
        kr: how many of the earlier matches are refined: a number (int), a share of them (float up
            to 1), or all (0 or less). The first ones are kept.
        ps, nheads, stride1, strideQ, dilation, dist_type: as for `NonLocalSearch`.
        stride0: pixels between queries; mind the default, 4.
        reflect_bounds, full_ws, use_adj, k_agg, off_Hq, off_Wq, itype: as for `NonLocalSearch`.
        pt: accepts only 1.
        restricted_radius: without effect.
        topk_mode: ``"all"``: the k best of all windows; ``"each"``: the k best of each.
        self_action: ``None``, or ``"anchor"`` / ``"anchor_self"`` / ``"anchor_each"``: the earlier
            match itself comes first in its window, whatever its distance.
        normalize_bwd: accepts only False.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    def __init__(
        self,
        ws: int,
        wt: int,
        wr: int,
        k: int,
        kr: float,
        ps: int,
        nheads: int = 1,
        stride0: int = 4,
        stride1: float = 1,
        strideQ: int | None = None,
        dilation: int = 1,
        pt: int = 1,
        dist_type: str = "l2",
        restricted_radius: bool = True,
        reflect_bounds: bool = True,
        full_ws: bool = True,
        topk_mode: str = "all",
        self_action: str | None = None,
        use_adj: bool = False,
        normalize_bwd: bool = False,
        k_agg: int = -1,
        off_Hq: int = 0,
        off_Wq: int = 0,
        itype: str = "float",
    ) -> None:
        super().__init__()
        _checks.only_default("pt", pt, 1)
        _checks.only_default("normalize_bwd", normalize_bwd, False)
        _checks.one_of("self_action", self_action, SELF_ACTIONS)
        _checks.one_of("topk_mode", topk_mode, ("all", "each"))
        _checks.positive_int("wr", wr)
        self.kr = check_kr(kr)
        self.strideQ = strideQ
        self.options = SearchOptions(
            ws=wr,
            wt=0,
            ps=ps,
            k=k,
            nheads=nheads,
            stride0=stride0,
            stride1=stride1,
            dist_type=dist_type,
            dilation=dilation,
            self_action=None if self_action is None else "anchor_each",
            topk_mode=topk_mode,
            reflect_bounds=reflect_bounds,
            full_ws=full_ws,
            use_adj=use_adj,
            off_Hq=off_Hq,
            off_Wq=off_Wq,
            stride_query=stride0 if strideQ is None else strideQ,
            itype=itype,
            k_agg=k_agg,
        )

    def forward(self, vid0: Tensor, vid1: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
        """Refines `flows`, the offsets that a search of `vid0` in `vid1` returned.

        Args:
            vid0: query video, (B, T, C, H, W) or (B, HD, T, C/HD, H, W); dtypes as for
                `NonLocalSearch`.
            vid1: key video, the same.
            flows: (B, HD, T, nH, nW, Ks, 3) or (B, HD, T nH nW, Ks, 3), offsets (dt, dh, dw) in
                frames and pixels. Entries of 1e8 (itype "int": 1e5) and more, and those that are
                not finite, count as empty: their candidates are infinitely far, with offsets -1e8.

        Returns:
            dists: (B, HD, T, nH, nW, K), float64 for float64 videos, else float32; differentiable
                with respect to the videos and, for itype "float", the offsets.
            inds: (B, HD, T, nH, nW, K, 3), differentiable with respect to the offsets; int32 for
                itype "int".

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

        """
        o = self.options
        layout = "(B, T, C, H, W) or (B, HD, T, C, H, W)"
        query = split_heads(_checks.tensor("vid0", vid0, (5, 6), layout), o.nheads, "vid0")
        key = split_heads(_checks.tensor("vid1", vid1, (5, 6), layout), o.nheads, "vid1")
        query, key = take_videos(query, key, ("vid0", "vid1"))
        if self.strideQ is None:
            check_sizes(query, key)
        layout = "(B, HD, T, nH, nW, Ks, 3) or (B, HD, T nH nW, Ks, 3)"
        flows = _checks.tensor("flows", flows, (5, 7), layout)
        grid = (_ops.grid_size(key.shape[-2], o.stride0), _ops.grid_size(key.shape[-1], o.stride0))
        b, heads, frames = query.shape[:3]
        if flows.ndim == 5:
            flat = (b, heads, frames * grid[0] * grid[1], flows.shape[3], 3)
            _checks.shape("flows", flows, flat, "(B, HD, T nH nW, Ks, 3)", self._note(key))
            flows = flows.unflatten(2, (frames, *grid))
        expected = (b, heads, frames, *grid, flows.shape[5], 3)
        _checks.shape("flows", flows, expected, "(B, HD, T, nH, nW, Ks, 3)", self._note(key))
        return refine(o, self.kr, query, key, flows)

    def _shown_parameters(self) -> dict[str, object]:
        return refinement_parameters(super()._shown_parameters(), self.kr)

    def _windows(self) -> int | None:
        # One earlier match where their number is not known.
        return max(1, kept(self.kr, 1)) if self.kr <= 1 else int(self.kr)


def refinement_parameters(shown: dict[str, object], kr: float) -> dict[str, object]:
    """Parameters for `print(module)`: the window is called wr, and there is no time."""
    del shown["wt"]
    return {"wr": shown.pop("ws"), "kr": kr, **shown}


def refine(
    o: SearchOptions, kr: float, query: Tensor, key: Tensor, prior: Tensor
) -> tuple[Tensor, Tensor]:
    """Refines offsets (B, HD, T, nH, nW, Ks, 3 or 2) of checked shape."""
    entries = prior.shape[-2]
    windows = kept(kr, entries)
    if windows == 0:
        raise StnlsValueError(f"kr={kr} of {entries} matches leaves none to refine")
    o.check_candidates(windows, f"wr={o.ws} and {windows} matches")
    prior = take_places(prior, query, "flows", "vid0", o)
    return o.refine(query, key, prior, windows)
