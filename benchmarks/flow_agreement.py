"""How far our TV-L1 and OpenCV's differ with the same settings, and which of them warps better.

    python benchmarks/flow_agreement.py sample_videos/*.mp4 --at 0,0.5
    python benchmarks/flow_agreement.py DAVIS/*/*

A row for each pair of neighbouring frames: median, mean and 99th percentile over the pixels of the
distance between the two flows, in pixels, and for both the PSNR of the second frame warped onto the
first; where the clip's true motion lies beside it (`sample_videos`), their mean end-point errors
over the pixels that are visible in both frames, and over all.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stnls_cli.flow.luma import luma8
from stnls_cli.flow.methods import FLOW_METHODS
from stnls_cli.ground_truth import load_motion
from stnls_cli.metrics import psnr
from stnls_cli.video.clip import open_clip
from stnls_cli.warp import warp

NAMES = ("tvl1", "tvl1-opencv")
Flow = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Agreement:
    """Figures of a pair; of two methods ours first."""

    median: float
    mean: float
    percentile99: float
    psnr: tuple[float, float]
    visible_error: tuple[float, float] | None
    error: tuple[float, float] | None

    def cells(self) -> list[str]:
        return [
            *(f"{value:.3f}" for value in (self.median, self.mean)),
            f"{self.percentile99:.2f}",
            " / ".join(f"{value:.2f}" for value in self.psnr),
            *(
                "" if errors is None else " / ".join(f"{error:.3f}" for error in errors)
                for errors in (self.visible_error, self.error)
            ),
        ]


def compare(clip: Path, index: int, frames: tuple[Frame, Frame]) -> Agreement:
    grey0, grey1 = (luma8(frame) for frame in frames)
    flows = [FLOW_METHODS[name].compute(grey0, grey1) for name in NAMES]
    apart = np.linalg.norm(flows[0] - flows[1], axis=2)
    first, second = (torch.from_numpy(frame).permute(2, 0, 1).float() for frame in frames)
    likeness = [psnr(warp(second, torch.from_numpy(f).permute(2, 0, 1)), first) for f in flows]
    motion_file = clip.with_suffix(".json")
    errors = visible_errors = None
    if motion_file.is_file():
        motion = load_motion(motion_file)
        truth, visible = motion.flow(index, 1), motion.visible(index, 1)
        maps = [np.linalg.norm(flow - truth, axis=2) for flow in flows]
        errors = float(maps[0].mean()), float(maps[1].mean())
        visible_errors = float(maps[0][visible].mean()), float(maps[1][visible].mean())
    return Agreement(
        float(np.median(apart)),
        float(apart.mean()),
        float(np.quantile(apart, 0.99)),
        (likeness[0], likeness[1]),
        visible_errors,
        errors,
    )


def pairs_of(clip: Path, places: list[float]) -> list[tuple[int, tuple[Frame, Frame]]]:
    """Two neighbouring frames at each of the places, from 0 (the first) to 1; and their number."""
    with open_clip(clip, frames=None if any(places) else 2) as opened:
        frames = [np.asarray(frame.rgb) for frame in opened]
    numbers = [min(int(place * len(frames)), len(frames) - 2) for place in places]
    return [(number, (frames[number], frames[number + 1])) for number in numbers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("clips", type=Path, nargs="+", help="videos or folders of frames")
    parser.add_argument("--at", default="0", help="places in the clip, from 0 to 1, with commas")
    options = parser.parse_args()
    places = [float(place) for place in options.at.split(",")]
    torch.set_num_threads(1)
    print("| pair | median | mean | 99 % | PSNR of the warp | error where visible | error |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found = []
    for clip in sorted(options.clips, key=lambda path: path.name):
        for number, frames in pairs_of(clip, places):
            found.append(compare(clip, number, frames))
            cells = [f"{clip.stem} {number}", *found[-1].cells()]
            print("| " + " | ".join(cells) + " |", flush=True)
    means = []
    for name in (field.name for field in fields(Agreement)):
        values = [value for each in found if (value := getattr(each, name)) is not None]
        if values and isinstance(values[0], tuple):
            means.append(tuple(statistics.fmean(column) for column in zip(*values, strict=True)))
        else:
            means.append(statistics.fmean(values) if values else None)
    print("| " + " | ".join(["mean of the pairs", *Agreement(*means).cells()]) + " |")


if __name__ == "__main__":
    main()
