"""Random problems, drawn by `pick(choices)`: hypothesis or a seeded generator chooses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import stnls
import torch
from compare import nearest_entries
from hypothesis import strategies as st
from reference import (
    Candidates,
    PatchOptions,
    SearchOptions,
    candidates,
    compose_flow,
    entries_of_refinement,
    entries_of_search,
    gather_add,
    paired_candidates,
    paired_refine_candidates,
    patch_stack,
    refine_candidates,
    scatter_add,
    search_flow,
    weighted_patch_sum,
    with_time,
)
from stnls import _ops
from torch import Tensor

Pick = Callable[[Sequence[Any]], Any]
Operator = Callable[..., Sequence[Tensor]]

SELF_ACTIONS = (
    *(None, "anchor", "anchor_self", "anchor_each", "remove"),
    *("remove_ref_frame", "anchor_and_remove_ref_frame"),
)
FLOWS = ("zero", "small", "large", "far", "halves", "regions", "smooth")
SIZES = (1, 2, 3, 4, 5, 6, 8, 11, 16, 24)
# Taps of all candidates of all queries: keeps the reference under some tenths of a second.
MOST_TAPS = 2_000_000
# The same for problems that are differentiated.
FEW_TAPS = 100_000


def drawn(data: st.DataObject) -> Pick:
    """Choices by hypothesis, which then looks for the smallest problem that fails."""
    return lambda choices: data.draw(st.sampled_from(choices))


def seeded(seed: int) -> Pick:
    return random.Random(seed).choice


@dataclass
class SearchCase:
    """One call of `NonLocalSearch`, or of `PairedSearch` where `paired` is set."""

    options: SearchOptions
    vid0: Tensor
    vid1: Tensor
    flows: Tensor | None
    exact: bool  # distances are small integers, so that every order of summation gives the same
    k_agg: int = -1

    def keywords(self) -> dict[str, Any]:
        return {**vars(self.options), "k_agg": self.k_agg}

    def operator(self) -> Operator:
        return stnls.search.NonLocalSearch(**self.keywords())

    def inputs(self) -> list[Tensor]:
        return [x for x in (self.vid0, self.vid1, self.flows) if x is not None]

    def run(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        dists, inds = self.operator()(*(x.to(device) for x in self.inputs()))
        return dists.cpu(), inds.cpu()

    def table(self) -> Candidates:
        return candidates(self.options, self.vid0, self.vid1, self.flows)

    def entries(self, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
        """The entries that were found, by the reference, as functions of the inputs."""
        vid0, vid1, *flows = inputs
        flow = flows[0] if flows else None
        return entries_of_search(self.options, (vid0, vid1, flow), tuple(found), self.k_agg)

    def slope_size(self, weights: Sequence[Tensor]) -> float:
        """What one term of a gradient can reach, by the weights of the loss."""
        values = max(largest(self.vid0), largest(self.vid1))
        taps = self.options.ps**2 * self.vid0.shape[-3]
        places = values * taps if self.options.itype == "float" else 0.0
        return largest(weights[0]) * 4 * values * (1 + 2 * places)


@dataclass
class PairedCase(SearchCase):
    """One call of `PairedSearch`: frames (B, C, H, W) and one flow."""

    @property
    def reference_options(self) -> SearchOptions:
        """Every anchor of a pair is the place that the flow predicts."""
        action = None if self.options.self_action is None else "anchor_each"
        return replace(self.options, self_action=action)

    def operator(self) -> Operator:
        keywords = self.keywords()
        for name in ("wt", "topk_mode", "strideQ"):
            del keywords[name]
        return stnls.search.PairedSearch(**keywords)

    def run_with_time(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """The result in the layout of a video of one frame."""
        return as_video(self.run(device))

    def table(self) -> Candidates:
        assert self.flows is not None
        return paired_candidates(self.options, self.vid0, self.vid1, self.flows)

    def entries(self, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
        frame0, frame1, flow = inputs
        flow = flow[:, None] if flow.ndim == 4 else flow
        heads = max(self.options.nheads, flow.shape[1])
        videos = with_time((frame0, frame1), self.options.nheads, heads)
        dists, inds = super().entries((*videos, flow[:, :, None, None]), as_video(found))
        return dists.squeeze(2), inds.squeeze(2)[..., 1:]


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


def as_video(found: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The result of a pair in the layout of a video of one frame."""
    dists, inds = found
    return dists.unsqueeze(2), torch.nn.functional.pad(inds, (1, 0)).unsqueeze(2)


