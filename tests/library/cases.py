"""Random problems, drawn by `pick(choices)`: hypothesis or a seeded generator chooses.

Here what all have in common, and flow; `cases_search`, `cases_refine` and `cases_aggregation` have
the problems of the other operators.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import stnls
import torch
from hypothesis import strategies as st
from reference import compose_flow, search_flow
from torch import Tensor

Pick = Callable[[Sequence[Any]], Any]
Operator = Callable[..., Sequence[Tensor]]
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


def largest(x: Tensor) -> float:
    """The largest magnitude."""
    return float(x.abs().max()) if x.numel() else 0.0


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


def draw_values(
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


def draw_layout(pick: Pick, video: Tensor, heads: int, six: bool) -> Tensor:
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

    def assert_outputs(self, outputs: Sequence[Tensor]) -> None:
        """They are the reference's; for flow of float64, for a rounded place may lie beyond a
        pixel."""
        for found, expected in zip(outputs, self.entries(self.inputs(), ()), strict=True):
            assert found.dtype == torch.float64
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-6, equal_nan=True)

    def slope_sizes(self, weights: Sequence[Tensor]) -> list[float]:
        """What one term of each input's gradient can reach, by the weights of the loss."""
        return [100 * largest(weights[0])] * len(self.flows)


def draw_composition(pick: Pick, *, kinds: Sequence[str] = FLOWS) -> FlowCase:
    """A composition of flow; without `kinds` that lose the way."""
    batch, frames = pick((1, 2)), pick((1, 2, 3, 5))
    height, width = pick((1, 2, 5, 13)), pick((1, 3, 8, 17))
    shape = (batch, frames, 2, height, width)
    dtype = pick((torch.float64, torch.float32))
    count = pick((1, 2))
    flows = [draw_flow(pick, shape, max(height, width), kinds).to(dtype) for _ in range(count)]
    return FlowCase(flows, pick((0, 1, 2)), pick((1, 2, 4)))
