"""The parameters that the searches share, checked once, and the call of the operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stnls import _checks, _ops
from stnls._errors import StnlsTypeError, StnlsValueError

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

    def __post_init__(self) -> None:
        for name in ("ws", "ps", "nheads", "stride0", "dilation"):
            _checks.positive_int(name, getattr(self, name))
        _checks.positive_int("strideQ", self.stride_query)
        _checks.positive_int("wt", self.wt, minimum=0)
        for name in ("k", "off_Hq", "off_Wq"):
            _checks.any_int(name, getattr(self, name))
        _checks.positive_number("stride1", self.stride1)
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

        candidates = (2 * self.wt + 1) * self.ws**2
        if candidates > 2**24:  # their numbers must be exact in float32
            raise StnlsValueError(
                f"a search has at most 2**24 candidates for each query, but ws={self.ws} and "
                f"wt={self.wt} make {candidates}"
            )

    @property
    def float_grid(self) -> bool:
        """Whether positions are real numbers, read with bilinear interpolation."""
        return self.itype == "float"

    @property
    def entries(self) -> int:
        """K, the number of entries that one query gets."""
        keep, k = self._keep()
        first_slot, action = SELF_ACTIONS[self.self_action]
        return _ops.entry_count(
            ws=self.ws, wt=self.wt, k=k, keep=keep, self_action=action, first_slot=first_slot
        )

    def _keep(self) -> tuple[str, int]:
        """The operator's `keep` and `k`: no more entries than there are candidates."""
        if self.k <= 0:
            return "every", 0
        area = self.ws * self.ws
        if self.topk_mode == "each":
            return "each", min(self.k, area)
        first_slot, action = SELF_ACTIONS[self.self_action]
        candidates = (2 * self.wt + 1 - first_slot) * area - (1 if action == "remove" else 0)
        return "all", min(self.k, candidates)

    def run(
        self, query: Tensor, key: Tensor, flow: Tensor | None, *, with_time: bool
    ) -> tuple[Tensor, Tensor]:
        """Calls the operator on (B, HD, T, C, H, W) videos and (B, HD, T, S, 2, nH, nW) flow."""
        if flow is not None and not self.float_grid:
            # Rounded as it is given: a narrower dtype could move it to a half first.
            flow = (flow.round() if flow.is_floating_point() else flow).to(query.dtype)
        first_slot, action = SELF_ACTIONS[self.self_action]
        keep, k = self._keep()
        dists, inds = _ops.search(
            query,
            key,
            flow,
            self.ws,
            self.wt,
            self.ps,
            k,
            keep,
            action,
            first_slot,
            self.stride0,
            # The integer grid truncates, as the original does.
            float(self.stride1) if self.float_grid else float(max(1, int(self.stride1))),
            self.stride_query,
            self.dist_type,
            self.dilation,
            self.reflect_bounds,
            self.full_ws,
            self.use_adj,
            self.off_Hq,
            self.off_Wq,
            self.float_grid,
            with_time,
            False,
        )
        return dists, inds


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


def check_videos(query: Tensor, key: Tensor, names: tuple[str, str]) -> None:
    """Device, dtype and sizes of the two videos of a search, (B, HD, T, C, H, W)."""
    _checks.same_place(names[0], query, names[1], key)
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


def check_flow(
    flow: Tensor, query: Tensor, name: str, video_name: str, options: SearchOptions
) -> None:
    """Device and dtype of the flow of a search."""
    _checks.same_place(name, flow, video_name, query)
    if options.float_grid:
        _checks.same_dtype(name, flow, video_name, query)
    elif flow.dtype == torch.bool or flow.is_complex():
        raise StnlsTypeError(f"{name} must be a tensor of numbers, not {flow.dtype}")
    if flow.shape[1] == 0:
        raise StnlsValueError(f"{name} must have at least one head, not 0: {tuple(flow.shape)}")


def check_sizes(query: Tensor, key: Tensor) -> None:
    """Without a stride of its own, the query video lies on the pixels of the key video."""
    if query.shape[-2:] != key.shape[-2:]:
        raise StnlsValueError(
            f"query and key frames must have one size unless strideQ is given, not "
            f"{tuple(query.shape[-2:])} and {tuple(key.shape[-2:])}"
        )
