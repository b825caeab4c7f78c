"""flow.json: what went in, how it was set, and a few figures of every flow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stnls_cli.flow.clip_flow import KINDS, Kind
from stnls_cli.metrics import mean_score
from stnls_cli.report import InputRecord
from stnls_cli.report.plain import from_plain, plain
from stnls_cli.report.versions import tool_versions
from stnls_cli.rundir import FLOW_RUN
from stnls_cli.storage import read_document, write_text

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FlowRecord:
    """One flow: of source frame t to t+1 ("forward") or t-1 ("backward").

    `mean`, `most` and `p99` are lengths in pixels: the mean, the largest, and the one that 99 % of
    the pixels stay below. `psnr`: of the neighbour's clean frame, warped by the flow, against the
    clean frame t, in dB.
    """

    t: int
    direction: Kind
    mean: float
    p99: float
    most: float
    psnr: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values: dict[str, Any] = plain(asdict(self))
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FlowRecord:
        """The inverse of `to_json`."""
        return cls(**{name: from_plain(value) for name, value in values.items()})


@dataclass(frozen=True)
class FlowDocument:
    """All that flow.json holds. `scale`: pixels of motion at full colour, None without pictures."""

    input: InputRecord
    parameters: dict[str, Any]
    device: str
    scale: float | None
    flows: tuple[FlowRecord, ...]
    timings: dict[str, float]
    tool: dict[str, str | None] = field(default_factory=tool_versions)

    def __repr__(self) -> str:
        return f"FlowDocument of {self.input.path}: {len(self.flows)} flows"

    def to_json(self) -> dict[str, Any]:
        """Plain values only: strict JSON, infinity as "inf"."""
        document: dict[str, Any] = plain(
            {
                "schema": FLOW_RUN.schema,
                "schema_version": SCHEMA_VERSION,
                "tool": self.tool,
                "input": asdict(self.input),
                "parameters": self.parameters,
                "device": self.device,
                "scale": self.scale,
                "timings": self.timings,
                "flows": [record.to_json() for record in self.flows],
            }
        )
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FlowDocument:
        """The inverse of `to_json`; raises ValueError where this is no such document."""
        if document.get("schema") != FLOW_RUN.schema:
            raise ValueError("not a flow.json of stnls")
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, this stnls reads {SCHEMA_VERSION}")
        try:
            given = dict(document["input"])
            given.update(notes=tuple(given["notes"]), damage=tuple(given["damage"]))
            return cls(
                input=InputRecord(**given),
                parameters=dict(document["parameters"]),
                device=document["device"],
                scale=document["scale"],
                flows=tuple(FlowRecord.from_json(values) for values in document["flows"]),
                timings=dict(document["timings"]),
                tool=dict(document["tool"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"incomplete: {error}") from error


def write_flow_document(folder: Path, document: FlowDocument) -> None:
    """Writes flow.json into `folder`, whole or not at all."""
    text = json.dumps(document.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / FLOW_RUN.document, text + "\n")


def read_flow_document(path: Path) -> FlowDocument:
    """Reads flow.json back; UserError where it is none."""
    return read_document(path, "a flow.json", FlowDocument.from_json)


def flow_table(document: FlowDocument) -> Table:
    """A summary for a terminal: a row for each direction."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = f"{document.input.clip}: {len(document.flows)} flows, {document.device}"
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("direction", "flows", "mean length (px)", "99 % below", "longest", "PSNR (dB)"):
        table.add_column(name, justify="left" if name == "direction" else "right")
    for kind in KINDS:
        flows = [record for record in document.flows if record.direction == kind]
        if flows:
            table.add_row(
                kind,
                str(len(flows)),
                f"{fmean(record.mean for record in flows):.2f}",
                f"{max(record.p99 for record in flows):.2f}",
                f"{max(record.most for record in flows):.2f}",
                f"{mean_score('psnr', [record.psnr for record in flows]):.2f}",
            )
    table.caption = "PSNR of the neighbour, warped by the flow, against the frame"
    table.caption_justify = "left"
    return table
