"""Time of `stnls.flow.tvl1` by size and batch: the table of docs/guide/kernels.md.

Pairs are the first two frames of the clips in a folder of folders of JPEGs, taken in turns and
resized. Medians of the calls, by events on a GPU; `graph` is the same call captured once.

    python benchmarks/tvl1_speed.py DAVIS --device cuda

`--opencv N` compares with OpenCV's TV-L1 instead, on the processor: the first pair of N clips,
clean and with noise, the same settings and as many threads for both, in turns; the fastest run
counts.

    python benchmarks/tvl1_speed.py DAVIS --opencv 3 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from stnls.flow import tvl1
from torch import Tensor
from torch.nn.functional import interpolate

from stnls_cli.flow.methods import FLOW_METHODS
from stnls_cli.flow.opencv import import_cv2
from stnls_cli.noise import add_noise

SIGMAS = (0.0, 15.0)
SIZES = {"854x480": (1, 2, 4, 16), "1920x1080": (1, 8, 16), "3840x2160": (1,)}


def read_pairs(footage: Path) -> Tensor:
    """(N, 2, H, W) grey frames in [0, 1]; all clips must be of one size."""
    cv2 = import_cv2()
    folders = sorted({path.parent for path in footage.rglob("*.jpg")})
    pairs = [
        [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(folder.glob("*.jpg"))[:2]]
        for folder in folders
    ]
    return torch.from_numpy(np.asarray(pairs)).float() / 255


def batch_of(pairs: Tensor, count: int, size: str, device: str) -> tuple[Tensor, Tensor]:
    width, height = map(int, size.split("x"))
    chosen = pairs[torch.arange(count) % len(pairs)].to(device)
    if chosen.shape[-2:] != (height, width):
        chosen = interpolate(chosen, size=(height, width), mode="bicubic").clamp(0, 1)
    return chosen[:, :1].contiguous(), chosen[:, 1:].contiguous()


def milliseconds(call: Callable[[], object], device: str, runs: int) -> float:
    call()
    times = []
    for _ in range(runs):
        if device == "cpu":
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
            continue
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        times.append(before.elapsed_time(after))
    return statistics.median(times)


def captured(frames: tuple[Tensor, Tensor], epsilon: float) -> Callable[[], object]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tvl1(*frames, epsilon=epsilon)
    return graph.replay


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def beside_opencv(pairs: Tensor, threads: int, runs: int) -> None:
    """A row for each pair (two grey frames) and noise: seconds by either, and the ratio."""
    cv2 = import_cv2()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    ours = FLOW_METHODS["tvl1"]
    make = FLOW_METHODS["tvl1-opencv"].create
    assert make is not None
    print("| σ | pair | tvl1, s | OpenCV, s | ratio |\n|---|---|---|---|---|")
    for sigma in SIGMAS:
        ratios = []
        for number, pair in enumerate(pairs):
            frames = [255 * frame[None] for frame in pair]
            noisy = [add_noise(frame, sigma, 0, n) for n, frame in enumerate(frames)]
            grey = [frame.round().clamp(0, 255).byte() for frame in noisy]
            arrays = [frame[0].numpy() for frame in grey]
            # OpenCV's object keeps the pyramid of the frames before: a new one for each call.
            both = partial(ours.compute_batch, *grey), lambda a=arrays: make().calc(*a, None)
            times = [[seconds(call) for call in both] for _ in range(runs)]
            mine, theirs = map(min, zip(*times, strict=True))
            ratios.append(theirs / mine)
            cells = f"{sigma:g}", number, f"{mine:.3f}", f"{theirs:.2f}", f"{ratios[-1]:.1f}"
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        print(f"| {sigma:g} | mean | | | {statistics.geometric_mean(ratios):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("footage", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sizes", default=",".join(SIZES), help="of the table's, with commas")
    parser.add_argument("--opencv", type=int, default=0, metavar="N", help="see above")
    parser.add_argument("--threads", type=int, default=2, help="of either, with --opencv")
    options = parser.parse_args()
    pairs = read_pairs(options.footage)
    if options.opencv:
        beside_opencv(pairs[: options.opencv], options.threads, options.runs)
        return
    print("| size | batch | ε | ms | ms for a pair | graph, ms |\n|---|---|---|---|---|---|")
    for size in options.sizes.split(","):
        for count in SIZES[size]:
            frames = batch_of(pairs, count, size, options.device)
            for epsilon in (0.0, 0.01):

                def call(
                    frames: tuple[Tensor, Tensor] = frames, epsilon: float = epsilon
                ) -> Tensor:
                    return tvl1(*frames, epsilon=epsilon)

                taken = milliseconds(call, options.device, options.runs)
                graph = ""
                if options.device == "cuda" and count <= 2:
                    replay = captured(frames, epsilon)
                    graph = f"{milliseconds(replay, options.device, options.runs):.2f}"
                cells = (size, count, f"{epsilon:g}", f"{taken:.2f}", f"{taken / count:.2f}", graph)
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
