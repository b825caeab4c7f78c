"""Random problems for `NonLocalSearch` and `PairedSearch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import stnls
import torch
from cases import (
    FEW_TAPS,
    MOST_TAPS,
    SIZES,
    Operator,
    Pick,
    draw_flow,
    draw_layout,
    draw_values,
    largest,
)
from compare import assert_search
from reference import (
    Candidates,
    SearchOptions,
    candidates,
    entries_of_search,
    paired_candidates,
    with_time,
)
from stnls import _ops
from torch import Tensor

SELF_ACTIONS = (
    *(None, "anchor", "anchor_self", "anchor_each", "remove"),
    *("remove_ref_frame", "anchor_and_remove_ref_frame"),
)


@dataclass
class SearchCase:
    """One call of `NonLocalSearch`."""

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

    def assert_outputs(self, outputs: Sequence[Tensor]) -> None:
        """They are the best of the reference's table."""
        dists, inds = outputs
        found = (dists, inds) if dists.ndim == 6 else as_video((dists, inds))
        options = getattr(self, "reference_options", self.options)
        assert_search(options, self.table(), found, exact=self.exact)

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

    def slope_sizes(self, weights: Sequence[Tensor]) -> list[float]:
        """What one term of each input's gradient can reach, by the weights of the loss."""
        values = max(largest(self.vid0), largest(self.vid1))
        taps = self.options.ps**2 * self.vid0.shape[-3]
        video = largest(weights[0]) * 4 * values
        places = video * 2 * values * taps + sum(largest(of_inds) for of_inds in weights[1:])
        return [video, video, places]


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
class ChargedCase(PairedCase):
    """One call of `PairedSearch` in which leaving the flow costs something."""

    charge: float = 0.0

    def operator(self) -> Operator:
        keywords = {**self.keywords(), "charge": self.charge}
        for name in ("wt", "topk_mode", "strideQ"):
            del keywords[name]
        return stnls.search.PairedSearch(**keywords)

    def assert_outputs(self, outputs: Sequence[Tensor]) -> None:
        """With what they cost, they are the best of the reference's table."""
        table = self.table()
        dists, inds = as_video([x.double() for x in outputs])
        places = table.anchors[..., None, None].expand(*table.anchors.shape, 1, 3)
        anchor = table.inds.gather(6, places)[..., 0, 0, 1:]
        all_costs = self.costs(table.dists, table.inds, anchor)
        found = self.costs(dists, inds, anchor), inds
        assert_search(self.reference_options, replace(table, dists=all_costs), found)

    def costs(self, dists: Tensor, inds: Tensor, anchor: Tensor) -> Tensor:
        """Distances (B, HD, 1, nH, nW, ...) and what their offsets (..., 3) cost: `charge` for each
        squared pixel from that of the anchor (B, HD, 1, nH, nW, 2)."""
        while anchor.ndim < inds.ndim:
            anchor = anchor.unsqueeze(-2)
        away = (inds[..., 1:] - anchor).double().square().sum(-1)
        channels = self.vid0.shape[-3] // (self.options.nheads if self.vid0.ndim == 4 else 1)
        sign = 1 if self.options.dist_type == "l2" else -1
        return dists + sign * self.charge * channels * self.options.ps**2 * away


