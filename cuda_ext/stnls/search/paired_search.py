"""The Shifted Non-Local Search between two frames."""

from __future__ import annotations

from dataclasses import asdict, replace

from torch import Tensor

from stnls import _checks, _heads
from stnls._read_only import ReadOnly
from stnls.search._base import SearchModule
from stnls.search._inputs import search_videos, take_frames, take_places
from stnls.search._options import SearchOptions, anchored, only_defaults


class PairedSearch(SearchModule):
    """Finds, for every query patch of one frame, its K best matches in another frame.

    The window and the distance are those of `NonLocalSearch`, for one pair of frames.

    Args:
        ws, ps, k, nheads, dist_type: as for `NonLocalSearch`.
        stride0: pixels between queries; mind the default, 4.
        stride1, dilation, reflect_bounds, full_ws, use_adj: as for `NonLocalSearch`.
        k_agg, off_Hq, off_Wq, itype: as for `NonLocalSearch`.
        pt: accepts only 1.
        self_action: ``None``, or ``"anchor"`` / ``"anchor_each"``: the position that flow predicts
            comes first, whatever its distance.
        normalize_bwd: accepts only False.
        charge: what leaving the flow costs, for each squared pixel (0 to 1e12). Candidates are
            kept, and come, in the order of

                d / (c ps ps) + charge r r        (products: -d / (c ps ps) + charge r r),

            d the distance, c the channels of a head and r the pixels from the window's centre: the
            place that flow predicts, reflected into the frame, for itype "int" rounded. For squared
            differences that is the negative logarithm of the posterior where the flow's error is
            Gaussian. `dists` are the distances alone, but for the rounding of the sum, and have the
            gradients that they have without it. Of no effect where all candidates are asked for.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    _of_pairs = True
    _not_shown = ("wt", "topk_mode", "strideQ")

    ws = ReadOnly[int]()
    charge = ReadOnly[float]()

    def __init__(
        self,
        ws: int,
        ps: int,
        k: int,
        nheads: int = 1,
        dist_type: str = "l2",
        stride0: int = 4,
        stride1: float = 1,
        dilation: int = 1,
        pt: int = 1,
        reflect_bounds: bool = True,
        full_ws: bool = True,
        self_action: str | None = None,
        use_adj: bool = False,
        normalize_bwd: bool = False,
        k_agg: int = -1,
        off_Hq: int = 0,
        off_Wq: int = 0,
        itype: str = "float",
        *,
        charge: float = 0.0,
    ) -> None:
        super().__init__()
        only_defaults(pt=pt, normalize_bwd=normalize_bwd)
        self.options = SearchOptions(
            ws=ws,
            ps=ps,
            k=k,
            nheads=nheads,
            stride0=stride0,
            stride1=stride1,
            dist_type=dist_type,
            dilation=dilation,
            self_action=anchored(self_action),
            reflect_bounds=reflect_bounds,
            full_ws=full_ws,
            use_adj=use_adj,
            off_Hq=off_Hq,
            off_Wq=off_Wq,
            itype=itype,
            k_agg=k_agg,
            charge=charge,
        )

    def forward(self, frame0: Tensor, frame1: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Searches for the patches of `frame0` in `frame1`.

        There are HD = max(HD_v, HD_f) heads: head hd takes head hd modulo HD_v of the frames and
        head hd modulo HD_f of the flow.

        Args:
            frame0: query frame, (B, C, H, W) or (B, HD_v, C/HD_v, H, W); dtypes as for
                `NonLocalSearch`. HD_v is ``nheads``; where that is 1, frames may come with any
                number of heads.
            frame1: key frame, the same.
            flow: (B, 2, nH, nW) or (B, HD_f, 2, nH, nW), channel 0 = dx, 1 = dy in pixels, on the
                grid of queries. Where it is not finite, all candidates are invalid.

        Returns:
            dists: (B, HD, nH, nW, K), float64 for float64 frames, else float32; infinite for
                invalid positions. Both results are differentiable as those of `NonLocalSearch`.
            inds: (B, HD, nH, nW, K, 2), the offsets (dh, dw) from query to match in pixels; int32
                for itype "int", else the dtype of dists.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

        """
        query, key, flow = self._inputs(frame0, frame1, flow)
        dists, inds = self.options.run(query, key, flow, with_time=False)
        return dists.squeeze(2), inds.squeeze(2)

    def subpixel(
        self, frame0: Tensor, frame1: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same search, and where between the positions of the grid the best matches lie.

        They move as `subpixel_offsets` would move them with the search's step (``stride1``; on the
        integer grid its whole part, at least 1). On the CPU both together take two thirds of the
        time, since the search knows most of the distances that this asks for. For searches for the
        best matches (``k`` > 0) of every pixel (``stride0=1``) by squared differences with one
        head, without ``dilation``, ``use_adj`` and offsets of the window, and with
        ``reflect_bounds``.

        Args:
            frame0, frame1, flow: as for the search itself.

        Returns:
            dists: (B, 1, H, W, K), those of the search itself.
            inds: (B, 1, H, W, K, 2), the same.
            moved: (B, H, W, 2), the offset (dh, dw) of the best match of each pixel, float64 for
                float64 frames, else float32: that of ``inds[:, 0, :, :, 0]``, moved by at most 3/4
                of a step along each axis. It has no gradient.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                searches of another kind.

        """
        _checks.movable(asdict(self.options), self.options.k)
        query, key, flow = self._inputs(frame0, frame1, flow)
        _checks.one_head("subpixel()", query.shape[1])
        dists, inds, moved = self.options.run_subpixel(query, key, flow)
        return dists.squeeze(2), inds.squeeze(2), moved

    def _inputs(
        self, frame0: Tensor, frame1: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames and flow as the operators take them, (B, HD, 1, C, H, W)."""
        o = self.options
        query, key = take_frames(frame0, frame1, o, own_heads=True)
        layout = "(B, 2, nH, nW) or (B, HD, 2, nH, nW)"
        flow = _checks.tensor("flow", flow, (4, 5), layout)
        if flow.ndim == 4:
            flow = flow.unsqueeze(1)
        flow = take_places(flow, query, "flow", "frame0", o)
        before, layout = (query.shape[0], flow.shape[1], 2), "(B, HD, 2, nH, nW)"
        _checks.query_grid("flow", flow, before, (), layout, key.shape[-2:], o.stride0)
        heads = max(query.shape[1], flow.shape[1])
        query, key = _heads.repeat(query, heads), _heads.repeat(key, heads)
        return query, key, flow[:, :, None, None]

    def paired_vids(
        self, vid0: Tensor, vid1: Tensor, flows: Tensor, wt: int, skip_self: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Searches every frame of a video in every frame of its temporal window.

        The result is that of `NonLocalSearch` with ``topk_mode="each"``; a charge counts in every
        frame.

        Args:
            vid0: query video, (B, T, C, H, W) or (B, HD, T, C/HD, H, W).
            vid1: key video, the same.
            flows: (B, T, 2 wt, 2, nH, nW) or (B, HD_f, T, 2 wt, 2, nH, nW), flow for the slots
                after the own frame, as `stnls.nn.search_flow` returns it; the own has none. Heads
                as for `NonLocalSearch`: HD_f ≤ HD.
            wt: frames before and after the query's own (≥ 0).
            skip_self: leave out the query's own frame.

        Returns:
            dists: (B, HD, T, nH, nW, S K), slot by slot, S = 2 wt + 1 slots (one less with
                `skip_self`).
            inds: (B, HD, T, nH, nW, S K, 3), the offsets (dt, dh, dw).

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                T < 2 wt + 1.

        """
        _checks.boolean("skip_self", skip_self)
        _checks.positive_int("wt", wt, minimum=1 if skip_self else 0)
        o = replace(self.options, wt=wt, topk_mode="each" if self.options.k > 0 else "all")
        if skip_self:
            action = "remove_ref_frame"
            if o.self_action is not None:
                action = "anchor_and_remove_ref_frame"
            o = replace(o, self_action=action)
        return search_videos(o, vid0, vid1, flows, slots=(2 * wt,))
