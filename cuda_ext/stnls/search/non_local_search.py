"""The Shifted Non-Local Search over a video."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import grid_shape
from stnls._read_only import ReadOnly
from stnls.nn.search_flow import search_flow
from stnls.search._base import SearchModule, bytes_computed_in
from stnls.search._inputs import search_videos
from stnls.search._options import SearchOptions, only_defaults


class NonLocalSearch(SearchModule):
    r"""Finds, for every query patch of a video, its K best matches in space and time.

    For the query at pixel :math:`x = (i, j) \cdot` ``stride0`` of frame :math:`t` and every
    temporal slot :math:`s`, the window is a grid of ``ws`` × ``ws`` positions, ``stride1`` pixels
    apart, around :math:`x + f_s(x)`, the place that optical flow predicts in the slot's frame
    (reflected at the border). The distance of a position :math:`y` is

    .. math:: d(x, y) = \sum_{p} \sum_{c} \left(q_c(x + p) - k_c(y + p)\right)^2

    over the ``ps`` × ``ps`` taps :math:`p` of the patch (``dist_type="l2"``), or the sum of
    products (``"prod"``, larger is better): a plain sum, neither divided nor rooted. Gauen & Chan,
    arXiv 2309.16849. Only the K best are kept while the window is scanned: memory is inputs plus
    outputs.

    Temporal slots: slot 0 is the query's own frame, then the frames after it, then those before it;
    at the ends of the video the ``2 wt + 1`` frames slide inward. A video needs at least that many.

    Args:
        ws: positions along each side of the window (≥ 1; an even window has one more on the
            bottom/right). A query has at most 2²⁴ candidates, (2 wt + 1) ws².
        wt: frames before and after the query's own (≥ 0).
        ps: taps along each side of the patch (≥ 1; an even patch has one more on the top/left).
        k: number of matches to return, or as many as there are candidates if these are fewer; 0 or
            less returns every candidate in raster order (slot, window row, window column).
        nheads: heads (≥ 1); channels of a 5-D video are split head-major.
        stride0: pixels between queries (≥ 1).
        stride1: pixels between positions of the window (> 0, at most 1e6); on the integer grid it
            is truncated to a whole number, at least 1.
        dist_type: ``"l2"`` (smallest first) or ``"prod"`` (largest first).
        dilation: pixels between the taps of a patch (≥ 1).
        pt: patches have no extent in time; accepts only 1.
        self_action: ``None``; ``"anchor"``: the query's own position comes first, whatever its
            distance (where flow for slot 0 leads away from it, the nearest candidate on the real
            grid, the first on the integer grid); ``"anchor_each"``: the position that flow predicts
            comes first in its slot; ``"remove"``: the own position is left out;
            ``"remove_ref_frame"``: the own frame is left out; ``"anchor_and_remove_ref_frame"``:
            the own frame is left out, and the others are treated as by ``"anchor_each"``;
            ``"anchor_self"`` is ``"anchor"``.
        topk_mode: ``"all"``: the k best over all slots; ``"each"``: the k best of each slot, slot
            by slot; ``"none"``: every candidate (k must be 0 or less).
        ws_interior: accepts only 0.
        reflect_bounds: read taps outside the frame at their mirror image; otherwise pairs of taps
            of which one is outside are left out of the sum.
        full_ws: move windows that leave the frame back inside, by whole steps.
        use_adj: patches start at their position instead of being centred on it.
        normalize_bwd: accepts only False.
        k_agg: gradients reach only the first ``k_agg`` neighbours (0 or less: all).
        off_Hq, off_Wq: shift of the query patch in pixels (rows, columns).
        strideQ: pixels between queries in the query video, if it has another size than the key
            video (default: ``stride0``).
        itype: ``"float"``: real positions, bilinear reads; ``"int"``: flow is rounded (half to
            even).

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    ws = ReadOnly[int]()
    wt = ReadOnly[int]()
    topk_mode = ReadOnly[str]()
    strideQ = ReadOnly["int | None"]()  # noqa: N815 - the original's name

    def __init__(
        self,
        ws: int,
        wt: int,
        ps: int = 1,
        k: int = -1,
        nheads: int = 1,
        stride0: int = 1,
        stride1: float = 1,
        dist_type: str = "l2",
        dilation: int = 1,
        pt: int = 1,
        self_action: str | None = None,
        topk_mode: str = "all",
        ws_interior: int = 0,
        reflect_bounds: bool = True,
        full_ws: bool = True,
        use_adj: bool = False,
        normalize_bwd: bool = False,
        k_agg: int = -1,
        off_Hq: int = 0,
        off_Wq: int = 0,
        strideQ: int | None = None,
        itype: str = "float",
    ) -> None:
        super().__init__()
        only_defaults(pt=pt, ws_interior=ws_interior, normalize_bwd=normalize_bwd)
        self.options = SearchOptions(
            ws=ws,
            wt=wt,
            ps=ps,
            k=k,
            nheads=nheads,
            stride0=stride0,
            stride1=stride1,
            dist_type=dist_type,
            dilation=dilation,
            self_action=self_action,
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

    def forward(
        self,
        vid0: Tensor,
        vid1: Tensor,
        *flow: Tensor | None,
        flows: Tensor | None = None,
        fflow: Tensor | None = None,
        bflow: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Searches for the patches of `vid0` in `vid1`.

        Called as ``(vid0, vid1, flows)``, ``(vid0, vid1, fflow, bflow)`` or ``(vid0, vid1)``;
        ``flows``, ``fflow`` and ``bflow`` may be given by name.

        Args:
            vid0: query video, (B, T, C, H, W) or (B, HD, T, C/HD, H, W); float32 or float64, or
                float16 or bfloat16, which are computed in float32 (as are their flows).
            vid1: key video, the same.
            flow: nothing or None (zero flow); or one tensor ``flows``, (B, T, S, 2, nH, nW) or
                (B, HD_f, T, S, 2, nH, nW), channel 0 = dx, 1 = dy in pixels, for the 2 wt slots
                after the own frame or for all 2 wt + 1, on the grid of queries
                (nH = (H - 1) // stride0 + 1), where head hd uses head hd modulo HD_f ≤ HD; or
                ``fflow`` and ``bflow``, (B, T, 2, H, W), the flow to the next and to the previous
                frame (see `stnls.nn.search_flow`). A flow that is not finite makes the slot's
                candidates invalid.

        Returns:
            dists: (B, HD, T, nH, nW, K), float64 for float64 videos, else float32; +inf ("l2") or
                -inf ("prod") marks a position outside the frame. Differentiable with respect to the
                videos and, for itype "float", the flow.
            inds: (B, HD, T, nH, nW, K, 3), the offsets (dt, dh, dw) from query to match, in frames
                and pixels; int32 for itype "int", else the dtype of dists, and differentiable with
                respect to the flow (dh, dw).

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                T < 2 wt + 1.

        """
        o = self.options
        if all(x is None for x in flow):  # as where None is given by name
            flow = ()
        given: tuple[Any, ...] = (*flow, *(x for x in (flows, fflow, bflow) if x is not None))
        _checks.flow_by_name(given, len(flow) > 0, flows, fflow, bflow)
        slots = (2 * o.wt, 2 * o.wt + 1)
        if len(given) == 2:
            _checks.neighbour_flow(given[0], vid0, vid1)
            given = (search_flow(given[0], given[1], o.wt, o.stride0),)
        layout = "(B, T, S, 2, nH, nW) or (B, HD, T, S, 2, nH, nW)"
        if given and isinstance(given[0], Tensor) and given[0].ndim == 5:
            layout += ", or fflow and bflow of shape (B, T, 2, H, W) be given together"
        places = _checks.tensor("flows", given[0], (6, 7), layout) if given else None
        return search_videos(o, vid0, vid1, places, slots=slots)

    def memory(
        self,
        B: int,
        T: int,
        C: int,
        H: int,
        W: int,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
        composed: bool = False,
    ) -> int:
        """Bytes that a call allocates, for contiguous videos (B, T, C, H, W): its results.

        Candidates are never stored. float16 and bfloat16 videos are copied to float32 first. A
        copy of given flow in another dtype is not counted.

        Args:
            B, T, C, H, W: sizes of the videos.
            dtype: of the videos.
            device: "cuda" adds the scratch memory of a call on the GPU: on the real grid with
                "l2" up to 12 bytes for each pixel of the key and each head (where few
                matches are kept, with stride0 = 1, two for each match; none for most searches with
                ps = 1), otherwise next to nothing.
            composed: the call is ``(vid0, vid1, fflow, bflow)``, with both flows of this dtype:
                count the flow of 2 wt slots that it composes too, with all its copies.

        Raises:
            StnlsError: (also TypeError or RuntimeError) for a dtype that videos cannot have, and
                for "cuda" where those kernels are not built.

        """
        results = super().memory(B, T, C, H, W, dtype, device=device)
        if not _checks.boolean("composed", composed):
            return results
        o = self.options
        real = bytes_computed_in(dtype)
        rows, columns = grid_shape((H, W), o.stride0)
        flow = B * T * 2 * o.wt * 2 * rows * columns * real
        copies = 2 * B * T * 2 * H * W * real if dtype.itemsize == 2 else 0
        return results + copies + flow
