"""What a comparison came to: comparison.json, comparison.csv and comparison.md."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stnls_cli.aggregates import Aggregate, aggregate
from stnls_cli.compare.job import CellRows, Outcome
from stnls_cli.compare.options import CompareOptions
from stnls_cli.metrics import table_label, table_text
from stnls_cli.report import Row
from stnls_cli.report.files import csv_text
from stnls_cli.report.plain import from_plain, plain
from stnls_cli.report.row import METHODS
from stnls_cli.report.versions import tool_versions
from stnls_cli.storage import read_document, write_text

SCHEMA = "stnls-comparison"
SCHEMA_VERSION = 1
JSON_NAME, CSV_NAME, MD_NAME = "comparison.json", "comparison.csv", "comparison.md"
BESIDE = ("flow", "sigma", "ws", "ps")
"""Parameters that the tables have columns for."""


@dataclass(frozen=True)
class CellScores:
    """One setting on one clip: scores by metric, in the order of `pairs` = (t, dt).

    `digest`: of the clip's content; `source`: path of the earlier run that it is from, if any.
    """

    clip: str
    pairs: tuple[tuple[int, int], ...]
    scores: dict[str, tuple[float | None, ...]]
    digest: str = ""
    source: str | None = None

    def summary(self, metric: str) -> Aggregate | None:
        """Over the pairs."""
        values = self.scores.get(metric)
        if values is None:
            return None
        return aggregate(metric, dict(zip(self.pairs, values, strict=True)))


@dataclass(frozen=True)
class SettingScores:
    """One setting on all clips. `source`: where it is from, if not from this grid: the path of an
    earlier run, or of the first of several."""

    parameters: dict[str, Any]
    source: str | None
    cells: tuple[CellScores, ...]

    @property
    def joined(self) -> bool:
        """Whether it is from earlier runs."""
        return self.source is not None

    @property
    def measured(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """By the content of each clip: the pairs."""
        return {cell.digest or cell.clip: cell.pairs for cell in self.cells}

    @property
    def method(self) -> str:
        """Its method."""
        return str(self.parameters["method"])

    @property
    def label(self) -> str:
        """For a person: shifted-nls dis, sigma 15, ws 9, ps 5."""
        given = self.parameters
        parts = [" ".join(str(given[n]) for n in ("method", "flow") if n in given)]
        parts += [f"{n} {given[n]:g}" for n in ("sigma", "ws", "ps") if n in given]
        if self.source is not None:
            parts.append(f"from {self.source}")
        return ", ".join(parts)

    def mean(self, metric: str, clips: Container[str] | None = None) -> float | None:
        """Over the pairs of each clip, then over the clips; over some of them alone where `clips`
        has the digests of these."""
        means = [
            found.mean
            for cell in self.cells
            if clips is None or (cell.digest or cell.clip) in clips
            if (found := cell.summary(metric)) is not None
        ]
        return math.fsum(means) / len(means) if means else None

    def over_pairs(self, metric: str) -> Aggregate | None:
        """Median, 5th percentile and the worst over the pairs of all clips, named (clip, t, dt)."""
        values = {
            (cell.clip, t, dt): value
            for cell in self.cells
            if metric in cell.scores
            for (t, dt), value in zip(cell.pairs, cell.scores[metric], strict=True)
        }
        return aggregate(metric, values)


@dataclass(frozen=True)
class ComparisonDocument:
    """comparison.json."""

    metrics: tuple[str, ...]
    protocol: str | None
    parameters: dict[str, Any]
    clips: tuple[dict[str, Any], ...]
    settings: tuple[SettingScores, ...]
    overrides: dict[str, str] = field(default_factory=dict)
    """Options that were given beside a protocol in the place of its own: "dis, not farneback"."""
    cells: dict[str, int] = field(default_factory=dict)
    """`computed` by this run, and `kept` from earlier ones."""
    failed: dict[str, str] = field(default_factory=dict)
    flows: dict[str, dict[str, int]] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = "cpu"
    tool: dict[str, str | None] = field(default_factory=tool_versions)
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat("T", "seconds"))

    @property
    def clip_names(self) -> tuple[str, ...]:
        """Of the clips compared."""
        return tuple(dict.fromkeys(str(clip["clip"]) for clip in self.clips))

    def gain(self, setting: SettingScores, metric: str = "psnr") -> float | None:
        """A search's mean over that of the warp by the same flow and noise, on the same clips."""
        if setting.method != "shifted-nls":
            return None
        other = self.warped(setting)
        if other is None:
            return None
        a, b = setting.mean(metric), other.mean(metric, setting.measured)
        return None if a is None or b is None else a - b

    def warped(self, setting: SettingScores) -> SettingScores | None:
        """The warp by the same flow and noise, of the same pairs."""
        wanted = {n: setting.parameters.get(n) for n in ("flow", "sigma", "seed")}
        for other in self.settings:
            if other.method == "flow" and other.joined == setting.joined:
                alike = {n: other.parameters.get(n) for n in wanted} == wanted
                if alike and setting.measured.items() <= other.measured.items():
                    return other
        return None

    @property
    def own(self) -> list[SettingScores]:
        """The settings of the grid; those of the earlier runs where there is none."""
        grid = [setting for setting in self.settings if not setting.joined]
        return grid or list(self.settings)

    def beside(self, shown: SettingScores) -> list[SettingScores]:
        """The setting itself, and those that differ from it by their method alone."""
        return [
            other
            for other in self.settings
            if other is shown
            or (
                other.joined == shown.joined
                and other.method != shown.method
                and shown.measured.items() <= other.measured.items()
                and all(
                    shown.parameters[name] == value
                    for name, value in other.parameters.items()
                    if name != "method" and name in shown.parameters
                )
            )
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values only; docs/compare.md describes them."""
        document: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "date": self.date,
                "tool": self.tool,
                "device": self.device,
                "protocol": self.protocol,
                "overrides": self.overrides,
                "parameters": self.parameters,
                "metrics": self.metrics,
                "clips": self.clips,
                "failed": self.failed,
                "cells": self.cells,
                "flows": self.flows,
                "timings": self.timings,
                "seconds": self.seconds,
                "settings": [self._setting(setting) for setting in self.settings],
            }
        )
        return document

    def _setting(self, setting: SettingScores) -> dict[str, Any]:
        return {
            "label": setting.label,
            "parameters": setting.parameters,
            "source": setting.source,
            "gain": self.gain(setting),
            "summary": {
                name: None
                if (found := setting.over_pairs(name)) is None
                else {
                    "mean": setting.mean(name),
                    "median": found.median,
                    "percentile_5": found.percentile_5,
                    "worst": [
                        {"clip": clip, "t": t, "dt": dt, "value": value}
                        for (clip, t, dt), value in found.worst
                    ],
                }
                for name in self.metrics
            },
            "cells": [
                {
                    "clip": cell.clip,
                    "digest": cell.digest,
                    "source": cell.source,
                    "mean": {
                        name: found.mean if (found := cell.summary(name)) is not None else None
                        for name in self.metrics
                    },
                    "pairs": [list(pair) for pair in cell.pairs],
                    "scores": cell.scores,
                }
                for cell in setting.cells
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ComparisonDocument:
        """The inverse of `to_json`; ValueError where this is no such document."""
        if document.get("schema") != SCHEMA:
            raise ValueError("not a comparison of stnls")
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, this stnls reads {SCHEMA_VERSION}")
        try:
            digests = {clip["clip"]: clip["digest"] for clip in document["clips"]}
            settings = tuple(_setting_from(entry, digests) for entry in document["settings"])
            return cls(
                metrics=tuple(document["metrics"]),
                protocol=document["protocol"],
                parameters=dict(document["parameters"]),
                clips=tuple(dict(clip) for clip in document["clips"]),
                settings=settings,
                overrides=dict(document.get("overrides", {})),
                cells=dict(document.get("cells", {})),
                failed=dict(document["failed"]),
                flows=dict(document["flows"]),
                timings=dict(document["timings"]),
                seconds=document["seconds"],
                device=document["device"],
                tool=dict(document["tool"]),
                date=document["date"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"incomplete: {error}") from error


def _setting_from(entry: Mapping[str, Any], digests: Mapping[str, str]) -> SettingScores:
    cells = tuple(
        CellScores(
            cell["clip"],
            tuple((int(t), int(dt)) for t, dt in cell["pairs"]),
            {name: tuple(map(from_plain, values)) for name, values in cell["scores"].items()},
            cell.get("digest", digests.get(cell["clip"], "")),
            cell.get("source", entry["source"]),
        )
        for cell in entry["cells"]
    )
    return SettingScores(dict(entry["parameters"]), entry["source"], cells)


def document_of(outcome: Outcome, options: CompareOptions) -> ComparisonDocument:
    """From what the job answers."""
    metrics = options.metric_names()
    settings = [_grouped(cells, metrics) for cells in _by_setting(outcome.cells)]
    # An earlier run comes after the grid; a grid keeps its order.
    settings.sort(key=lambda s: (s.joined, METHODS.index(s.method), *_order(s)))
    base = options.base.parameters()
    shared = ("start", "frames", "size", "stream", "allow_damaged", "wt", "seed")
    return ComparisonDocument(
        metrics=metrics,
        protocol=options.protocol,
        parameters={
            **{name: base[name] for name in shared},
            "margin": options.margin,
            "grey": options.grey,
            "full_ws": options.full_ws,
            "slots": options.slots,
        },
        clips=tuple(outcome.clips),
        settings=tuple(settings),
        overrides=dict(options.overrides),
        cells=outcome.counts,
        failed=outcome.failed,
        flows=outcome.flows,
        timings=outcome.timings,
        seconds=outcome.seconds,
        device=outcome.device,
    )


def _by_setting(cells: Iterable[CellRows]) -> list[list[CellRows]]:
    """Cells that differ by their clip alone. What two earlier runs measured alike counts once."""
    groups: dict[str, list[CellRows]] = {}
    for cell in cells:
        known_by = [cell.parameters, cell.source is not None, cell.shared]
        for number in range(len(groups) + 1):
            key = json.dumps(plain([*known_by, number]), sort_keys=True)
            same = next((c for c in groups.get(key, ()) if c.digest == cell.digest), None)
            if same is None or cell.source is None:
                groups.setdefault(key, []).append(cell)
                break
            if [_measured(row) for row in same.rows] == [_measured(row) for row in cell.rows]:
                break
    return list(groups.values())


def _measured(row: Row) -> dict[str, Any]:
    return {**row.to_json(), "clip": None}


def _grouped(cells: Sequence[CellRows], metrics: Iterable[str]) -> SettingScores:
    sources = list(dict.fromkeys(cell.source for cell in cells if cell.source is not None))
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return SettingScores(
        cells[0].parameters,
        f"{sources[0]}{more}" if sources else None,
        tuple(_scores(cell, metrics) for cell in cells),
    )


def _order(setting: SettingScores) -> tuple[Any, ...]:
    """Of earlier runs, which come in any order; a grid has one."""
    if not setting.joined:
        return ()
    given = setting.parameters
    numbers = (given.get(name) or 0 for name in ("sigma", "ws", "ps"))
    return (given.get("flow", ""), *numbers)


def _scores(cell: CellRows, metrics: Iterable[str]) -> CellScores:
    pairs = tuple((row.t, row.dt) for row in cell.rows)
    scores = {n: tuple(getattr(row, n) for row in cell.rows) for n in metrics}
    return CellScores(cell.clip, pairs, scores, cell.digest, cell.source)


def write_documents(folder: Path, document: ComparisonDocument, outcome: Outcome) -> None:
    """comparison.csv, .md and, last, .json: each whole or not at all."""
    rows = tuple(row for cell in outcome.cells for row in cell.rows)
    write_text(folder / CSV_NAME, csv_text(rows))
    write_text(folder / MD_NAME, markdown(document))
    text = json.dumps(document.to_json(), ensure_ascii=False, allow_nan=False)
    write_text(folder / JSON_NAME, text + "\n")


def read_comparison(path: Path) -> ComparisonDocument:
    """Reads comparison.json back; `path` is the file or the folder it lies in."""
    path = Path(path)
    if path.is_dir():
        path = path / JSON_NAME
    return read_document(path, "a comparison", ComparisonDocument.from_json)


def markdown(document: ComparisonDocument) -> str:
    """The table of the settings, for a page."""
    lines = [
        f"# Alignment errors: {len(document.clip_names)} "
        f"clip{'' if len(document.clip_names) == 1 else 's'}",
        "",
        "Means over the pairs of each clip, then over the clips; median and worst 5 % over all "
        "pairs. Gain: over the warp by the same flow.",
        "",
        *_markdown_table(*table_of(document), left=2),
    ]
    best = best_setting(document)
    header, rows = ([], []) if best is None else clip_table(document, best)
    if best is not None and rows:
        lines += [
            "",
            f"## By clip: {best.label}",
            "",
            "PSNR (dB) of the methods with the same flow, noise and window; the worst frames of "
            f"{best.method}.",
            "",
            *_markdown_table(header, rows, left=1),
        ]
    return "\n".join([*lines, ""])


def _markdown_table(header: list[str], rows: list[list[str]], *, left: int) -> list[str]:
    aligned = ["---" if n < left or name == WORST else "---:" for n, name in enumerate(header)]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(aligned) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return lines


def best_setting(document: ComparisonDocument) -> SettingScores | None:
    """The search around a flow with the highest mean PSNR; where there is none, the search or the
    flow that has it."""
    known = [setting for setting in document.own if setting.mean("psnr") is not None]
    known = known or document.own
    own = [setting for setting in known if setting.method == "shifted-nls"]
    if not own:
        own = [setting for setting in known if setting.method in ("nls", "flow")]
    return max(own, key=lambda setting: setting.mean("psnr") or 0.0, default=None)


WORST = "worst frames"


def clip_table(
    document: ComparisonDocument, shown: SettingScores
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: PSNR of each clip by the setting shown and those that differ from it by
    their method, its gain over the flow, and its worst frames; the lowest clip first."""
    beside = document.beside(shown)
    by_method = {s.method: {c.digest or c.clip: c for c in s.cells} for s in beside}
    methods = [method for method in METHODS if method in by_method]
    gains = shown.method == "shifted-nls" and "flow" in by_method
    rows = []
    for cell in shown.cells:
        means = {}
        for method in methods:
            other = by_method[method].get(cell.digest or cell.clip)
            found = None if other is None else other.summary("psnr")
            means[method] = None if found is None else found.mean
        own, flow = means[shown.method], means.get("flow")
        if own is None:
            continue
        summary = cell.summary("psnr")
        assert summary is not None
        worst = "; ".join(f"{t}, dt {dt:+d}: {value:.2f}" for (t, dt), value in summary.worst)
        row = [cell.clip, *(table_text("psnr", means[method]) for method in methods)]
        if gains:
            row.append("" if flow is None else f"{own - flow:+.2f}")
        rows.append((own, [*row, worst]))
    rows.sort(key=lambda entry: entry[0])
    header = ["clip", *methods, *(["gain"] if gains else []), WORST]
    return header, [row for _, row in rows]


def table_of(document: ComparisonDocument) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of settings; columns that would be empty are left out."""
    names = [
        name
        for name in document.metrics
        if any(s.mean(name) is not None for s in document.settings)
    ]
    header = ["method", *BESIDE]
    first = names[0] if names else None
    for name in names:
        header.append(table_label(name))
        if name == first:
            header += ["median", "worst 5 %"]
        if name == "psnr":
            header.insert(len(header) - (2 if name == first else 0), "gain")
    rows = [_table_row(document, setting, names, first) for setting in document.settings]
    kept = [n for n in range(len(header)) if n == 0 or any(row[n] for row in rows)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in rows]


def narrow_table(document: ComparisonDocument) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the columns that fit a terminal."""
    header, rows = table_of(document)
    wide = {
        table_label(name)
        for name in ("mae", "out_of_frame", "ssim_visible", "mae_visible", "visible")
    }
    wide |= {"median", "worst 5 %"}
    kept = [n for n, name in enumerate(header) if name not in wide]
    short = {
        table_label("psnr"): "PSNR", table_label("psnr_visible"): "visible",
        table_label("epe"): "EPE", table_label("at_edge"): "edge %",
    }  # fmt: skip
    names = [short.get(header[n], header[n]) for n in kept]
    return names, [[row[n] for n in kept] for row in rows]


def _table_row(
    document: ComparisonDocument, setting: SettingScores, names: list[str], first: str | None
) -> list[str]:
    method = setting.method if setting.source is None else f"{setting.method} ({setting.source})"
    row = [method]
    for name in BESIDE:
        value = setting.parameters.get(name)
        row.append(
            "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        )
    for name in names:
        row.append(table_text(name, setting.mean(name)))
        if name == "psnr":
            gain = document.gain(setting)
            row.append("" if gain is None else f"{gain:+.2f}")
        if name == first:
            found = setting.over_pairs(name)
            row.append("" if found is None else table_text(name, found.median))
            row.append("" if found is None else table_text(name, found.percentile_5))
    return row