@dataclass
class PatchSumCase:
    """One call of an aggregation."""

    options: dict[str, Any]
    video: Tensor
    weights: Tensor
    inds: Tensor
    name: str = "WeightedPatchSum"

    def operator(self) -> Operator:
        o = dict(self.options)
        if self.name in ("NonLocalGatherAdd", "NonLocalScatterAdd"):
            o["strideIn"] = o["strideOut"] = o.pop("stride0")
        operator: Operator = getattr(stnls.agg, self.name)(**o)
        return lambda *inputs: (operator(*inputs),)

    def inputs(self) -> list[Tensor]:
        return [self.video, self.weights, self.inds]

    def run(self, device: str = "cpu") -> Tensor:
        (out,) = self.operator()(*(x.to(device) for x in self.inputs()))
        return out.cpu()

    def expected(self) -> Tensor:
        return self.entries(self.inputs(), ())[0]

    def entries(self, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
        """The result by the reference, as a function of the inputs."""
        video, weights, inds = inputs
        if self.name == "WeightedPatchSum":
            return (weighted_patch_sum(video, weights, inds, **self.options),)
        if video.ndim == 5:
            heads = weights.shape[1]
            video = video.unflatten(2, (heads, video.shape[2] // heads)).transpose(1, 2)
        reference = {
            "NonLocalGather": patch_stack,
            "NonLocalGatherAdd": gather_add,
            "NonLocalScatterAdd": scatter_add,
        }[self.name]
        return (reference(video, weights, inds, PatchOptions(**self.options)),)

    def slope_size(self, weights: Sequence[Tensor]) -> float:
        """What one term of a gradient can reach, by the weights of the loss."""
        taps = self.options["ps"] ** 2 * self.video.shape[-3]
        return largest(weights[0]) * (1 + largest(self.video)) * (1 + largest(self.weights)) * taps

    def size(self) -> float:
        """What a sum over the entries of one query can reach."""
        return largest(self.video) * largest(self.weights) * self.weights.shape[-1]


def largest(x: Tensor) -> float:
    """The largest magnitude."""
    return float(x.abs().max()) if x.numel() else 0.0


@contextmanager
def direct_form() -> Iterator[None]:
    """Within, the CPU searches without tiles."""

    def search(*arguments: Any) -> Any:
        return torch.ops.stnls.search(*arguments[:-1], True)

    with mock.patch.object(_ops, "search", search):
        yield


def draw_search(
    pick: Pick, *, tiles: bool = False, channels_at_most: int = 3, most: int = MOST_TAPS
) -> SearchCase:
    """A search with any options; with `tiles`, one that the CPU's tile form serves."""
    o = _draw_options(pick, tiles)
    heads, frames = o.nheads, 2 * o.wt + 1 + pick((0, 0, 1, 2))
    channels = pick(range(channels_at_most + 1)) if pick((True, False)) else channels_at_most
    batch = pick((1, 1, 1, 2))
    height, width = _affordable(pick, o, batch * heads * frames * channels, most)
    query_size = (height, width)
    if o.strideQ is not None and not tiles:
        query_size = (pick(SIZES), pick(SIZES))
    dtype = torch.float32 if tiles else pick((torch.float32, torch.float32, torch.float64))
    values, integers = _draw_values(pick)
    six = pick((True, False))
    vid0, vid1 = (
        _draw_layout(pick, values((batch, frames, heads * channels, *size)).to(dtype), heads, six)
        for size in (query_size, (height, width))
    )
    grid = ((height - 1) // o.stride0 + 1, (width - 1) // o.stride0 + 1)
    flows = None
    if pick((True, True, True, False)):
        slots = 2 * o.wt + pick((0, 1))
        flow_heads = pick((1, heads, heads + 1))
        shape = (batch, flow_heads, frames, slots, 2, *grid)
        flows = draw_flow(pick, shape, max(height, width)).to(dtype)
        if flow_heads == 1 and pick((True, False)):
            flows = flows[:, 0]
    return SearchCase(o, vid0, vid1, flows, integers and o.itype == "int")


def draw_gradient(pick: Pick, draw: Callable[..., SearchCase]) -> SearchCase:
    """A small search or refinement, of which some entries only may pass gradients on."""
    case = draw(pick, most=FEW_TAPS)
    case.k_agg = pick((-1, 0, 1, 2, 5, 1000))
    return case


def draw_paired(pick: Pick, *, most: int = MOST_TAPS) -> PairedCase:
    """One pair of frames; its options in the terms of `NonLocalSearch`."""
    drawn = _draw_options(pick, False)
    changes = {"wt": 0, "topk_mode": "all", "strideQ": None}
    o = SearchOptions(
        **{
            **vars(drawn),
            **changes,
            "self_action": pick((None, "anchor", "anchor_self", "anchor_each")),
        }
    )
    channels, batch = pick((0, 1, 2, 3)), pick((1, 1, 2))
    height, width = _affordable(pick, o, batch * o.nheads * channels, most)
    dtype = pick((torch.float32, torch.float64))
    values, integers = _draw_values(pick)
    six = pick((True, False))
    frame0, frame1 = (
        _draw_layout(
            *(pick, values((batch, 1, o.nheads * channels, height, width)).to(dtype)),
            *(o.nheads, six),
        ).squeeze(2 if six else 1)
        for _ in range(2)
    )
    grid = ((height - 1) // o.stride0 + 1, (width - 1) // o.stride0 + 1)
    flow_heads = pick((1, o.nheads)) if o.nheads > 1 else pick((1, 2))
    flow = draw_flow(pick, (batch, flow_heads, 2, *grid), max(height, width)).to(dtype)
    if flow_heads == 1 and pick((True, False)):
        flow = flow[:, 0]
    return PairedCase(o, frame0, frame1, flow, integers and o.itype == "int")


def draw_refine(pick: Pick, *, most: int = 400_000) -> RefineCase:
    """A refinement of a video's entries."""
    o = _refine_options(pick, _draw_options(pick, False))
    heads, frames, entries = o.nheads, pick((1, 2, 3)), pick((1, 2, 4))
    batch, channels = pick((1, 1, 2)), pick((0, 1, 2, 3))
    planes = batch * heads * frames * entries * channels
    height, width = _affordable(pick, o, planes, most)
    if o.itype == "float":  # candidates of two entries would coincide in a frame of one pixel
        width = max(2, width)
    query_size = (height, width) if o.strideQ is None else (pick(SIZES), pick(SIZES))
    dtype, six = pick((torch.float32, torch.float64)), pick((True, False))
    values, integers = _draw_values(pick, whole=o.itype == "int")
    vid0, vid1 = (
        _draw_layout(pick, values((batch, frames, heads * channels, *size)).to(dtype), heads, six)
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
    o = replace(_refine_options(pick, _draw_options(pick, False)), strideQ=None)
    heads, entries = o.nheads, pick((1, 2, 4))
    batch, channels = pick((1, 1, 2)), pick((0, 1, 2, 3))
    height, width = _affordable(pick, o, batch * heads * entries * channels, most)
    if o.itype == "float":
        width = max(2, width)
    dtype, six = pick((torch.float32, torch.float64)), pick((True, False))
    values, integers = _draw_values(pick, whole=o.itype == "int")
    frame0, frame1 = (
        _draw_layout(
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


@dataclass
class FlowCase:
    """One call of `search_flow` (two flows and wt) or of `compose_flow` (one flow)."""

    flows: list[Tensor]
    wt: int
    stride0: int

    def operator(self) -> Operator:
        if len(self.flows) == 1:
            return lambda steps: (stnls.nn.compose_flow(steps, stride0=self.stride0),)
        return lambda *flows: (stnls.nn.search_flow(*flows, self.wt, self.stride0),)

    def inputs(self) -> list[Tensor]:
        return self.flows

    def entries(self, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
        """The result by the reference, as a function of the inputs."""
        if len(inputs) == 1:
            return (compose_flow(inputs[0], self.stride0),)
        return (search_flow(*inputs, self.wt, self.stride0),)

    def slope_size(self, weights: Sequence[Tensor]) -> float:
        """What one term of a gradient can reach, by the weights of the loss."""
        return 100 * largest(weights[0])


def draw_composition(pick: Pick, *, kinds: Sequence[str] = FLOWS) -> FlowCase:
    """A composition of flow; without `kinds` that lose the way."""
    batch, frames = pick((1, 2)), pick((1, 2, 3, 5))
    height, width = pick((1, 2, 5, 13)), pick((1, 3, 8, 17))
    shape = (batch, frames, 2, height, width)
    dtype = pick((torch.float64, torch.float32))
    count = pick((1, 2))
    flows = [draw_flow(pick, shape, max(height, width), kinds).to(dtype) for _ in range(count)]
    return FlowCase(flows, pick((0, 1, 2)), pick((1, 2, 4)))


AGGREGATIONS = ("WeightedPatchSum", "NonLocalGather", "NonLocalGatherAdd", "NonLocalScatterAdd")


def draw_aggregation(pick: Pick, *, most: int = 40_000) -> PatchSumCase:
    """Any aggregation; small, for the reference visits all taps of all entries."""
    name = pick(AGGREGATIONS)
    return draw_patch_sum(pick, name=name, most=most)


def draw_patch_sum(
    pick: Pick, *, name: str = "WeightedPatchSum", most: int = MOST_TAPS
) -> PatchSumCase:
    """An aggregation (whose patches cover the frame, where they must)."""
    height, width, frames = pick(SIZES[:-2]), pick(SIZES[:-2]), pick((1, 2, 3))
    heads, k = pick((1, 1, 2, 3)), pick((0, 1, 2, 5))
    options = {
        "ps": pick((1, 2, 3, 4, 5, 7)),
        "stride0": pick((1, 2, 3, 4)),
        "dilation": pick((1, 1, 2, 3)),
        "reflect_bounds": pick((True, True, False)),
        "use_adj": pick((False, False, True)),
        "itype": pick(("float", "int")),
    }
    dtype, six = pick((torch.float32, torch.float64)), pick((True, False))
    batch, channels = pick((1, 1, 1, 2, 0)), pick((1, 3, 5, 0))
    taps = batch * heads * frames * channels * k * options["ps"] ** 2
    while height * width > 1 and taps * height * width > most * options["stride0"] ** 2:
        height, width = (height + 1) // 2, (width + 1) // 2
    if name != "NonLocalScatterAdd" and not (
        _covers(height, **options) and _covers(width, **options)
    ):
        options |= {"stride0": 1, "dilation": 1}
    values, _ = _draw_values(pick)
    video = values((batch, frames, heads * channels, height, width)).to(dtype)
    grid = ((height - 1) // options["stride0"] + 1, (width - 1) // options["stride0"] + 1)
    generator = torch.Generator().manual_seed(pick(range(1000)))
    shape = (batch, heads, frames, *grid, k)
    weights = torch.rand(shape, generator=generator).to(dtype) - 0.25
    inds = _draw_offsets(pick, shape, frames, max(height, width))
    return PatchSumCase(options, _draw_layout(pick, video, heads, six), weights, inds, name)


def _covers(length: int, ps: int, stride0: int, dilation: int, use_adj: bool, **_: Any) -> bool:
    start = 0 if use_adj else -(ps // 2)
    reached = {i + dilation * (p + start) for i in range(0, length, stride0) for p in range(ps)}
    return reached.issuperset(range(length))


def _draw_offsets(pick: Pick, shape: Sequence[int], frames: int, length: int) -> Tensor:
    """(..., 3) offsets (dt, dh, dw) of any dtype; some are the marks of empty entries."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    reach = pick((0.0, 2.0, float(length), 50.0 * length))
    offsets = reach * torch.randn((*shape, 3), generator=generator)
    offsets[..., 0] = torch.randint(-frames, frames + 1, tuple(shape), generator=generator)
    dtype = pick((torch.float32, torch.float64, torch.int32, torch.int64))
    marks = torch.tensor([-1e8, 1e7, -1e7, 9999999.0])
    if dtype.is_floating_point:
        broken = torch.tensor([float("nan"), float("inf"), -float("inf"), -1e30])
        marks = torch.cat([marks, broken])
    if pick((True, False)):
        at = torch.randint(0, len(marks), (*shape, 2), generator=generator)
        marked = torch.rand((*shape, 2), generator=generator) < 0.1
        offsets[..., 1:] = torch.where(marked, marks[at], offsets[..., 1:])
    return offsets.to(dtype)


def _draw_options(pick: Pick, tiles: bool) -> SearchOptions:
    itype = pick(("float", "int"))
    wt = pick((0, 0, 1, 2))
    self_action = pick([a for a in SELF_ACTIONS if wt > 0 or a is None or "remove_ref" not in a])
    ws = pick((1, 2, 3, 4, 5, 7))
    k = pick((1, 1, 2, 3, 10, ws * ws, 1000) if tiles else (-1, 0, 1, 2, 3, 10, ws * ws, 1000))
    modes = ["all"] if self_action == "remove" else ["all", "each"]
    if k <= 0:
        modes.append("none")
    if tiles:
        stride1 = pick((1, 1, 0.5, 0.25, 1 / 3) if itype == "float" else (1, 1, 1.5, 0.5))
    else:
        stride1 = pick((1, 0.5, 0.25, 2, 1.5, 0.3, 3.7))
    return SearchOptions(
        ws=ws,
        wt=wt,
        ps=pick((1, 2, 3, 4, 5, 7, 9)),
        k=k,
        nheads=pick((1, 1, 2, 3)),
        stride0=1 if tiles else pick((1, 1, 2, 3, 5)),
        stride1=stride1,
        dist_type=pick(("l2", "prod")),
        dilation=1 if tiles else pick((1, 1, 2, 3)),
        self_action=self_action,
        topk_mode=pick(modes),
        reflect_bounds=tiles or pick((True, True, False)),
        full_ws=pick((True, False)),
        use_adj=pick((False, False, True)),
        off_Hq=pick((0, 0, 1, -2, 9)),
        off_Wq=pick((0, 0, -1, 3, -9)),
        strideQ=pick((None, 1) if tiles else (None, None, 1, 2, 3)),
        itype=itype,
    )


def _affordable(
    pick: Pick, o: SearchOptions, planes: int, most: int = MOST_TAPS
) -> tuple[int, int]:
    """A frame size for which the reference takes no more than `most` taps, or the smallest."""
    height, width = pick(SIZES), pick(SIZES)
    while height * width > 1 and planes * _taps(o, height, width) > most:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def _taps(o: SearchOptions, height: int, width: int) -> int:
    queries = ((height - 1) // o.stride0 + 1) * ((width - 1) // o.stride0 + 1)
    cost = 4 if o.itype == "float" else 1
    return queries * (2 * o.wt + 1) * (o.ws * o.ps) ** 2 * cost


def _draw_values(
    pick: Pick, *, whole: bool = False
) -> tuple[Callable[[Sequence[int]], Tensor], bool]:
    """A source of pixel values, and whether they are integers, as `whole` ones always are."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    kinds = ("bytes", "few", "constant", "negative")
    kind = pick(kinds if whole else ("normal", *kinds))

    def values(shape: Sequence[int]) -> Tensor:
        size = tuple(shape)
        if kind == "normal":
            return torch.randn(size, generator=generator)
        if kind == "bytes":
            return torch.randint(0, 256, size, generator=generator).float()
        if kind == "few":  # many ties
            return torch.randint(0, 3, size, generator=generator).float()
        if kind == "negative":
            return torch.randint(-100, 101, size, generator=generator).float()
        return torch.full(size, 7.0)

    return values, kind != "normal"


def draw_flow(
    pick: Pick, shape: Sequence[int], length: int, kinds: Sequence[str] = (*FLOWS, "wild")
) -> Tensor:
    """Flow of one of the kinds that films, noise and broken files hold; float32."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    kind = pick(kinds)
    noise = torch.randn(tuple(shape), generator=generator)
    if kind == "zero":
        return torch.zeros(tuple(shape))
    if kind == "small":
        return noise
    if kind == "large":
        return noise * max(2.0, length / 3)
    if kind == "far":  # several reflections
        return noise * 5 * length
    if kind == "halves":  # what rounds half to even
        return (noise * 4).round() / 2
    if kind == "regions":
        columns = torch.arange(shape[-1]) < shape[-1] // 2
        return torch.where(columns, 3.25, -4.0).expand(tuple(shape)).contiguous()
    if kind == "smooth":
        ramp = torch.linspace(-2, 3, max(1, shape[-1]))
        return ramp.expand(tuple(shape)) + 0.1 * noise
    wild = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e9, 0.0, -3.5])
    at = torch.randint(0, len(wild), tuple(shape), generator=generator)
    return torch.where(noise > 0, wild[at], noise)


def _draw_layout(pick: Pick, video: Tensor, heads: int, six: bool) -> Tensor:
    """The same values in another memory layout, as (B, T, C, H, W) or (B, HD, T, C/HD, H, W)."""
    if six:
        video = video.unflatten(2, (heads, video.shape[2] // heads)).transpose(1, 2)
    kind = pick(("contiguous", "contiguous", "view", "channels last", "transposed", "slice"))
    if kind == "contiguous":
        return video.contiguous()
    if kind == "channels last":
        return video.movedim(-3, -1).contiguous().movedim(-1, -3)
    if kind == "transposed":
        return video.mT.contiguous().mT
    if kind == "slice":
        padded = torch.nn.functional.pad(video, (2, 3, 1, 1), value=1e6)
        return padded[..., 1:-1, 2:-3]
    return video
