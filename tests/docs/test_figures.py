"""The figures that pages quote: those of benchmarks/results, or what a small run shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import stnls
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
KERNELS = (ROOT / "docs/guide/kernels.md").read_text(encoding="utf-8")

ALIGNMENT = "NonLocalSearch T5 C3 480x854 ws9 wt1 ps7"
ATTENTION = "NonLocalSearch T5 C64 256x256 ws9 wt1 ps{} K9 heads4 float step0.5 forward{}"
EXAMPLE = "NonLocalSearch T5 C16 128x128 ws5 wt2 ps3 K10 heads2 float step0.5 anchor forward{}"
BOTH = "+backward"
SPEED = [  # of the README's table, line by line
    ("854×480, 3 channels, ws 9, wt 1, ps 7, K 1, integer grid", f"{ALIGNMENT} K1 int forward"),
    ("the same, real grid, step 0.5", f"{ALIGNMENT} K1 float step0.5 forward"),
    (
        "the same, real grid, step 1 (the default of `stnls align`)",
        f"{ALIGNMENT} K1 float step1 forward",
    ),
    ("the same, integer grid, K 10", f"{ALIGNMENT} K10 int forward"),
    ("256×256, 64 channels, 4 heads, ws 9, wt 1, K 9, step 0.5, ps 1", ATTENTION.format(1, "")),
    ("the same, with backward", ATTENTION.format(1, BOTH)),
    ("the same, ps 3", ATTENTION.format(3, "")),
    ("the same, ps 3, with backward", ATTENTION.format(3, BOTH)),
    ("the attention example above (ws 5, wt 2, ps 3, K 10)", EXAMPLE.format("")),
    ("the same, with backward", EXAMPLE.format(BOTH)),
]
SUMS = {  # of the guide's table of whole calls
    "README attention": "WeightedPatchSum T5 C16 128x128 ps3 K10 heads2",
    "attention, ps 1": "WeightedPatchSum T5 C64 256x256 ps1 K9 heads4",
    "attention, ps 3": "WeightedPatchSum T5 C64 256x256 ps3 K9 heads4",
}


STRIDES = (
    "T5 C3 480x854 ws9 wt1 ps7 K1 stride2 float step0.5",
    "T5 C64 256x256 ws9 wt1 ps3 K9 heads4 stride2 float step0.5",
    "T5 C64 256x256 ws9 wt1 ps7 K9 heads4 stride4 float step0.5",
)


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks/results" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cuda() -> dict[str, dict[str, Any]]:
    """The library's rows of `make gpu-bench`, by problem."""
    found = results("bench-cuda.json")
    assert found["machine"] == "NVIDIA H200"
    return {row["problem"]: row for row in found["rows"] if row["backend"] == "stnls"}


def table(text: str, header: str) -> list[list[str]]:
    """The cells of the table with this header line."""
    below = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below]


def test_speed(cuda: dict[str, dict[str, Any]]) -> None:
    rows = table(README, "| `NonLocalSearch` | stnls | the original |")
    assert [name for name, *_ in rows] == [name for name, _ in SPEED]
    for (name, ours, theirs), (_, problem) in zip(rows, SPEED, strict=True):
        row = cuda[problem]
        assert ours == f"{row['median_ms']:.1f}", name
        original = row["original"]
        assert theirs == ("" if original is None else f"{original['ms']:.1f}"), name


def test_speed_of_patch_sums(cuda: dict[str, dict[str, Any]]) -> None:
    rows = table(KERNELS, "| patch sum | goal |")
    assert len(rows) == 4 * len(SUMS)
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        what, kind, _ = first[0].rsplit(", ", 2)
        assert second[0] == "both ways"
        grid = {"real": "float", "integer": "int"}[kind]
        for row, passes in ((first, "forward"), (second, "forward+backward")):
            median = cuda[f"{SUMS[what]} {grid} {passes}"]["median_ms"]
            late = median > float(row[1])
            assert row[-1] == (f"**{median:.3f}**" if late else f"{median:.3f}"), (first[0], passes)


def test_speed_where_flow_is_torn(cuda: dict[str, dict[str, Any]]) -> None:
    rows = table(KERNELS, "| flow | tiles | direct form, a thread")
    problem = "NonLocalSearch T5 C3 480x854 ws9 wt1 ps7 K1 int{} forward"
    for row, flow in zip(rows, ("", " flow=file", " flow=wild"), strict=False):
        assert row[1] == f"{cuda[problem.format(flow)]['median_ms']:.2f}", row[0]
    two = cuda[problem.format(" flow=file").replace("wt1", "wt2")]["median_ms"]
    one = cuda[problem.format(" flow=file")]["median_ms"]
    assert f"(wt 2) the real clip takes {two:.2f} ms, {two / one:.1f} times as long" in KERNELS
    ten = cuda[problem.format("").replace("K1", "K10")]["median_ms"]
    assert f"(the goal was 2.4 ms; it takes {ten:.2f})" in KERNELS


