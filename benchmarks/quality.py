"""Alignment quality on real footage: the tables of the README.

For every clip and flow method the flow is computed once, by `stnls align --save flow`, and kept;
the searches are then run on the kept flow. Runs that are complete are not repeated.

    python benchmarks/quality.py --footage DAVIS --cache data-cache/quality
    python benchmarks/quality.py --steps --flows dis,tvl1
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stnls_cli import align
from stnls_cli.metrics import mean_score
from stnls_cli.report import Report, Row

FLOWS = ("tvl1", "dis", "farneback", "zero", "tvl1-opencv")
SLOW_FLOW = "tvl1-paper"
SLOW_CLIPS, SLOW_FRAMES = 4, 3
"""That one is measured on few frames of the clips in the folder `test`, or of the first few."""
STEPS_FRAMES = 2
PAPER: dict[str, Any] = {
    "ps": 7, "prior": 0.0, "subpixel": "none", "patch_weights": "uniform", "sampling": "bilinear",
}  # fmt: skip
"""The paper's form of the search."""
STEPS = ("ps", "prior", "subpixel", "patch_weights", "sampling")
"""What leads from there to the defaults, in the order of the README."""


@dataclass(frozen=True)
class Setting:
    """What is measured: the search's options, and the noise."""

    sigma: float
    frames: int
    search: dict[str, Any]

    def name(self) -> str:
        parts = [f"{key}={value}" for key, value in sorted(self.search.items())]
        return ",".join([f"sigma={self.sigma:g}", f"frames={self.frames}", *parts])


def steps() -> list[dict[str, Any]]:
    """The paper's form, then one more default at a time, up to all of them."""
    return [
        {name: value for name, value in PAPER.items() if name not in STEPS[:taken]}
        for taken in range(len(STEPS) + 1)
    ]


def clips_of(footage: Path) -> list[Path]:
    """Every folder below `footage` that holds frames, by name."""
    folders = {path.parent for path in footage.rglob("*.jpg")}
    return sorted(folders, key=lambda folder: folder.name)


def kept_flow(
    clip: Path, flow: str, setting: Setting, cache: Path, device: str
) -> tuple[str, Report]:
    """Flow of a clip: the folder it is kept in, and the report of warping by it."""
    folder = cache / f"flow,sigma={setting.sigma:g},frames={setting.frames}" / flow / clip.name
    report = align(
        clip,
        folder,
        frames=setting.frames,
        wt=1,
        sigma=setting.sigma,
        flow=flow,
        methods="none,flow",
        metrics="psnr",
        save="flow" if flow != "zero" else "none",
        device=device,
    )
    return (flow if flow == "zero" else str(folder / "flow")), report


def searched(clip: Path, flow: str, setting: Setting, cache: Path, device: str) -> list[Row]:
    """Rows of none, flow and shifted-nls."""
    path, warped = kept_flow(clip, flow, setting, cache, device)
    report = align(
        clip,
        cache / setting.name() / flow / clip.name,
        frames=setting.frames,
        wt=1,
        sigma=setting.sigma,
        flow=path,
        methods="shifted-nls",
        metrics="psnr",
        save="none",
        device=device,
        **setting.search,
    )
    return [*warped.rows, *report.rows]


def mean_psnr(rows: Iterable[Row], method: str) -> float:
    score = mean_score("psnr", [row.psnr for row in rows if row.method == method])
    assert score is not None
    return score


def table(
    clips: list[Path], flows: Iterable[str], setting: Setting, cache: Path, device: str
) -> dict[str, Any]:
    """PSNR of every clip, flow and method; prints a Markdown table as it goes."""
    result: dict[str, Any] = {"setting": setting.name(), "clips": {}}
    print(f"\n{setting.name()}\n", flush=True)
    print("| flow | clips | none | flow | shifted-nls | gain | clips above flow | worst |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for flow in flows:
        scores = {}
        for clip in clips:
            rows = searched(clip, flow, setting, cache, device)
            scores[clip.name] = {
                method: mean_psnr(rows, method) for method in ("none", "flow", "shifted-nls")
            }
        result["clips"][flow] = scores
        means = {
            method: statistics.fmean(score[method] for score in scores.values())
            for method in ("none", "flow", "shifted-nls")
        }
        gains = {name: score["shifted-nls"] - score["flow"] for name, score in scores.items()}
        worst = min(gains, key=lambda name: gains[name])
        above = sum(gain > 0 for gain in gains.values())
        print(
            f"| {flow} | {len(scores)} | {means['none']:.2f} | {means['flow']:.2f} | "
            f"{means['shifted-nls']:.2f} | {means['shifted-nls'] - means['flow']:+.2f} | "
            f"{above} of {len(scores)} | {worst} {gains[worst]:+.2f} |",
            flush=True,
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    shared = Path(os.environ.get("STNLS_SHARED", "../shared"))
    parser.add_argument("--footage", type=Path, default=shared / "data" / "davis480p")
    parser.add_argument("--cache", type=Path, default=Path("data-cache/quality"))
    parser.add_argument("--flows", default=",".join((*FLOWS, SLOW_FLOW)))
    parser.add_argument("--clips", help="names, comma-separated (default: all)")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--sigma", default="15,0", help="one or several, comma-separated")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="options of the search; once for each setting to compare",
    )
    parser.add_argument(
        "--steps",
        action="store_true",
        help="from the paper's form to the defaults, one step at a time, on a pair of each clip",
    )
    parser.add_argument("--flow-only", action="store_true", help="only compute the flows")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    clips = clips_of(arguments.footage)
    if arguments.clips:
        clips = [clip for clip in clips if clip.name in arguments.clips.split(",")]
    if not clips:
        parser.error(f"no folders of frames in {arguments.footage}")
    flows = arguments.flows.split(",")
    results = []
    searches = [_search(text) for text in arguments.search or [""]]
    frames = arguments.frames
    if arguments.steps:
        searches, frames = steps(), STEPS_FRAMES
    slow_clips = [clip for clip in clips if "test" in clip.parts] or clips[:SLOW_CLIPS]
    for sigma, search in itertools.product(map(float, arguments.sigma.split(",")), searches):
        setting = Setting(sigma, frames, search)
        short = Setting(sigma, min(SLOW_FRAMES, frames), search)
        quick = [flow for flow in flows if flow != SLOW_FLOW]
        jobs = [(clips, quick, setting)] if quick else []
        if SLOW_FLOW in flows:
            jobs.append((slow_clips, [SLOW_FLOW], short))
        for chosen, names, each in jobs:
            if arguments.flow_only:
                for flow, clip in itertools.product(names, chosen):
                    kept_flow(clip, flow, each, arguments.cache, arguments.device)
            else:
                results.append(table(chosen, names, each, arguments.cache, arguments.device))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def _search(text: str) -> dict[str, Any]:
    parts = (part.split("=") for part in text.split(",") if part)
    return {key: _value(value) for key, value in parts}


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    main()
