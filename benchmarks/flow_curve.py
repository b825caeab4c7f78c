"""Quality of the flow against its cost: every flow method, and settings of our TV-L1.

One pair of neighbouring frames of every clip, clean and with noise. Quality is the PSNR of the
second frame, clean, warped onto the first (as in `stnls align`), and the mean end-point error on
Middlebury's pairs; cost is processor time on one thread, the least of the runs.

    python benchmarks/flow_curve.py DAVIS MIDDLEBURY

With `--device cuda` our TV-L1 runs on a GPU, a pair at a time, and cost is the time until the flow
is back in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stnls.flow import tvl1

from stnls_cli.flow.flo import read_flo
from stnls_cli.flow.luma import luma8
from stnls_cli.flow.methods import FLOW_METHODS, FlowMethod
from stnls_cli.flow.opencv import import_cv2
from stnls_cli.metrics import psnr
from stnls_cli.noise import add_noise
from stnls_cli.warp import warp

Gray = npt.NDArray[np.uint8]
Estimate = Callable[[Gray, Gray], npt.NDArray[np.float32]]

SIGMAS = (0.0, 15.0)
SLOW = ("tvl1-paper", "tvl1-opencv")
# warps, outerIterations, innerIterations; all iterations are done.
SETTINGS = (
    *((1, 1, 15), (1, 1, 30), (2, 1, 10), (2, 1, 15), (2, 1, 30), (3, 1, 10), (3, 1, 15)),
    *((3, 1, 30), (3, 2, 15), (4, 1, 15), (5, 1, 15), (5, 1, 30), (5, 2, 30), (10, 1, 15)),
)


@dataclass(frozen=True)
class Pair:
    """Two frames as flow sees them, and what is warped."""

    sigma: float
    grey: tuple[Gray, Gray]
    clean: tuple[torch.Tensor, torch.Tensor]


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    cv2 = import_cv2()
    image: npt.NDArray[np.uint8] = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return image


def pairs_of(footage: Path) -> list[Pair]:
    """The first two frames of every folder of JPEGs, by name, without and with noise."""
    pairs = []
    for folder in sorted({path.parent for path in footage.rglob("*.jpg")}, key=lambda f: f.name):
        images = [read_rgb(path) for path in sorted(folder.glob("*.jpg"))[:2]]
        first, second = (torch.from_numpy(image).permute(2, 0, 1).float() for image in images)
        for sigma in SIGMAS:
            seen = (add_noise(f, sigma, 0, n) for n, f in enumerate((first, second)))
            grey0, grey1 = (luma8(f.permute(1, 2, 0).numpy()) for f in seen)
            pairs.append(Pair(sigma, (grey0, grey1), (first, second)))
    return pairs


def scenes_of(middlebury: Path) -> list[tuple[Gray, Gray, torch.Tensor]]:
    """Two grey frames and the true flow (2, H, W), NaN where it is not known."""
    cv2 = import_cv2()
    scenes = []
    for truth in sorted(middlebury.glob("*/flow10.flo")):
        grey = [cv2.imread(str(truth.with_name(f"frame1{n}.png")), 0) for n in (0, 1)]
        flow = torch.from_numpy(read_flo(truth).copy()).permute(2, 0, 1)
        scenes.append((grey[0], grey[1], torch.where(flow.abs() < 1e9, flow, torch.nan)))
    return scenes


def on_gpu(method: FlowMethod) -> Estimate:
    def estimate(grey0: Gray, grey1: Gray) -> npt.NDArray[np.float32]:
        frames = (torch.from_numpy(grey)[None].cuda() for grey in (grey0, grey1))
        flow: npt.NDArray[np.float32] = method.compute_batch(*frames)[0].cpu().numpy()
        return flow.transpose(1, 2, 0)

    return estimate


def with_settings(warps: int, outer: int, inner: int) -> Estimate:
    settings: dict[str, Any] = {
        "warps": warps,
        "outerIterations": outer,
        "innerIterations": inner,
        "epsilon": 0.0,
    }

    def estimate(grey0: Gray, grey1: Gray) -> npt.NDArray[np.float32]:
        frames = (torch.from_numpy(grey)[None, None].float() / 255 for grey in (grey0, grey1))
        flow: npt.NDArray[np.float32] = tvl1(*frames, **settings)[0].permute(1, 2, 0).numpy()
        return flow

    return estimate


def measured(
    name: str,
    estimate: Estimate,
    pairs: list[Pair],
    scenes: list[tuple[Gray, Gray, torch.Tensor]],
    runs: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """A point of the curve; prints its row of a Markdown table."""
    scores: dict[float, list[float]] = {sigma: [] for sigma in SIGMAS}
    seconds = []
    for pair in pairs:
        taken = []
        for _ in range(runs):
            start = clock()
            flow = estimate(*pair.grey)
            taken.append(clock() - start)
        seconds.append(min(taken))
        moved = warp(pair.clean[1], torch.from_numpy(flow).permute(2, 0, 1))
        scores[pair.sigma].append(psnr(moved, pair.clean[0]))
    errors = []
    for grey0, grey1, truth in scenes:
        difference = torch.from_numpy(estimate(grey0, grey1)).permute(2, 0, 1) - truth
        errors.append(float(difference[:, truth.isfinite().all(0)].norm(dim=0).mean()))
    point: dict[str, Any] = {
        "name": name,
        "seconds": round(statistics.fmean(seconds), 4),
        "psnr": {f"{sigma:g}": round(statistics.fmean(s), 3) for sigma, s in scores.items()},
        "end_point_error": round(statistics.fmean(errors), 4) if errors else None,
    }
    cells = [
        name,
        f"{point['seconds']:.3f}",
        *(f"{statistics.fmean(s):.2f}" for s in scores.values()),
    ]
    cells.append("" if point["end_point_error"] is None else f"{point['end_point_error']:.3f}")
    print("| " + " | ".join(cells) + " |", flush=True)
    return point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("footage", type=Path, help="folder of folders of JPEG frames")
    parser.add_argument("middlebury", type=Path, help="folder of Middlebury's scenes")
    parser.add_argument("--flow", help="methods by name, with commas (default: all but the slow)")
    parser.add_argument("--settings", action="store_true", help="settings of our TV-L1 too")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=int, default=2, help="of each pair; the fastest counts")
    parser.add_argument("--json", type=Path, help="write the points here")
    options = parser.parse_args()

    torch.set_num_threads(1)
    pairs, scenes = pairs_of(options.footage), scenes_of(options.middlebury)
    gpu = options.device == "cuda"
    chosen = None if options.flow is None else options.flow.split(",")
    for name in filter(None, chosen or ()):
        if name not in FLOW_METHODS:
            parser.error(f"unknown flow {name}: {', '.join(FLOW_METHODS)}")
    names = [
        name
        for name, method in FLOW_METHODS.items()
        if (
            name in chosen
            if chosen is not None
            else name not in (*SLOW, "zero") and (method.native is not None or not gpu)
        )
    ]
    if gpu and (options.settings or any(FLOW_METHODS[name].native is None for name in names)):
        parser.error("on a GPU there is our TV-L1 alone: --flow tvl1,tvl1-fast, no --settings")
    print(f"| flow | {'' if gpu else 'processor '}seconds | clean | σ = 15 | end-point error |")
    print("|---|---|---|---|---|", flush=True)
    points = [
        measured(name, on_gpu(method), pairs, scenes, options.runs, time.perf_counter)
        if gpu
        else measured(name, method.compute, pairs, scenes, options.runs)
        for name, method in FLOW_METHODS.items()
        if name in names
    ]
    if options.settings:
        points += [
            measured(
                f"{warps} × {outer} × {inner}",
                with_settings(warps, outer, inner),
                *(pairs, scenes, options.runs),
            )
            for warps, outer, inner in SETTINGS
        ]
    if options.json is not None:
        options.json.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
