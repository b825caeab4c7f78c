"""What a comparison came to: comparison.json, comparison.csv and comparison.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stnls_cli.aggregates import Aggregate, aggregate
from stnls_cli.compare.job import CellRows, Outcome
from stnls_cli.compare.options import CompareOptions
from stnls_cli.errors import UserError
from stnls_cli.metrics import IDENTICAL_DB, METRICS
from stnls_cli.report import Row
from stnls_cli.report.files import csv_text
from stnls_cli.report.plain import from_plain, plain
from stnls_cli.report.row import METHODS
from stnls_cli.report.versions import tool_versions
from stnls_cli.storage import storage_errors, write_text

SCHEMA = "stnls-comparison"
SCHEMA_VERSION = 1
JSON_NAME, CSV_NAME, MD_NAME = "comparison.json", "comparison.csv", "comparison.md"
BESIDE = ("flow", "sigma", "ws", "ps")
"""Parameters that the tables have columns for."""


@dataclass(frozen=True)
class CellScores:
    """One setting on one clip: scores by metric, in the order of `pairs` = (t, dt)."""

    clip: str
    pairs: tuple[tuple[int, int], ...]
    scores: dict[str, tuple[float | None, ...]]

    def summary(self, metric: str) -> Aggregate | None:
        """Over the pairs."""
        values = self.scores.get(metric)
        if values is None:
            return None
        return aggregate(metric, dict(zip(self.pairs, values, strict=True)))


@dataclass(frozen=True)
class SettingScores:
    """One setting on all clips."""

    parameters: dict[str, Any]
    source: str | None
    cells: tuple[CellScores, ...]

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

    def mean(self, metric: str) -> float | None:
        """Over the pairs of each clip, then over the clips."""
        means = [found.mean for cell in self.cells if (found := cell.summary(metric)) is not None]
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
        wanted = {n: setting.parameters.get(n) for n in ("flow", "sigma", "seed")}
        for other in self.settings:
            same = other.method == "flow" and other.source == setting.source
            if same and {n: other.parameters.get(n) for n in wanted} == wanted:
                a, b = setting.mean(metric), other.mean(metric)
                return None if a is None or b is None else a - b
        return None

    def beside(self, shown: SettingScores) -> list[SettingScores]:
        """The setting itself, and those that differ from it by their method alone."""
        return [
            other
            for other in self.settings
            if other is shown
            or (
                other.source == shown.source
                and other.method != shown.method
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
                "parameters": self.parameters,
                "metrics": self.metrics,
                "clips": self.clips,
                "failed": self.failed,
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
            settings = tuple(_setting_from(entry) for entry in document["settings"])
            return cls(
                metrics=tuple(document["metrics"]),
                protocol=document["protocol"],
                parameters=dict(document["parameters"]),
                clips=tuple(dict(clip) for clip in document["clips"]),
                settings=settings,
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


def _setting_from(entry: Mapping[str, Any]) -> SettingScores:
    cells = tuple(
        CellScores(
            cell["clip"],
            tuple((int(t), int(dt)) for t, dt in cell["pairs"]),
            {name: tuple(map(from_plain, values)) for name, values in cell["scores"].items()},
        )
        for cell in entry["cells"]
    )
    return SettingScores(dict(entry["parameters"]), entry["source"], cells)


def document_of(outcome: Outcome, options: CompareOptions) -> ComparisonDocument:
    """From what the job answers."""
    metrics = options.metric_names()
    grouped: dict[str, list[CellRows]] = {}
    for cell in outcome.cells:
        key = json.dumps(plain([cell.parameters, cell.source]), sort_keys=True)
        grouped.setdefault(key, []).append(cell)
    settings = [
        SettingScores(
            cells[0].parameters,
            cells[0].source,
            tuple(_scores(cell.clip, cell.rows, metrics) for cell in cells),
        )
        for cells in grouped.values()
    ]
    # An earlier run comes after the grid; a grid keeps its order.
    settings.sort(key=lambda s: (s.source is not None, METHODS.index(s.method)))
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
        failed=outcome.failed,
        flows=outcome.flows,
        timings=outcome.timings,
        seconds=outcome.seconds,
        device=outcome.device,
    )


def _scores(clip: str, rows: Sequence[Row], metrics: Iterable[str]) -> CellScores:
    pairs = tuple((row.t, row.dt) for row in rows)
    return CellScores(clip, pairs, {n: tuple(getattr(row, n) for row in rows) for n in metrics})


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
    try:
        with storage_errors(path, "read"):
            text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("not a comparison of stnls")
        return ComparisonDocument.from_json(document)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def markdown(document: ComparisonDocument) -> str:
    """The table of the settings, for a page."""
    header, rows = table_of(document)
    numeric = len(BESIDE) + 1
    lines = [
        f"# Alignment errors: {len(document.clip_names)} "
        f"clip{'' if len(document.clip_names) == 1 else 's'}",
        "",
        "Means over the pairs of each clip, then over the clips; median and worst 5 % over all "
        "pairs. Gain: over the warp by the same flow.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "|".join("---" if n < 2 else "---:" for n in range(len(header))) + "|",
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    assert numeric <= len(header)
    return "\n".join([*lines, ""])


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
        header.append(_label(name))
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
        _label(name) for name in ("mae", "out_of_frame", "ssim_visible", "mae_visible", "visible")
    }
    wide |= {"median", "worst 5 %"}
    kept = [n for n, name in enumerate(header) if name not in wide]
    short = {
        _label("psnr"): "PSNR", _label("psnr_visible"): "visible", _label("epe"): "EPE",
        _label("at_edge"): "edge",
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
        decimals = METRICS[name].decimals
        row.append(shown(setting.mean(name), decimals))
        if name == "psnr":
            gain = document.gain(setting)
            row.append("" if gain is None else f"{gain:+.2f}")
        if name == first:
            found = setting.over_pairs(name)
            row.append("" if found is None else shown(found.median, decimals))
            row.append("" if found is None else shown(found.percentile_5, decimals))
    return row


def shown(value: float | None, decimals: int) -> str:
    """A score for a table; identical frames are `inf`."""
    if value is None:
        return ""
    return (
        "inf"
        if value >= IDENTICAL_DB and decimals == 2 and value == math.inf
        else f"{value:.{decimals}f}"
    )


def _label(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label
