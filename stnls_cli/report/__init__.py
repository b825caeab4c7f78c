"""Reports of a run: report.json, report.csv and the summary table."""

from __future__ import annotations

from stnls_cli.report.files import (
    CSV_NAME,
    JSON_NAME,
    is_report,
    read_report,
    write_reports,
    write_table,
)
from stnls_cli.report.record import SCHEMA, SCHEMA_VERSION, InputRecord, Report
from stnls_cli.report.row import COLUMNS, METHODS, Row, RowSettings
from stnls_cli.report.table import summary_table, timings_table

__all__ = [
    "COLUMNS",
    "CSV_NAME",
    "JSON_NAME",
    "METHODS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "InputRecord",
    "Report",
    "Row",
    "RowSettings",
    "is_report",
    "read_report",
    "summary_table",
    "timings_table",
    "write_reports",
    "write_table",
]
