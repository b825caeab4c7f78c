"""report.json and report.csv, written and read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from stnls_cli.report.record import SCHEMA, Report
from stnls_cli.report.row import COLUMNS, Row
from stnls_cli.storage import read_document, write_text

JSON_NAME = "report.json"
CSV_NAME = "report.csv"


def write_reports(folder: Path, report: Report) -> None:
    """Write both files into `folder`, each whole or not at all."""
    write_table(folder, report)
    write_text(folder / JSON_NAME, report.to_text())


def write_table(folder: Path, report: Report) -> None:
    """Write report.csv alone."""
    write_text(folder / CSV_NAME, csv_text(report.rows))


def read_report(path: Path) -> Report:
    """Read report.json back; `path` is the file or the folder it lies in."""
    path = Path(path)
    if path.is_dir():
        path = path / JSON_NAME
    return read_document(path, "a report", Report.from_json)


def is_report(path: Path) -> bool:
    """Whether `path` is a report.json of this tool, of whatever version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("schema") == SCHEMA


def csv_text(rows: tuple[Row, ...]) -> str:
    """The text of report.csv: a header, one line for each row, empty cells for `None`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in row.to_json().values()])
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # Nine digits hold every float32; a whole number loses its ".0".
        return f"{value:.9g}"
    return str(value)