def as_video(found: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The result of a pair in the layout of a video of one frame."""
    dists, inds = found
    return dists.unsqueeze(2), torch.nn.functional.pad(inds, (1, 0)).unsqueeze(2)


@contextmanager
def direct_form() -> Iterator[None]:
    """Within, every device searches patch by patch."""

    def search(*arguments: Any) -> Any:
        return torch.ops.stnls.search(*arguments[:-1], True)

    with mock.patch.object(_ops, "search", search):
        yield


def draw_search(
    pick: Pick, *, tiles: bool = False, channels_at_most: int = 3, most: int = MOST_TAPS
) -> SearchCase:
    """A search with any options; with `tiles`, one that the CPU's tile form serves."""
    o = draw_options(pick, tiles)
    heads, frames = o.nheads, 2 * o.wt + 1 + pick((0, 0, 1, 2))
    channels = pick(range(channels_at_most + 1)) if pick((True, False)) else channels_at_most
    batch = pick((1, 1, 1, 2))
    height, width = affordable(pick, o, batch * heads * frames * channels, most)
    query_size = (height, width)
    if o.strideQ is not None and not tiles:
        query_size = (pick(SIZES), pick(SIZES))
    dtype = torch.float32 if tiles else pick((torch.float32, torch.float32, torch.float64))
    values, integers = draw_values(pick)
    six = pick((True, False))
    vid0, vid1 = (
        draw_layout(pick, values((batch, frames, heads * channels, *size)).to(dtype), heads, six)
        for size in (query_size, (height, width))
    )
    grid = ((height - 1) // o.stride0 + 1, (width - 1) // o.stride0 + 1)
    flows = None
    if pick((True, True, True, False)):
        slots = 2 * o.wt + pick((0, 1))
        flow_heads = pick(range(1, heads + 1))
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


def draw_paired(pick: Pick, *, tiles: bool = False, most: int = MOST_TAPS) -> PairedCase:
    """One pair of frames; its options in the terms of `NonLocalSearch`. With `tiles`, one that
    tiles serve."""
    any_options = draw_options(pick, tiles)
    changes = {"wt": 0, "topk_mode": "all", "strideQ": None}
    o = SearchOptions(
        **{
            **vars(any_options),
            **changes,
            "self_action": pick((None, "anchor", "anchor_self", "anchor_each")),
        }
    )
    channels, batch = pick((3, 3, 1, 2) if tiles else (0, 1, 2, 3)), pick((1, 1, 2))
    height, width = affordable(pick, o, batch * o.nheads * channels, most)
    dtype = pick((torch.float32,) if tiles else (torch.float32, torch.float64))
    values, integers = draw_values(pick)
    six = pick((True, False))
    frame0, frame1 = (
        draw_layout(
            *(pick, values((batch, 1, o.nheads * channels, height, width)).to(dtype)),
            *(o.nheads, six),
        ).squeeze(2 if six else 1)
        for _ in range(2)
    )
    grid = ((height - 1) // o.stride0 + 1, (width - 1) // o.stride0 + 1)
    flow_heads = pick((1, 1, 2, 3))
    flow = draw_flow(pick, (batch, flow_heads, 2, *grid), max(height, width)).to(dtype)
    if flow_heads == 1 and pick((True, False)):
        flow = flow[:, 0]
    return PairedCase(o, frame0, frame1, flow, integers and o.itype == "int")


def draw_charged(pick: Pick) -> ChargedCase:
    """One pair of frames and a charge; half of them such that a fast form serves them."""
    case = draw_paired(pick, tiles=pick((True, False)))
    return ChargedCase(*vars(case).values(), charge=pick((0.01, 0.3, 5.0)))


def draw_options(pick: Pick, tiles: bool) -> SearchOptions:
    itype = pick(("float", "int"))
    wt = pick((0, 0, 1, 2))
    self_action = pick([a for a in SELF_ACTIONS if wt > 0 or a is None or "remove_ref" not in a])
    ws = pick((1, 2, 3, 4, 5, 7))
    few = (1, 1) if tiles else (1,)
    k = pick((-1, 0, *few, 2, 3, 10, ws * ws, 1000))
    modes = ["all"] if self_action == "remove" else ["all", "each"]
    if k <= 0:
        modes.append("none")
    stride0 = pick((1, 1, 1, 2, 3, 16) if tiles else (1, 1, 2, 3, 5))
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
        stride0=stride0,
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
        strideQ=pick((None, stride0) if tiles else (None, None, 1, 2, 3)),
        itype=itype,
    )


def affordable(pick: Pick, o: SearchOptions, planes: int, most: int = MOST_TAPS) -> tuple[int, int]:
    """A frame size for which the reference takes no more than `most` taps, or the smallest."""
    height, width = pick(SIZES), pick(SIZES)
    while height * width > 1 and planes * _taps(o, height, width) > most:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def _taps(o: SearchOptions, height: int, width: int) -> int:
    queries = ((height - 1) // o.stride0 + 1) * ((width - 1) // o.stride0 + 1)
    cost = 4 if o.itype == "float" else 1
    return queries * (2 * o.wt + 1) * (o.ws * o.ps) ** 2 * cost
