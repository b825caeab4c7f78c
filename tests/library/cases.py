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
from hypothesis import strategies as st
from reference import SearchOptions, weighted_patch_sum
from stnls import _ops
from torch import Tensor

Pick = Callable[[Sequence[Any]], Any]

SELF_ACTIONS = (
    *(None, "anchor", "anchor_self", "anchor_each", "remove"),
    *("remove_ref_frame", "anchor_and_remove_ref_frame"),
)
SIZES = (1, 2, 3, 4, 5, 6, 8, 11, 16, 24)
# Taps of all candidates of all queries: keeps the reference under some tenths of a second.
MOST_TAPS = 2_000_000


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

    def keywords(self) -> dict[str, Any]:
        return dict(vars(self.options))

    def run(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        search = stnls.search.NonLocalSearch(**self.keywords())
        flows = () if self.flows is None else (self.flows.to(device),)
        dists, inds = search(self.vid0.to(device), self.vid1.to(device), *flows)
        return dists.cpu(), inds.cpu()


@dataclass
class PairedCase(SearchCase):
    """One call of `PairedSearch`: frames (B, C, H, W) and one flow."""

    @property
    def reference_options(self) -> SearchOptions:
        """Every anchor of a pair is the place that the flow predicts."""
        action = None if self.options.self_action is None else "anchor_each"
        return replace(self.options, self_action=action)

    def run(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        keywords = self.keywords()
        for name in ("wt", "topk_mode", "strideQ"):
            del keywords[name]
        search = stnls.search.PairedSearch(**keywords)
        assert self.flows is not None
        dists, inds = search(*(x.to(device) for x in (self.vid0, self.vid1, self.flows)))
        return dists.cpu(), inds.cpu()

    def run_with_time(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """The result in the layout of a video of one frame."""
        dists, inds = self.run(device)
        return dists.unsqueeze(2), torch.nn.functional.pad(inds, (1, 0)).unsqueeze(2)


@dataclass
class PatchSumCase:
    """One call of `WeightedPatchSum`."""

    options: dict[str, Any]
    video: Tensor
    weights: Tensor
    inds: Tensor

    def run(self, device: str = "cpu") -> Tensor:
        operator = stnls.agg.WeightedPatchSum(**self.options)
        out: Tensor = operator(*(x.to(device) for x in (self.video, self.weights, self.inds)))
        return out.cpu()

    def expected(self) -> Tensor:
        return weighted_patch_sum(self.video, self.weights, self.inds, **self.options)

    def size(self) -> float:
        """What a sum over the entries of one query can reach."""
        largest = [float(x.abs().max()) if x.numel() else 0.0 for x in (self.video, self.weights)]
        return largest[0] * largest[1] * self.weights.shape[-1]


@contextmanager
def direct_form() -> Iterator[None]:
    """Within, the CPU searches without tiles."""

    def search(*arguments: Any) -> Any:
        return torch.ops.stnls.search(*arguments[:-1], True)

    with mock.patch.object(_ops, "search", search):
        yield


def draw_search(pick: Pick, *, tiles: bool = False, channels_at_most: int = 3) -> SearchCase:
    """A search with any options; with `tiles`, one that the CPU's tile form serves."""
    o = _draw_options(pick, tiles)
    heads, frames = o.nheads, 2 * o.wt + 1 + pick((0, 0, 1, 2))
    channels = pick(range(channels_at_most + 1)) if pick((True, False)) else channels_at_most
    batch = pick((1, 1, 1, 2))
    height, width = _affordable(pick, o, batch * heads * frames * channels)
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


def draw_paired(pick: Pick) -> PairedCase:
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
    height, width = _affordable(pick, o, batch * o.nheads * channels)
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


def draw_patch_sum(pick: Pick) -> PatchSumCase:
    """Any aggregation whose patches cover the frame."""
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
    if not (_covers(height, **options) and _covers(width, **options)):
        options |= {"stride0": 1, "dilation": 1}
    values, _ = _draw_values(pick)
    dtype, six = pick((torch.float32, torch.float64)), pick((True, False))
    batch, channels = pick((1, 1, 1, 2, 0)), pick((1, 3, 5, 0))
    video = values((batch, frames, heads * channels, height, width)).to(dtype)
    grid = ((height - 1) // options["stride0"] + 1, (width - 1) // options["stride0"] + 1)
    generator = torch.Generator().manual_seed(pick(range(1000)))
    shape = (batch, heads, frames, *grid, k)
    weights = torch.rand(shape, generator=generator).to(dtype) - 0.25
    inds = _draw_offsets(pick, shape, frames, max(height, width))
    return PatchSumCase(options, _draw_layout(pick, video, heads, six), weights, inds)


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


def _affordable(pick: Pick, o: SearchOptions, planes: int) -> tuple[int, int]:
    """A frame size for which the reference takes no more than MOST_TAPS, or the smallest."""
    height, width = pick(SIZES), pick(SIZES)
    while height * width > 1 and planes * _taps(o, height, width) > MOST_TAPS:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def _taps(o: SearchOptions, height: int, width: int) -> int:
    queries = ((height - 1) // o.stride0 + 1) * ((width - 1) // o.stride0 + 1)
    cost = 4 if o.itype == "float" else 1
    return queries * (2 * o.wt + 1) * (o.ws * o.ps) ** 2 * cost


def _draw_values(pick: Pick) -> tuple[Callable[[Sequence[int]], Tensor], bool]:
    """A source of pixel values, and whether they are integers."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    kind = pick(("normal", "bytes", "few", "constant", "negative"))

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


def draw_flow(pick: Pick, shape: Sequence[int], length: int) -> Tensor:
    """Flow of one of the kinds that films, noise and broken files hold; float32."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    kind = pick(("zero", "small", "large", "far", "halves", "regions", "smooth", "wild"))
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
