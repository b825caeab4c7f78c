"""Refining the matches of an earlier search."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks
from stnls._read_only import ReadOnly
from stnls.search._base import RefinementModule
from stnls.search._inputs import take_videos
from stnls.search._options import SearchOptions, anchored, only_defaults


class RefineSearch(RefinementModule):
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

    _not_shown = ("wt", "charge")
    strideQ = ReadOnly["int | None"]()  # noqa: N815 - the original's name

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
        _checks.one_of("topk_mode", topk_mode, ("all", "each"))
        side = _checks.positive_int("wr", wr)
        action = anchored(self_action)
        self._kr = _checks.kr(kr)
        only_defaults(pt=pt, normalize_bwd=normalize_bwd)
        self.options = SearchOptions(
            ws=side,
            wt=0,
            ps=ps,
            k=k,
            nheads=nheads,
            stride0=stride0,
            stride1=stride1,
            dist_type=dist_type,
            dilation=dilation,
            self_action=action,
            topk_mode=topk_mode,
            reflect_bounds=reflect_bounds,
            full_ws=full_ws,
            use_adj=use_adj,
            off_Hq=off_Hq,
            off_Wq=off_Wq,
            strideQ=strideQ,
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
        query, key = take_videos(vid0, vid1, o)
        flows = _checks.tensor(
            "flows", flows, (5, 7), "(B, HD, T, nH, nW, Ks, 3) or (B, HD, T nH nW, Ks, 3)"
        )
        b, heads, frames = query.shape[:3]
        if flows.ndim == 5:
            rows, columns = o.grid(key)
            flat = (b, heads, frames * rows * columns, flows.shape[3], 3)
            _checks.shape(
                "flows",
                flows,
                flat,
                "(B, HD, T nH nW, Ks, 3)",
                lambda: _checks.grid_note(key.shape[-2:], o.stride0),
            )
            flows = flows.unflatten(2, (frames, rows, columns))
        before, after = (b, heads, frames), (flows.shape[5], 3)
        layout = "(B, HD, T, nH, nW, Ks, 3)"
        _checks.query_grid("flows", flows, before, after, layout, key.shape[-2:], o.stride0)
        return self._refine(query, key, flows, ("flows", "vid0"))
