"""Refining the matches of a pair of frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stnls import _checks, _ops
from stnls._errors import StnlsValueError
from stnls._positions import slot_frames
from stnls.search._base import SearchModule
from stnls.search._options import (
    SearchOptions,
    check_kr,
    check_sizes,
    kept,
    split_heads,
    take_videos,
)
from stnls.search.refine_search import SELF_ACTIONS, refine, refinement_parameters


class PairedRefine(SearchModule):
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
        _checks.only_default("normalize_bwd", normalize_bwd, False)
        _checks.one_of("self_action", self_action, SELF_ACTIONS)
        _checks.one_of("topk_mode", topk_mode, ("all", "each"))
        _checks.positive_int("wr", wr)
        self.kr = check_kr(kr)
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
            stride_query=stride0,
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
        query, key = self._heads(frame0, "frame0"), self._heads(frame1, "frame1")
        query, key = take_videos(query, key, ("frame0", "frame1"))
        check_sizes(query, key)
        layout = "(B, nH, nW, Ks, 2) or (B, HD, nH, nW, Ks, 2)"
        flow = _checks.tensor("flow", flow, (5, 6), layout)
        if flow.ndim == 5:
            flow = flow.unsqueeze(1).expand(-1, o.nheads, -1, -1, -1, -1)
        grid = (_ops.grid_size(key.shape[-2], o.stride0), _ops.grid_size(key.shape[-1], o.stride0))
        expected = (query.shape[0], o.nheads, *grid, flow.shape[4], 2)
        _checks.shape("flow", flow, expected, "(B, HD, nH, nW, Ks, 2)", self._note(key))
        dists, inds = refine(o, self.kr, query, key, flow.unsqueeze(2))
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
            check_time: make sure that dt is that of its slot (waits for the GPU).

        Returns:
            dists: (B, HD, T, nH, nW, S K), slot by slot.
            inds: (B, HD, T, nH, nW, S K, 3), offsets (dt, dh, dw).

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                T < 2 wt + 1.

        """
        o = self.options
        _checks.positive_int("wt", wt, minimum=1 if skip_self else 0)
        layout = "(B, T, C, H, W) or (B, HD, T, C, H, W)"
        query = split_heads(_checks.tensor("vid0", vid0, (5, 6), layout), o.nheads, "vid0")
        key = split_heads(_checks.tensor("vid1", vid1, (5, 6), layout), o.nheads, "vid1")
        query, key = take_videos(query, key, ("vid0", "vid1"))
        check_sizes(query, key)
        b, heads, frames = query.shape[:3]
        _checks.enough_frames(frames, wt)
        flows = _checks.tensor("flows", flows, (7,), "(B, HD, T, nH, nW, S Ks, 3)")
        grid = (_ops.grid_size(key.shape[-2], o.stride0), _ops.grid_size(key.shape[-1], o.stride0))
        expected = (b, heads, frames, *grid, flows.shape[5], 3)
        _checks.shape("flows", flows, expected, "(B, HD, T, nH, nW, S Ks, 3)", self._note(key))
        slots = 2 * wt if skip_self else 2 * wt + 1
        if flows.shape[5] == 0 or flows.shape[5] % slots != 0:
            raise StnlsValueError(
                f"flows has {flows.shape[5]} matches, which do not make {slots} equal slots"
            )
        blocks = flows.unflatten(5, (slots, -1))
        if check_time:
            _check_time(blocks, wt, skip_self)
        results = [refine(o, self.kr, query, key, block) for block in blocks.unbind(5)]
        dists, inds = zip(*results, strict=True)
        return torch.cat(dists, 5), torch.cat(inds, 5)

    def _shown_parameters(self) -> dict[str, object]:
        return refinement_parameters(super()._shown_parameters(), self.kr)

    def _windows(self) -> int | None:
        return max(1, kept(self.kr, 1)) if self.kr <= 1 else int(self.kr)

    def _components(self) -> int:
        return 2

    def _shape(self, b: int, t: int, c: int, h: int, w: int) -> Sequence[int]:
        heads = self.options.nheads
        return (b * t, heads, 1, c // heads, h, w)

    def _heads(self, frame: Tensor, name: str) -> Tensor:
        """(B, C, H, W) or (B, HD, C, H, W) as (B, HD, 1, C, H, W)."""
        frame = _checks.tensor(name, frame, (4, 5), "(B, C, H, W) or (B, HD, C, H, W)")
        with_time = frame.unsqueeze(1) if frame.ndim == 4 else frame.unsqueeze(2)
        return split_heads(with_time, self.options.nheads, name)


def _check_time(blocks: Tensor, wt: int, skip_self: bool) -> None:
    """Every dt of (B, HD, T, nH, nW, S, Ks, 3) is that of its slot, or that of an empty entry."""
    frames = blocks.shape[2]
    first = 1 if skip_self else 0
    table = [[frame - t for frame in slot_frames(t, wt, frames)[first:]] for t in range(frames)]
    wanted = torch.tensor(table, device=blocks.device).view(1, 1, frames, 1, 1, -1, 1)
    dt = blocks.detach()[..., 0]
    empty = ~(dt.abs() < 1e7)
    wrong = (dt.round() != wanted) & ~empty
    if bool(wrong.any()):
        at = wrong.nonzero()[0].tolist()
        found = dt[tuple(at)].item()
        raise StnlsValueError(
            f"flows has dt={found:g} at frame {at[2]} in slot {at[5] + first}, which belongs to "
            f"dt={table[at[2]][at[5]]}"
        )
