"""The tensors of a problem, the same on every device and in every run."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from stnls_cli.bench.calls import operator, search_before
from stnls_cli.bench.flow_file import FILE, FlowFile
from stnls_cli.bench.flows import slot_flows
from stnls_cli.bench.problem import Problem

Tensors = tuple[Tensor, ...]


def textured_video(frames: int, channels: int, height: int, width: int, g: Generator) -> Tensor:
    """(1, frames, channels, height, width) of whole values from 0 to 255."""
    noise = torch.rand(frames, channels, height, width, generator=g)
    blurred = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    low, high = blurred.amin(), blurred.amax()
    return (255 * (blurred - low) / (high - low)).round()[None]


def video_of(problem: Problem, generator: Generator) -> Tensor:
    """Textures, or normally distributed features."""
    size = problem.frames, problem.channels, problem.height, problem.width
    if problem.is_image:
        return textured_video(*size, generator)
    return torch.randn(1, *size, generator=generator)


class InputMaker:
    """Makes inputs, and keeps the result of the latest search for the patch sums after it."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        flow: str,
        flow_file: FlowFile | None = None,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.flow, self.flow_file = flow, flow_file
        self._latest: tuple[Problem, Tensors] | None = None

    def flow_name(self, problem: Problem) -> str:
        """What rows say about the flow."""
        return problem.flow or self.flow

    def make(self, problem: Problem) -> Tensors:
        """In the order of the call: videos and flow; or video, weights and offsets."""
        generator = torch.Generator().manual_seed(0)
        video = video_of(problem, generator).to(self.device, self.dtype)
        if problem.operator == "WeightedPatchSum":
            return (video, *self._matches(problem))
        key = video_of(problem, generator).to(self.device, self.dtype)
        if problem.operator == "NeighbourhoodAttention":
            return video, key, video_of(problem, generator).to(self.device, self.dtype)
        flows = self._flows(problem, generator)
        if problem.paired:
            return video[:, 0].contiguous(), key[:, 0].contiguous(), flows[:, 0, 0].contiguous()
        return video, key, flows

    def keep(self, problem: Problem, results: Tensors) -> None:
        """The result of a search, for the patch sums of it that follow."""
        dists, inds = (x.detach() for x in results)
        terms = problem.ps**2 * problem.channels // problem.heads
        self._latest = problem, (torch.softmax(-dists / terms, -1), inds)

    def forget(self) -> None:
        """Frees what is kept."""
        self._latest = None

    def _flows(self, problem: Problem, generator: Generator) -> Tensor:
        if problem.flow == FILE:
            assert self.flow_file is not None
            flows = self.flow_file.flows(problem)
        else:
            name, size = self.flow_name(problem), (problem.height, problem.width)
            flows = slot_flows(name, problem.frames, problem.flow_slots, *size, generator)
        grid = flows[..., :: problem.stride0, :: problem.stride0].contiguous()
        return grid[None].to(self.device)

    def _matches(self, problem: Problem) -> Tensors:
        """Weights and offsets of the search that a patch sum follows, in float32."""
        search = search_before(problem)
        if self._latest is None or self._latest[0] != search:
            self._latest = None
            self.keep(search, operator(search)(*self.make(search)))
        assert self._latest is not None
        return self._latest[1]
