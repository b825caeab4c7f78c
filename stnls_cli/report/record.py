"""The report of one run: what went in, how it was set, what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stnls_cli.metrics import ALIGN_METRICS
from stnls_cli.report.plain import plain
from stnls_cli.report.row import METHODS, Row
from stnls_cli.report.summary import summarise
from stnls_cli.report.versions import tool_versions

if TYPE_CHECKING:
    from stnls_cli.video.info import ClipInfo

SCHEMA = "stnls-report"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class InputRecord:
    """The clip as it was read; sizes in pixels, `rate` in frames a second as a fraction."""

    path: str
    digest: str
    clip: str
    frames: int
    width: int
    height: int
    source_width: int
    source_height: int
    rate: str | None
    stream: int | None
    codec: str
    pixel_format: str
    bit_depth: int
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    @classmethod
    def of_clip(
        cls,
        info: ClipInfo,
        digest: str,
        frames: int,
        damage: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> InputRecord:
        """From an opened clip, once `frames` of it have been read; `notes` beside its own."""
        known = {entry.name for entry in fields(cls)}
        given: dict[str, Any] = {
            entry.name: getattr(info, entry.name) for entry in fields(info) if entry.name in known
        }
        given.update(
            path=plain(Path(info.path)),
            digest=digest,
            clip=plain(info.stem),
            frames=frames,
            rate=str(Fraction(info.rate)) if info.rate is not None else None,
            notes=(*info.notes, *notes),
            damage=tuple(damage),
        )
        return cls(**given)


@dataclass(frozen=True)
class Report:
    """All that report.json holds. The summary is computed from the rows.

    `parameters`: every parameter of the run, plain values, the flow's own under "flow".
    `timings`: seconds spent in each stage, over all threads of that stage.
    `metrics`: the names that `--metrics` selected.
    """

    input: InputRecord
    parameters: dict[str, Any]
    device: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    timings: dict[str, float]
    tool: dict[str, str | None] = field(default_factory=tool_versions)

    def __repr__(self) -> str:
        return f"Report of {self.input.path}: {len(self.rows)} rows, {', '.join(self.methods)}"

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that were run, in the usual order."""
        present = {row.method for row in self.rows}
        return tuple(method for method in METHODS if method in present)

    def to_json(self) -> dict[str, Any]:
        """Plain values only: strict JSON, no NaN, infinity as "inf"."""
        document: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "tool": self.tool,
                "input": asdict(self.input),
                "parameters": self.parameters,
                "device": self.device,
                "metrics": self.metrics,
                "timings": self.timings,
                "summary": summarise(self.rows, ALIGN_METRICS),
            }
        )
        document["rows"] = [row.to_json() for row in self.rows]
        return document

    def to_text(self) -> str:
        """The text of report.json, with a line for each row."""
        document = self.to_json()
        rows = document.pop("rows")
        head = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
        lines = ",".join("\n    " + encode(row) for row in rows)
        return head.removesuffix("\n}") + f',\n  "rows": [{lines}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Report:
        """The inverse of `to_json`; raises ValueError where this is no such report."""
        if document.get("schema") != SCHEMA:
            raise ValueError("not a report of stnls")
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, this stnls reads {SCHEMA_VERSION}")
        try:
            known = {entry.name for entry in fields(InputRecord)}
            given = {key: value for key, value in document["input"].items() if key in known}
            given.update(notes=tuple(given["notes"]), damage=tuple(given["damage"]))
            return cls(
                input=InputRecord(**given),
                parameters=dict(document["parameters"]),
                device=document["device"],
                metrics=tuple(document["metrics"]),
                rows=tuple(Row.from_json(row) for row in document["rows"]),
                timings=dict(document["timings"]),
                tool=dict(document["tool"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"incomplete: {error}") from error
