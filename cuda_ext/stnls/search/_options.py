"""The parameters that the searches share, checked once, and the call of the operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stnls import _checks, _ops, _precision
from stnls._errors import StnlsTypeError, StnlsValueError
from stnls._ops import SearchSettings

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


INTEGERS = (
    *("ws", "wt", "ps", "k", "nheads", "stride0", "dilation", "off_Hq", "off_Wq"),
    *("stride_query", "k_agg"),
)
MOST_CANDIDATES = 2**24
EMPTY_OFFSET = -100000000
"""Offset of an entry that is empty."""


@dataclass(frozen=True)
class SearchOptions:
    """Parameters of one search, with the names of the public classes."""

    ws: int
    wt: int
    ps: int
    k: int
    nheads: int
    stride0: int
    stride1: float
    dist_type: str
    dilation: int
    self_action: str | None
    topk_mode: str
    reflect_bounds: bool
    full_ws: bool
    use_adj: bool
    off_Hq: int  # noqa: N815 - the original's name
    off_Wq: int  # noqa: N815
    stride_query: int
    itype: str
    k_agg: int = -1

    def __post_init__(self) -> None:
        _checks.positive_int("wt", self.wt, minimum=0)
        for name in ("ws", "ps", "nheads", "stride0", "dilation"):
            _checks.positive_int(name, getattr(self, name))
        _checks.positive_int("strideQ", self.stride_query)
        for name in INTEGERS:  # those of NumPy become Python's
            object.__setattr__(self, name, _checks.any_int(name, getattr(self, name)))
        for name in ("reflect_bounds", "full_ws", "use_adj"):
            _checks.boolean(name, getattr(self, name))
        _checks.positive_number("stride1", self.stride1, maximum=1e6)
        _checks.one_of("dist_type", self.dist_type, ("l2", "prod"))
        _checks.one_of("itype", self.itype, ("float", "int"))
        _checks.one_of("self_action", self.self_action, tuple(SELF_ACTIONS))
        _checks.one_of("topk_mode", self.topk_mode, ("all", "each", "none"))
        if self.topk_mode == "none" and self.k > 0:
            raise StnlsValueError(
                f'topk_mode="none" returns every candidate: k must be 0 or less, not {self.k}'
            )
        if self.self_action == "remove" and self.topk_mode == "each":
            raise StnlsValueError(
                'self_action="remove" leaves slots of unequal length: '
                'topk_mode must be "all" or "none", not "each"'
            )
        first_slot, _ = SELF_ACTIONS[self.self_action]
        if first_slot > 2 * self.wt:
            raise StnlsValueError(
                f'self_action="{self.self_action}" leaves out the query\'s own frame: '
                f"wt must be at least 1, not {self.wt}"
            )

        self.check_candidates(2 * self.wt + 1, f"ws={self.ws} and wt={self.wt}")

    @property
    def float_grid(self) -> bool:
        """Whether positions are real numbers, read with bilinear interpolation."""
        return self.itype == "float"

    def check_candidates(self, windows: int, what: str) -> None:
        """No more candidates than can be numbered (in float32 among other places)."""
        candidates = windows * self.ws**2
        if candidates > MOST_CANDIDATES:
            raise StnlsValueError(
                f"a search has at most 2**24 candidates for each query, but {what} "
                f"make {candidates}"
            )

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
            # The integer grid truncates, as the original does.
            stride1=float(self.stride1) if self.float_grid else float(max(1, int(self.stride1))),
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
        self, query: Tensor, key: Tensor, flow: Tensor | None, *, with_time: bool
    ) -> tuple[Tensor, Tensor]:
        """Searches (B, HD, T, C, H, W) videos around (B, HD, T, S, 2, nH, nW) flow."""
        if flow is not None and not self.float_grid:
            # Rounded as it is given: a narrower dtype could move it to a half first.
            flow = flow.detach()
            flow = (flow.round() if flow.is_floating_point() else flow).to(query.dtype)
        settings = self.settings(with_time=with_time)
        dists, inds = _ops.search(query, key, flow, *settings)
        return dists, inds

    def refine(
        self, query: Tensor, key: Tensor, prior: Tensor, windows: int
    ) -> tuple[Tensor, Tensor]:
        """Searches around the first `windows` entries of (B, HD, T, nH, nW, Ks, 3 or 2)."""
        with_time = prior.shape[-1] == 3
        settings = self.settings(with_time=with_time, windows=windows)
        if not self.float_grid:
            prior = integer_offsets(prior, query.dtype)
        dists, inds, _ = _ops.refine(query, key, prior, windows, *settings)
        return dists, inds


def integer_offsets(inds: Tensor, dtype: torch.dtype) -> Tensor:
    """Offsets on the integer grid, int32; what int32 does not hold becomes the mark of an empty
    entry. Reals are rounded half to even in `dtype`."""
    if inds.is_floating_point():
        inds = torch.nan_to_num(inds.detach().round().to(dtype), nan=EMPTY_OFFSET)
    elif inds.dtype != torch.int64:
        return inds.to(torch.int32)
    return inds.clamp(EMPTY_OFFSET, -EMPTY_OFFSET).to(torch.int32)


def split_heads(video: Tensor, nheads: int, name: str) -> Tensor:
    """(..., C, H, W) channels, head-major, as a view with a dimension of heads in front of T.

    Takes (B, T, C, H, W), or (B, HD, T, C, H, W) as it is; a pair's frames come with T = 1.
    """
    if video.ndim == 6:
        if video.shape[1] != nheads:
            raise StnlsValueError(
                f"{name} has {video.shape[1]} heads (dimension 1), but nheads={nheads}"
            )
        return video
    channels = video.shape[2]
    if channels % nheads != 0:
        raise StnlsValueError(
            f"{name} has {channels} channels, which nheads={nheads} does not divide"
        )
    heads: Tensor = video.unflatten(2, (nheads, channels // nheads))
    return heads.transpose(1, 2)


def take_videos(query: Tensor, key: Tensor, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """The two videos of a search, (B, HD, T, C, H, W), in the dtype to compute in; checks their
    device, dtype and sizes."""
    _checks.same_place(names[0], query, names[1], key)
    query, key = _precision.unified(query, key)
    _checks.real_dtype(names[0], query)
    _checks.same_dtype(names[0], query, names[1], key)
    for name, video in zip(names, (query, key), strict=True):
        _checks.not_empty_frames(name, video)
    _checks.same(
        "batch, heads, frames and channels",
        names[0],
        tuple(query.shape[:4]),
        names[1],
        tuple(key.shape[:4]),
    )
    return _precision.widened(query), _precision.widened(key)


def take_places(
    places: Tensor, query: Tensor, name: str, video_name: str, options: SearchOptions
) -> Tensor:
    """Flow, or the entries to refine, in the dtype of the (widened) query; checks its device and
    dtype."""
    _checks.same_place(name, places, video_name, query)
    if options.float_grid:
        places = _precision.widened(places)
        if not places.is_floating_point() and not places.is_complex():
            places = places.to(query.dtype)  # offsets of a search on the integer grid
        if torch.is_autocast_enabled(query.device.type) and places.is_floating_point():
            places = places.to(query.dtype)
        _checks.same_dtype(name, places, video_name, query)
    elif places.dtype == torch.bool or places.is_complex():
        raise StnlsTypeError(f"{name} must be a tensor of numbers, not {places.dtype}")
    if places.shape[1] == 0:
        raise StnlsValueError(f"{name} must have at least one head, not 0: {tuple(places.shape)}")
    return places


def kept(kr: float, entries: int) -> int:
    """How many of an earlier search's entries are refined: `kr` as a number of them, as a share of
    them (a float up to 1), or all of them (0 or less)."""
    if kr <= 0:
        return entries
    if isinstance(kr, float) and kr <= 1:
        return int(entries * kr)
    return min(int(kr), entries)


def check_kr(kr: object) -> float:
    """`kr` as it is: an int, or a float up to 1."""
    if isinstance(kr, bool) or not isinstance(kr, (int, float)):
        raise StnlsTypeError(f"kr must be an int, or a float up to 1, not {kr!r}")
    if not abs(kr) < 2**31:
        raise StnlsValueError(f"kr must be a number of entries or a share of them, not {kr}")
    if isinstance(kr, float) and kr > 1 and kr != int(kr):
        raise StnlsValueError(f"kr must be a whole number of entries or a share up to 1, not {kr}")
    return kr


def check_sizes(query: Tensor, key: Tensor) -> None:
    """Without a stride of its own, the query video lies on the pixels of the key video."""
    if query.shape[-2:] != key.shape[-2:]:
        raise StnlsValueError(
            f"query and key frames must have one size unless strideQ is given, not "
            f"{tuple(query.shape[-2:])} and {tuple(key.shape[-2:])}"
        )


def search_videos(
    o: SearchOptions,
    vid0: Tensor,
    vid1: Tensor,
    flows: Tensor | None,
    *,
    slots: tuple[int, ...],
    one_size: bool = True,
) -> tuple[Tensor, Tensor]:
    """Checks the tensors of a video search, and searches; `slots`: how many a flow may have."""
    layout = "(B, T, C, H, W) or (B, HD, T, C, H, W)"
    query = split_heads(_checks.tensor("vid0", vid0, (5, 6), layout), o.nheads, "vid0")
    key = split_heads(_checks.tensor("vid1", vid1, (5, 6), layout), o.nheads, "vid1")
    query, key = take_videos(query, key, ("vid0", "vid1"))
    if one_size:
        check_sizes(query, key)
    _checks.enough_frames(query.shape[2], o.wt)
    if flows is not None:
        layout = "(B, T, S, 2, nH, nW) or (B, HD, T, S, 2, nH, nW)"
        flows = _checks.tensor("flows", flows, (6, 7), layout)
        if flows.ndim == 6:
            flows = flows.unsqueeze(1)
        flows = take_places(flows, query, "flows", "vid0", o)
        expected = (
            query.shape[0],
            flows.shape[1],
            query.shape[2],
            slots,
            2,
            _ops.grid_size(key.shape[-2], o.stride0),
            _ops.grid_size(key.shape[-1], o.stride0),
        )
        note = _checks.grid_note(o.stride0, *key.shape[-2:])
        _checks.shape("flows", flows, expected, "(B, HD, T, S, 2, nH, nW)", note)
    return o.run(query, key, flows, with_time=True)