def test_speed_beside_flex_attention() -> None:
    rows = results("bench-cuda.json")["rows"]
    medians = {r["backend"]: r["median_ms"] for r in rows if r["preset"] == "neighbourhood"}
    ours, flex = (f"{medians[name]:.2f}" for name in ("stnls", "flex"))
    words = " ".join(README.split())
    assert f"take {ours} ms, compiled FlexAttention, which is made for them, {flex}" in words


def test_memory_of_searches(cuda: dict[str, dict[str, Any]]) -> None:
    told = dict(row[:2] for row in table(KERNELS, "| | forward | with backward |"))
    shares = [cuda[f"NonLocalSearch {name} forward"]["peak_share"] for name in STRIDES]
    assert told["strides 2 and 4: alignment, step 0.5 / attention, ps 3 / ps 7"] == " / ".join(
        f"**{share:.2f}**" for share in shares
    )


def test_speed_of_gradients_of_searches(cuda: dict[str, dict[str, Any]]) -> None:
    told = re.findall(r"\(now ([\d.]+)\)", KERNELS[KERNELS.index("## The gradient of a search") :])
    medians = (cuda[ATTENTION.format(ps, BOTH)]["median_ms"] for ps in (3, 1))
    assert told == [f"{median:.1f}" for median in medians]


def test_speed_of_the_tool() -> None:
    found = results("pipeline-h200.json")
    alone, pngs = found["report_only_frames_a_second"], found["pngs_frames_a_second"]
    eight = found["eight_clips_seconds"]
    words = " ".join(README.split())
    assert f"aligns {span(alone['first_to_last'])} reference frames of 854×480 a second" in words
    assert f"{span(alone['clips'])} with their start and end" in words
    written = f"and {span(pngs['all_first_to_last'])} ({span(pngs['all_clips'])}) where it writes"
    assert written in words
    one, two = eight["one GPU"], span(eight["two GPUs"])
    assert f"clips take {one:.0f} seconds on one GPU and {two} on two" in words
    hosts = results("pipeline-cpu.json")["hosts"]
    told = re.search(
        r"is ([\d.]+) to ([\d.]+) frames a second by host with all measures, "
        r"([\d.]+) to ([\d.]+) with `--metrics psnr`",
        words,
    )
    assert told is not None
    figures = [[host[name] for host in hosts] for name in ("all_measures", "psnr_alone")]
    ends = [end(figure) for figure in figures for end in (min, max)]
    assert list(told.groups()) == [f"{value:.1f}" for value in ends]


def span(values: list[float]) -> str:
    least, most = (f"{value:.0f}" for value in (min(values), max(values)))
    return least if least == most else f"{least} to {most}"


def test_quality() -> None:
    rows = table(README, "| | flow | none | flow | shifted-nls | gain |")
    tables = {found["setting"]: found["clips"] for found in results("quality.json")["tables"]}
    kept, checked = tables["sigma=15,frames=10"], 0
    for title, flow, *cells in rows:
        if title == "clean":
            kept = tables["sigma=0,frames=10"]
        clips = kept.get(flow.split("`")[1])
        if clips is None:  # measured before, see below the table
            continue
        gains = [clip["shifted-nls"] - clip["flow"] for clip in clips.values()]
        none, before, after = (
            fmean(clip[key] for clip in clips.values()) for key in ("none", "flow", "shifted-nls")
        )
        assert cells[0] in ("", f"{none:.2f}")
        assert cells[1:5] == [
            *(f"{before:.2f}", f"**{after:.2f}**"),
            *(f"{fmean(gains):+.2f}", f"{min(gains):+.2f}"),
        ]
        assert cells[5] == f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
        checked += 1
    assert checked == 8


@pytest.mark.parametrize("ps", [1, 3])
def test_error_of_half_precision(ps: int) -> None:
    guide = (ROOT / "docs/guide/numbers.md").read_text(encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    videos = [torch.randn(1, 3, 16, 24, 28, generator=generator) for _ in range(2)]
    flows = 3 * torch.randn(1, 3, 2, 2, 24, 28, generator=generator)
    search = stnls.search.NonLocalSearch(9, 1, ps, -1, stride1=0.5)

    def distances(videos: list[Tensor], flows: Tensor) -> Tensor:
        dists, _ = search(*videos, flows)
        return dists[torch.isfinite(dists)].double()

    def error(found: Tensor, expected: Tensor) -> float:
        return ((found - expected).square().mean().sqrt() / expected.mean()).item()

    exact = distances([video.double() for video in videos], flows.double())
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        (told,) = re.findall(rf"^\| {name} \| (\S+) \| (\S+) \|$", guide, re.MULTILINE)
        expected = float(told[[1, 3].index(ps)])
        rounded = [video.to(dtype) for video in videos]
        found = distances(rounded, flows)
        assert 0.8 * expected < error(found, exact) < 1.25 * expected
        same = distances([video.double() for video in rounded], flows.double())
        assert error(found, same) < 1e-6  # all of it is the rounding of the videos
