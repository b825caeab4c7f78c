"""What a comparison came to, setting by setting, as comparison.json holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from stnls_cli.aggregates import Aggregate, aggregate
from stnls_cli.compare.options import CompareOptions
from stnls_cli.compare.outcome import CellRows, Outcome
from stnls_cli.report import Row
from stnls_cli.report.plain import from_plain, plain
from stnls_cli.report.row import METHODS
from stnls_cli.report.versions import tool_versions

SCHEMA = "stnls-comparison"
SCHEMA_VERSION = 1


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
