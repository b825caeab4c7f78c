"""Times the operators on named problems; the flows are those that alignment meets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import stnls
import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """A call to time. `pairs` is how many (frame, slot) pairs it searches."""

    name: str
    pairs: int
    run: Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call over several runs, and what it allocated at its peak in MiB (CUDA)."""

    problem: str
    pairs: int
    median: float
    low: float
    high: float
    peak_mib: float | None


def edges_flow(frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Flow (frames, 2, height, width) like that of real scenes: smooth (standard deviation 3 px),
    four ellipses that jump by 5 to 9 px, and 0.3 px of jitter."""
    coarse = torch.randn(frames, 2, max(2, height // 96), max(2, width // 96), generator=generator)
    flow = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    flow = 3.0 * flow / flow.std()
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    for _ in range(4):
        where = torch.rand(4, generator=generator)
        jump = torch.randn(2, generator=generator)
        jump = jump / jump.norm() * (5 + 4 * torch.rand(1, generator=generator))
        inside = ((y - 1.6 * where[0] + 0.8) / (0.15 + 0.25 * where[2])) ** 2 + (
            (x - 1.6 * where[1] + 0.8) / (0.1 + 0.2 * where[3])
        ) ** 2 < 1
        flow = flow + inside * jump[:, None, None]
    return flow + 0.3 * torch.randn(flow.shape, generator=generator)


def _video(frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Textured frames (1, frames, 3, height, width) of whole values from 0 to 255."""
    noise = torch.rand(frames, 3, height, width, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    low, high = blurred.amin(), blurred.amax()
    return (255 * (blurred - low) / (high - low)).round()[None]


def problems(device: torch.device, quick: bool = False) -> Iterator[Problem]:
    """The presets, their tensors on `device`; `quick`: small frames, to see that all works."""
    generator = torch.Generator().manual_seed(0)
    height, width = (64, 96) if quick else (480, 854)
    side = 32 if quick else 128
    video0 = _video(5, height, width, generator).to(device)
    video1 = _video(5, height, width, generator).to(device)
    flows = [edges_flow(5, height, width, generator)[None].to(device) for _ in range(2)]

    pair = video0[:, 0].contiguous(), video1[:, 0].contiguous(), flows[0][:, 0].contiguous()
    for grid, stride1, best in (
        ("int", 1.0, 1),
        ("float", 1.0, 1),
        ("float", 0.5, 1),
        ("int", 1.0, 10),
    ):
        search = stnls.search.PairedSearch(9, 7, best, stride0=1, stride1=stride1, itype=grid)
        name = f"PairedSearch {height}p ws9 ps7 C3 K{best} {grid} stride1={stride1:g}"
        yield Problem(name, 1, lambda search=search: search(*pair))  # type: ignore[misc]

    video_search = stnls.search.NonLocalSearch(9, 1, 7, 1, itype="int")
    yield Problem(
        f"NonLocalSearch {height}p T5 ws9 wt1 ps7 C3 K1 int",
        15,
        lambda: video_search(video0, video1, *flows),
    )

    distance, offset = stnls.search.PairedSearch(9, 7, 1, stride0=1, itype="float")(*pair)
    inds = torch.cat((torch.zeros_like(offset[..., :1]), offset), dim=-1)[:, :, None]
    weights = torch.ones_like(distance)[:, :, None]
    patch_sum = stnls.agg.WeightedPatchSum(7, 1)
    yield Problem(
        f"WeightedPatchSum {height}p ps7 C3 K1 float",
        1,
        lambda: patch_sum(pair[1][:, None], weights, inds),
    )

    q, k, v = (torch.randn(1, 5, 16, side, side, generator=generator).to(device) for _ in range(3))
    fflow, bflow = (edges_flow(5, side, side, generator)[None].to(device) for _ in range(2))
    attention = stnls.search.NonLocalSearch(
        5, 2, 3, 10, nheads=2, stride1=0.5, self_action="anchor", itype="float"
    )
    aggregate = stnls.agg.WeightedPatchSum(3, 1)

    def attend() -> Tensor:
        dists, found = attention(q, k, fflow, bflow)
        out: Tensor = aggregate(v, torch.softmax(-10 * dists, -1), found)
        return out

    yield Problem(f"attention {side}x{side} T5 F16 heads2 ws5 wt2 ps3 K10 stride1=0.5", 25, attend)


def measure(problem: Problem, device: torch.device, repeat: int) -> Timing:
    """Runs once to warm up, then `repeat` times."""
    problem.run()
    peak = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        problem.run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    if device.type == "cuda":
        peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    return Timing(
        problem.name, problem.pairs, statistics.median(times), min(times), max(times), peak
    )
