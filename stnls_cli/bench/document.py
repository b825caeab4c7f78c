"""The result as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any

from stnls_cli.bench.ceilings import Ceilings
from stnls_cli.bench.row import Row

SCHEMA = "stnls-bench"
SCHEMA_VERSION = 1
PARAMETERS = (
    *("operator", "frames", "channels", "height", "width", "ws", "wt", "ps", "k", "heads"),
    *("stride0", "stride1", "grid", "anchor", "gradients", "search_ps"),
)
"""Columns of the CSV that describe the problem."""


@dataclass
class Document:
    """Everything that was measured so far."""

    date: str
    machine: str
    device: str
    versions: dict[str, Any]
    settings: dict[str, Any]
    ceilings: Ceilings | None = None
    backends: dict[str, str | None] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    sweeps: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0
    load: float | None = None
    """Processes that ran or waited to run in the minute before, on average; None if unknown."""

    def to_json(self) -> dict[str, Any]:
        """`backends`: null for those that ran, else why they did not."""
        ceilings = self.ceilings
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "date": self.date,
            "machine": self.machine,
            "device": self.device,
            "load": self.load,
            "versions": self.versions,
            "settings": self.settings,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "ceilings": None
            if ceilings is None
            else {
                "copy_gb_s": _short(ceilings.copy_bytes / 1e9),
                "fma_tflop_s": _short(ceilings.fma_flops / 1e12),
            },
            "backends": self.backends,
            "rows": [_shortened(row.to_json()) for row in self.rows],
            "sweeps": _shortened(self.sweeps),
        }

    def to_text(self) -> str:
        """The JSON, to be read by people too."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """A header and a line for each row, empty cells for what is not known."""
        plain = [f.name for f in fields(Row) if f.name not in ("parameters", "original")]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([*plain, *PARAMETERS, "original_ms"])
        for row in self.rows:
            values = _shortened(row.to_json())
            original = (row.original or {}).get("ms")
            cells = [*(values[name] for name in plain)]
            cells += [row.parameters[name] for name in PARAMETERS]
            writer.writerow(["" if cell is None else cell for cell in (*cells, original)])
        return buffer.getvalue()


def _short(value: float) -> float:
    """Five digits: more would be noise."""
    return float(f"{value:.5g}")


def _shortened(value: Any) -> Any:
    if isinstance(value, float):
        return _short(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shortened(entry) for entry in value]
    return value
