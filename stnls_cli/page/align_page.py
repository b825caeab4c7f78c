"""The page of one run of `stnls align`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stnls_cli.metrics import (
    ALIGN_METRICS,
    IDENTICAL_DB,
    METRICS,
    counted,
    mean_score,
    table_label,
    table_text,
)
from stnls_cli.page.gallery import FOLDER, read_pairs
from stnls_cli.page.pictures import load_pair
from stnls_cli.page.plots import COLOURS, Line, legend_of, line_panel
from stnls_cli.page.render import Page, Plot, Table
from stnls_cli.report import Report, Row


def align_page(report: Report, folder: Path) -> Page:
    """From the stored report, and the pictures in `folder`."""
    metric = next((name for name in ALIGN_METRICS if name in report.metrics), "psnr")
    count = len({row.t for row in report.rows})
    return Page(
        title=f"{report.input.clip}: alignment error",
        subtitle=f"{count} reference frames of {report.input.width}x{report.input.height} pixels",
        verdict=_verdict(report),
        table=_table(report),
        table_caption=TABLE_WORDS,
        words=words_for({*report.methods, *_used(report)}),
        time=over_time({"": scores_of(report.rows, metric)}, metric),
        windows=None,
        pairs={role: load_pair(path) for role, path in read_pairs(folder / FOLDER).items()},
        facts=facts_of(report),
        versions=versions_of(report.tool),
        notes=[*report.input.notes, *(f"Damage: {line}" for line in report.input.damage)],
    )


TABLE_WORDS = (
    "Means over the pairs of frames, by the distance dt of the neighbour in frames. PSNR and SSIM: "
    "higher is better; MAE (mean absolute error): lower is better. Out of frame: the share of "
    "pixels whose flow leads out of the neighbour."
)


WORDS = {
    "none": "The neighbouring frame as it is, not aligned.",
    "flow": "The neighbour warped by optical flow, an estimate of where every pixel went.",
    "nls": "Every pixel from its best match in a window around the same place: a search without "
    "flow.",
    "shifted-nls": "The same search in a window around the place to which the flow leads.",
    "sigma": "Noise that flow and search were given, its standard deviation on the 0-255 scale. "
    "Scores compare the clean frames.",
    "ws": "Window: how many positions along each side the search tries.",
    "ps": "Patch: how many pixels along each side are compared at every position.",
    "dt": "How many frames the neighbour is away: +1 is the next frame, -1 the one before.",
    "gain": "PSNR of the search above that of the flow that it starts from, in dB.",
}
"""What a newcomer has to know."""


def words_for(names: Iterable[str]) -> list[tuple[str, str]]:
    """The meaning of those that occur."""
    wanted = set(names)
    return [(name, meaning) for name, meaning in WORDS.items() if name in wanted]


def _used(report: Report) -> set[str]:
    searches = {"ws", "ps"} if {"nls", "shifted-nls"} & set(report.methods) else set()
    noise = {"sigma"} if report.parameters.get("sigma") else set()
    return {"dt", *searches, *noise}


@dataclass(frozen=True)
class Score:
    """The score of frame t + dt aligned to frame t by a method."""

    t: int
    dt: int
    method: str
    value: float | None


def _verdict(report: Report) -> str:
    means = {
        method: mean_score("psnr", [row.psnr for row in report.rows if row.method == method])
        for method in report.methods
    }
    flow, search = means.get("flow"), means.get("shifted-nls")
    if flow is not None and search is not None:
        way, over = ("gains", "over") if search >= flow else ("loses", "against")
        text = (
            f"The search around the flow {way} {abs(search - flow):.2f} dB {over} the flow alone "
            f"({search:.2f} against {flow:.2f} dB PSNR)"
        )
        without = means.get("nls")
        if without is not None and f"{without:.2f}" != f"{search:.2f}" and without > search:
            text += f"; the search without flow is better here ({without:.2f} dB)"
        return text + "."
    known = [f"{method} {value:.2f} dB" for method, value in means.items() if value is not None]
    return f"Mean PSNR: {', '.join(known)}." if known else "PSNR was not asked for."


def _table(report: Report) -> Table:
    header = ["dt", "method"]
    names = [name for name in ALIGN_METRICS if name in report.metrics]
    header += [table_label(name) for name in names]
    groups: list[tuple[str, list[Row]]] = [
        (f"{dt:+d}", [row for row in report.rows if row.dt == dt])
        for dt in sorted({row.dt for row in report.rows})
    ]
    groups.append(("all", list(report.rows)))
    rows = []
    for label, chosen in groups:
        for method in report.methods:
            own = [row for row in chosen if row.method == method]
            means = (mean_score(name, [getattr(row, name) for row in own]) for name in names)
            cells = [table_text(name, value) for name, value in zip(names, means, strict=True)]
            rows.append([label, method, *cells])
    return Table(header, rows, left=2)


def scores_of(rows: Iterable[Row], metric: str) -> list[Score]:
    """One measure of the rows."""
    return [Score(row.t, row.dt, row.method, getattr(row, metric)) for row in rows]


def over_time(groups: Mapping[str, Sequence[Score]], metric: str) -> Plot | None:
    """A panel for each group and dt: the score of every reference frame by method."""
    panels: dict[str, list[Line]] = {}
    for name, scores in groups.items():
        for dt in sorted({score.dt for score in scores}, key=lambda dt: (abs(dt), -dt)):
            lines = []
            for method in COLOURS:
                own = [score for score in scores if (score.dt, score.method) == (dt, method)]
                if own:
                    lines.append(_line(method, metric, own))
            panels[f"{name}, dt {dt:+d}" if name else f"dt {dt:+d}"] = lines
    if not any(panels.values()):
        return None
    label = label_of(metric)
    drawn = [
        line_panel(
            title,
            lines,
            x_label="reference frame",
            y_label=label,
            label=f"{label} of each reference frame, by method",
        )
        for title, lines in panels.items()
    ]
    better = "lower" if METRICS[metric].falls else "higher"
    return Plot(
        drawn,
        legend_of(panels),
        f"{label} of every reference frame against its neighbour dt frames away, aligned by each "
        f"method; {better} is better. Identical frames count as {IDENTICAL_DB:.0f} dB.",
    )


def _line(method: str, metric: str, scores: list[Score]) -> Line:
    ordered = sorted(scores, key=lambda score: score.t)
    y = [math.nan if s.value is None else counted(metric, s.value) for s in ordered]
    mark = "." if len(ordered) < 60 else ""
    return Line(method, [score.t for score in ordered], y, COLOURS[method], mark=mark)


def label_of(name: str) -> str:
    """A metric with its unit."""
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def facts_of(report: Report) -> list[tuple[str, str]]:
    """Input and parameters, for a person."""
    entry = report.input
    facts = [
        ("input", entry.path),
        ("digest", entry.digest),
        ("frames read", f"{entry.frames}, {entry.width}x{entry.height}"),
        ("device", report.device),
    ]
    flat = flattened(report.parameters)
    return [*facts, *((name, value) for name, value in flat if value)]


def flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values by dotted names; what is not set is left out."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flattened(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            found.append((prefix + name, ", ".join(map(str, value)) or "none"))
        elif value is not None:
            found.append((prefix + name, f"{value:g}" if isinstance(value, float) else str(value)))
    return found


def versions_of(tool: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Name and version of what was used."""
    return [(name, version) for name, version in tool.items() if version is not None]
