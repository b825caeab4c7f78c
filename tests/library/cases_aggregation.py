"""Random problems for the aggregations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import stnls
import torch
from cases import MOST_TAPS, SIZES, Operator, Pick, draw_layout, draw_values, largest
from reference import PatchOptions, gather_add, patch_stack, scatter_add, weighted_patch_sum
from torch import Tensor


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

    def slope_sizes(self, weights: Sequence[Tensor]) -> list[float]:
        """What one term of each input's gradient can reach, by the weights of the loss."""
        taps = self.options["ps"] ** 2 * self.video.shape[-3]
        most, video, share = largest(weights[0]), largest(self.video), largest(self.weights)
        return [most * share, most * video * taps, most * video * share * 2 * taps]

    def assert_outputs(self, outputs: Sequence[Tensor]) -> None:
        """They are the reference's, within the rounding of sums over the entries."""
        (found,) = outputs
        expected = self.expected()
        assert found.shape == expected.shape
        assert found.dtype == self.video.dtype
        unit = 1e-5 if found.dtype == torch.float32 else 1e-12
        torch.testing.assert_close(
            found.double(), expected.double(), rtol=unit, atol=unit * self.size()
        )

    def size(self) -> float:
        """What a sum over the entries of one query can reach."""
        return largest(self.video) * largest(self.weights) * self.weights.shape[-1]


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
    values, _ = draw_values(pick)
    video = values((batch, frames, heads * channels, height, width)).to(dtype)
    grid = ((height - 1) // options["stride0"] + 1, (width - 1) // options["stride0"] + 1)
    generator = torch.Generator().manual_seed(pick(range(1000)))
    shape = (batch, heads, frames, *grid, k)
    weights = torch.rand(shape, generator=generator).to(dtype) - 0.25
    inds = _draw_offsets(pick, shape, frames, max(height, width))
    return PatchSumCase(options, draw_layout(pick, video, heads, six), weights, inds, name)


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
