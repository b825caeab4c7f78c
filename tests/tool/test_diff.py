"""`stnls diff`: two clips against each other."""

from __future__ import annotations

import csv
import json
import math
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import refused
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stnls_cli.aggregates import aggregate
from stnls_cli.difference import compare_clips
from stnls_cli.video import write_image


@pytest.fixture
def pair(tmp_path: Path, textured: Any) -> tuple[Path, Path, list[Any], list[Any]]:
    """Two folders of five frames, the second with noise that grows; frame 3 is the same."""
    clean = list(textured(5, 40, 56))
    random = np.random.default_rng(5)
    noisy = []
    for number, frame in enumerate(clean):
        noise = random.normal(0, 4 * (number + 1), frame.shape) * (number != 3)
        noisy.append(np.clip(np.rint(frame + noise), 0, 255).astype(np.uint8))
    folders = tmp_path / "a", tmp_path / "b"
    for folder, frames in zip(folders, (clean, noisy), strict=True):
        folder.mkdir()
        for number, frame in enumerate(frames):
            write_image(folder / f"{number:03d}.png", frame)
    return *folders, clean, noisy


def test_scores_agree_with_scikit_image(cli: Any, pair: Any, tmp_path: Path) -> None:
    a, b, clean, noisy = pair
    ended = cli("diff", a, b, "--metrics=psnr,ssim,mae", "--json", "--csv=rows.csv")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["schema"], found["width"], found["height"], found["rate"]) == (
        *("stnls-diff", 56, 40),
        None,
    )
    assert found["metrics"] == ["psnr", "ssim", "mae"]
    for t, row in enumerate(found["frames"]):
        assert row["t"] == t
        if t == 3:
            assert (row["psnr"], row["ssim"], row["mae"]) == ("inf", 1.0, 0.0)
            continue
        x, y = clean[t], noisy[t]
        assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-6)
        similarity = structural_similarity(
            *(x.astype(np.float64), y.astype(np.float64)),
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
        assert row["ssim"] == pytest.approx(similarity, abs=2e-3)
        assert row["mae"] == pytest.approx(np.abs(x.astype(float) - y).mean(), abs=1e-4)
    summary = found["summary"]["psnr"]
    values = [100.0 if row["psnr"] == "inf" else row["psnr"] for row in found["frames"]]
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert summary["median"] == pytest.approx(np.median(values))
    assert summary["percentile_5"] == pytest.approx(np.percentile(values, 5))
    assert [entry["t"] for entry in summary["worst"]] == [4, 2, 1]
    assert [entry["t"] for entry in found["summary"]["mae"]["worst"]] == [4, 2, 1]
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in rows] == [
        math.inf if row["psnr"] == "inf" else row["psnr"] for row in found["frames"]
    ]
    assert "worst frame" in ended.err
    assert "(frame 4)" in ended.err


def test_a_part_of_both(cli: Any, pair: Any) -> None:
    a, b, *_ = pair
    ended = cli("diff", a, b, "--start=1", "--frames=2", "--json", "-q")
    assert [row["t"] for row in json.loads(ended.out)["frames"]] == [1, 2]
    assert ended.err == ""


def test_folders_with_other_numbers(cli: Any, pair: Any, tmp_path: Path) -> None:
    a, b, *_ = pair
    assert "numbers differ" not in cli("diff", a, b).err
    (b / "004.png").rename(b / "005.png")
    assert "numbers differ" in cli("diff", a, b).err
    assert "numbers differ" not in cli("diff", a, b, "--frames", "4").err
    (b / "005.png").rename(b / "004.png")
    for number in range(4, -1, -1):
        (b / f"{number:03d}.png").rename(b / f"{number + 1:03d}.png")
    ended = cli("diff", a, b)
    assert ended.code == 0
    assert ended.lines[0] == (
        f"{a} and {b}: frames are compared in order, and their numbers differ: 000.png with 001.png"
    )
    assert cli("diff", a, b, "-q").err == ""


def test_gate(cli: Any, pair: Any) -> None:
    a, b, *_ = pair
    assert cli("diff", a, b, "--fail-below=20", "-q").code == 0
    ended = cli("diff", a, b, "--fail-below=60", "-q")
    refused(ended, f"{b}: mean PSNR ", code=1)
    assert "is below 60; worst frames: 4 (" in ended.err


def test_clips_that_are_not_alike(
    cli: Any, pair: Any, tmp_path: Path, textured: Any, encode: Any
) -> None:
    a, b, clean, _ = pair

    def video(name: str, frames: Any, rate: int = 25) -> Path:
        path: Path = encode(tmp_path / name, frames, codec="ffv1", pixel_format="bgr0", rate=rate)
        return path

    same = video("same.mkv", clean)
    assert cli("diff", a, same, "-q").code == 0  # a folder goes with any rate
    small = video("small.mkv", textured(5, 32, 48))
    refused(cli("diff", same, small), "has frames of 56x40 and")
    short = video("short.mkv", clean[:3])
    refused(cli("diff", same, short), f"{same} has 5 frames and {short} 3")
    refused(cli("diff", b, short), f"{b} has 5 frames and {short} 3")
    fast = video("fast.mkv", clean, rate=50)
    refused(cli("diff", same, fast), f"{same} has 25 frames a second and {fast} 50")
    refused(cli("diff", a, tmp_path / "none"), "no such file or folder")
    refused(cli("diff", a, b, "--start=9"), "--start 9 is beyond the end")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(same.read_bytes()[:-500])
    damaged = tmp_path / "damaged"
    shutil.copytree(a, damaged)
    sorted(damaged.iterdir())[2].write_bytes(b"none")
    # There is no --allow-damaged here: frames that are left out cannot be compared.
    for clip, words in ((cut, "could be read"), (damaged, "not an image that FFmpeg can decode")):
        ended = cli("diff", a, clip)
        refused(ended, words)
        assert "--allow-damaged" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metrics=out_of_frame"], "unknown metric 'out_of_frame'"),
        (["--metrics=epe"], "in --metrics epe; choose from psnr, ssim, mae"),
        (["--metrics=ssim", "--fail-below=30"], "--fail-below needs psnr among --metrics"),
        (["--fail-below=nan"], "--fail-below must be a number"),
        (["--csv=no/rows.csv"], "cannot write no/rows.csv"),
        (["--frames=0"], "--frames 0: must be 1 or more"),
    ],
)
def test_bad_options(cli: Any, pair: Any, arguments: list[str], words: str) -> None:
    refused(cli("diff", pair[0], pair[1], *arguments), words)


def test_from_python(pair: Any) -> None:
    found = compare_clips(pair[0], pair[1], ("psnr",), frames=2)
    assert repr(found) == f"Difference of {pair[0]} and {pair[1]}: 2 frames"
    assert found.rate is None or isinstance(found.rate, Fraction)


def test_aggregates() -> None:
    scores: dict[int, float | None] = {n: float(n) for n in range(1, 101)}
    found = aggregate("psnr", {**scores, 200: None})
    assert found is not None
    assert (found.mean, found.median, found.percentile_5) == (50.5, 50.5, pytest.approx(5.95))
    assert found.worst == ((1, 1.0), (2, 2.0), (3, 3.0))
    falling = aggregate("mae", scores)
    assert falling is not None
    assert falling.percentile_5 == pytest.approx(95.05)
    assert falling.worst[0] == (100, 100.0)
    assert aggregate("ssim", {1: None}) is None
