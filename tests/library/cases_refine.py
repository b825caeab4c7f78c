"""Random problems for `RefineSearch` and `PairedRefine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import stnls
import torch
from cases import SIZES, Operator, Pick, draw_layout, draw_values
from cases_search import SearchCase, affordable, as_video, draw_options
from compare import nearest_entries
from reference import (
    Candidates,
    SearchOptions,
    entries_of_refinement,
    paired_refine_candidates,
    refine_candidates,
    with_time,
)
from torch import Tensor


@dataclass
class RefineCase(SearchCase):
    """One call of `RefineSearch`; `flows` are the entries to refine, `options.ws` is wr."""

    kr: float = -1

    def keywords(self) -> dict[str, Any]:
        keywords = super().keywords()
        wr = keywords.pop("ws")
        return {**keywords, "ws": 99, "wr": wr, "kr": self.kr}

    def operator(self) -> Operator:
        return stnls.search.RefineSearch(**self.keywords())

    @property
    def reference_options(self) -> SearchOptions:
        """Every anchor is the entry itself."""
        action = None if self.options.self_action is None else "anchor_each"
        return replace(self.options, self_action=action)

    def table(self) -> Candidates:
        assert self.flows is not None
        flows = self.flows
        if flows.ndim == 5:
            size = self.vid1.shape[-2:]
            grid = ((length - 1) // self.options.stride0 + 1 for length in size)
            flows = flows.unflatten(2, (-1, *grid))
        return refine_candidates(self.options, self.vid0, self.vid1, flows, self.kr)

    def source(self, inds: Tensor) -> Tensor:
        """Which of the earlier entries each was found around."""
        at, _ = nearest_entries(inds, self.table().inds.flatten(-3, -2))
        return at // self.options.ws**2

    def entries(self, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
        vid0, vid1, prior = inputs
        if prior.ndim == 5:
            prior = prior.unflatten(2, found[0].shape[2:5])
        source = self.source(found[1])
        return entries_of_refinement(
            self.options, (vid0, vid1, prior), tuple(found), source, self.k_agg
        )


@dataclass
class PairedRefineCase(RefineCase):
    """One call of `PairedRefine`."""

    def operator(self) -> Operator:
        keywords = self.keywords()
        for name in ("wt", "strideQ"):
            del keywords[name]
        return stnls.search.PairedRefine(**keywords)

    def run_with_time(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        return as_video(self.run(device))

    def table(self) -> Candidates:
        assert self.flows is not None
        return paired_refine_candidates(self.options, self.vid0, self.vid1, self.flows, self.kr)

    def entries(self, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
        frame0, frame1, flow = inputs
        heads = self.options.nheads
        if flow.ndim == 5:
            flow = flow[:, None].expand(-1, heads, -1, -1, -1, -1)
        prior = torch.nn.functional.pad(flow, (1, 0))[:, :, None]
        videos = with_time((frame0, frame1), heads, heads)
        dists, inds = super().entries((*videos, prior), as_video(found))
        return dists.squeeze(2), inds.squeeze(2)[..., 1:]


def draw_refine(pick: Pick, *, most: int = 400_000) -> RefineCase:
    """A refinement of a video's entries."""
    o = _refine_options(pick, draw_options(pick, False))
    heads, frames, entries = o.nheads, pick((1, 2, 3)), pick((1, 2, 4))
    batch, channels = pick((1, 1, 2)), pick((0, 1, 2, 3))
    planes = batch * heads * frames * entries * channels
    height, width = affordable(pick, o, planes, most)
    if o.itype == "float":  # candidates of two entries would coincide in a frame of one pixel
        width = max(2, width)
    query_size = (height, width) if o.strideQ is None else (pick(SIZES), pick(SIZES))
    dtype, six = pick((torch.float32, torch.float64)), pick((True, False))
    values, integers = draw_values(pick, whole=o.itype == "int")
    vid0, vid1 = (
        draw_layout(pick, values((batch, frames, heads * channels, *size)).to(dtype), heads, six)
        for size in (query_size, (height, width))
    )
    grid = ((height - 1) // o.stride0 + 1, (width - 1) // o.stride0 + 1)
    shape = (batch, heads, frames, *grid, entries)
    prior = _draw_prior(pick, o, shape, frames, max(height, width), dtype)
    if pick((True, False, False)):
        prior = prior.flatten(2, 4)
    return RefineCase(
        o, vid0, vid1, prior, integers and o.itype == "int", kr=_draw_kr(pick, entries)
    )


def draw_paired_refine(pick: Pick, *, most: int = 400_000) -> PairedRefineCase:
    """A refinement of the entries of a pair of frames."""
    o = replace(_refine_options(pick, draw_options(pick, False)), strideQ=None)
    heads, entries = o.nheads, pick((1, 2, 4))
    batch, channels = pick((1, 1, 2)), pick((0, 1, 2, 3))
    height, width = affordable(pick, o, batch * heads * entries * channels, most)
    if o.itype == "float":
        width = max(2, width)
    dtype, six = pick((torch.float32, torch.float64)), pick((True, False))
    values, integers = draw_values(pick, whole=o.itype == "int")
    frame0, frame1 = (
        draw_layout(
            *(pick, values((batch, 1, heads * channels, height, width)).to(dtype)),
            *(heads, six),
        ).squeeze(2 if six else 1)
        for _ in range(2)
    )
    grid = ((height - 1) // o.stride0 + 1, (width - 1) // o.stride0 + 1)
    shape = (batch, heads, 1, *grid, entries)
    prior = _draw_prior(pick, o, shape, 1, max(height, width), dtype)[:, :, 0, ..., 1:]
    if pick((True, False)):
        prior = prior[:, 0]
    return PairedRefineCase(
        o, frame0, frame1, prior, integers and o.itype == "int", kr=_draw_kr(pick, entries)
    )


def _refine_options(pick: Pick, o: SearchOptions) -> SearchOptions:
    actions = (None, None, "anchor", "anchor_self", "anchor_each")
    k = min(o.k, 100)
    return replace(
        o,
        wt=0,
        ws=pick((1, 2, 3, 4)),
        k=k,
        topk_mode=pick(("all", "each")),
        self_action=pick(actions),
    )


def _draw_kr(pick: Pick, entries: int) -> float:
    return pick([-1, 0, 1, entries, 99, 1.0] + ([0.5] if entries > 1 else []))


def _draw_prior(
    pick: Pick,
    o: SearchOptions,
    shape: Sequence[int],
    frames: int,
    length: int,
    dtype: torch.dtype,
) -> Tensor:
    """(..., 3) entries of an earlier search; on the real grid no two of a query coincide."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    reach = pick((1.0, float(length), 20.0 * length))
    prior = reach * torch.randn((*shape, 3), generator=generator, dtype=torch.float64)
    prior[..., 0] = torch.randint(-frames, frames + 1, tuple(shape), generator=generator)
    marks = [-1e8, 1e8, 1e9] if o.itype == "float" else [-1e8, 1e5, -1e5, 99999.0]
    if o.itype == "int":
        dtype = pick((dtype, torch.int32, torch.int64))
        prior = (2 * prior).round() / 2 if dtype.is_floating_point else prior.round()
    if dtype.is_floating_point:
        marks += [float("nan"), float("inf"), -float("inf"), 1e30]
    if pick((True, False)):
        at = torch.randint(0, len(marks), (*shape, 2), generator=generator)
        marked = torch.rand((*shape, 2), generator=generator) < 0.1
        values = torch.tensor(marks, dtype=torch.float64)[at]
        prior[..., 1:] = torch.where(marked, values, prior[..., 1:])
    return prior.to(dtype)
