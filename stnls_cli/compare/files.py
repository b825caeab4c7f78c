"""comparison.json, comparison.csv and comparison.md, written and read."""

from __future__ import annotations

import json
from pathlib import Path

from stnls_cli.compare.document import ComparisonDocument
from stnls_cli.compare.outcome import Outcome
from stnls_cli.compare.tables import markdown
from stnls_cli.report.files import csv_text
from stnls_cli.storage import read_document, write_text

JSON_NAME, CSV_NAME, MD_NAME = "comparison.json", "comparison.csv", "comparison.md"


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
