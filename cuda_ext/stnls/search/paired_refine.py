"""Refining the matches of a pair of frames."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks
from stnls.search._base import RefinementModule
from stnls.search._inputs import take_frames, take_videos
from stnls.search._options import SearchOptions, anchored, only_defaults


class PairedRefine(RefinementModule):
    """Searches a small window around every match that `PairedSearch` found between two frames.

    As `RefineSearch`, without time.

    Args:
        ws: accepted for the order of the arguments; without effect.
        wr, k, kr, ps, nheads, dist_type, stride1, dilation: as for `RefineSearch`.
        stride0: pixels between queries; here the default is 1.
        reflect_bounds, full_ws, self_action, use_adj, k_agg: as for `RefineSearch`.
        topk_mode: as for `RefineSearch`; here the default is ``"each"``.
        off_Hq, off_Wq, itype: as for `RefineSearch`.
        restricted_radius: without effect.
        normalize_bwd: accepts only False.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    _of_pairs = True
    _not_shown = ("wt", "strideQ", "charge")

    def __init__(
        self,
        ws: int,
        wr: int,
        k: int,
        kr: float,
        ps: int,
        nheads: int = 1,
        dist_type: str = "l2",
        stride0: int = 1,
        stride1: float = 1,
        dilation: int = 1,
        restricted_radius: bool = False,
        reflect_bounds: bool = True,
        full_ws: bool = True,
        self_action: str | None = None,
        use_adj: bool = False,
        normalize_bwd: bool = False,
        k_agg: int = -1,
        topk_mode: str = "each",
        off_Hq: int = 0,
        off_Wq: int = 0,
        itype: str = "float",
    ) -> None:
        super().__init__()
        _checks.one_of("topk_mode", topk_mode, ("all", "each"))
        side = _checks.positive_int("wr", wr)
        action = anchored(self_action)
        self._kr = _checks.kr(kr)
        only_defaults(normalize_bwd=normalize_bwd)
        self.options = SearchOptions(
            ws=side,
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
            itype=itype,
            k_agg=k_agg,
        )

    def forward(self, frame0: Tensor, frame1: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Refines `flow`, the offsets that a search of `frame0` in `frame1` returned.

        Args:
            frame0: query frame, (B, C, H, W) or (B, HD, C/HD, H, W); dtypes as for
                `NonLocalSearch`.
            frame1: key frame, the same.
            flow: (B, nH, nW, Ks, 2) or (B, HD, nH, nW, Ks, 2), offsets (dh, dw) in pixels: mind the
                order, which is that of a search's result. Empty entries as for `RefineSearch`.

        Returns:
            dists: (B, HD, nH, nW, K), dtype and gradients as for `RefineSearch`.
            inds: (B, HD, nH, nW, K, 2), offsets (dh, dw) in pixels.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

        """
        o = self.options
        query, key = take_frames(frame0, frame1, o)
        layout = "(B, nH, nW, Ks, 2) or (B, HD, nH, nW, Ks, 2)"
        flow = _checks.tensor("flow", flow, (5, 6), layout)
        if flow.ndim == 5:
            flow = flow.unsqueeze(1).expand(-1, o.nheads, -1, -1, -1, -1)
        before, after = (query.shape[0], o.nheads), (flow.shape[4], 2)
        layout = "(B, HD, nH, nW, Ks, 2)"
        _checks.query_grid("flow", flow, before, after, layout, key.shape[-2:], o.stride0)
        dists, inds = self._refine(query, key, flow.unsqueeze(2), ("flow", "frame0"))
        return dists.squeeze(2), inds.squeeze(2)

    def paired_vids(
        self,
        vid0: Tensor,
        vid1: Tensor,
        flows: Tensor,
        wt: int,
        skip_self: bool = False,
        check_time: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Refines the result of `PairedSearch.paired_vids`, slot by slot.

        Args:
            vid0: query video, (B, T, C, H, W) or (B, HD, T, C/HD, H, W).
            vid1: key video, the same.
            flows: (B, HD, T, nH, nW, S Ks, 3), offsets (dt, dh, dw), a block of Ks for each of the
                S = 2 wt + 1 temporal slots.
            wt: frames before and after the query's own (≥ 0).
            skip_self: slot 0, the own frame, is not in `flows`: S = 2 wt.
            check_time: make sure that dt is that of its slot. That depends on what `flows` holds:
                it waits for the GPU, and torch.compile with ``fullgraph=True`` needs it False.

        Returns:
            dists: (B, HD, T, nH, nW, S K), slot by slot.
            inds: (B, HD, T, nH, nW, S K, 3), offsets (dt, dh, dw).

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                T < 2 wt + 1.

        """
        o = self.options
        _checks.boolean("skip_self", skip_self)
        _checks.boolean("check_time", check_time)
        _checks.positive_int("wt", wt, minimum=1 if skip_self else 0)
        query, key = take_videos(vid0, vid1, o)
        b, heads, frames = query.shape[:3]
        _checks.enough_frames(frames, wt)
        layout = "(B, HD, T, nH, nW, S Ks, 3)"
        flows = _checks.tensor("flows", flows, (7,), layout)
        _checks.numbers("flows", flows)
        before, after = (b, heads, frames), (flows.shape[5], 3)
        _checks.query_grid("flows", flows, before, after, layout, key.shape[-2:], o.stride0)
        slots = 2 * wt if skip_self else 2 * wt + 1
        _checks.equal_slots(flows.shape[5], slots)
        blocks = flows.unflatten(5, (slots, -1))
        if check_time:
            _checks.slot_times(blocks, wt, skip_self)
        names = ("flows", "vid0")
        results = [self._refine(query, key, block, names) for block in blocks.unbind(5)]
        dists, inds = zip(*results, strict=True)
        return torch.cat(dists, 5), torch.cat(inds, 5)
