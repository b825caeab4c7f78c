"""The summary that a person reads at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from stnls_cli.metrics import METRICS, mean_score
from stnls_cli.report.record import Report
from stnls_cli.report.row import Row

if TYPE_CHECKING:
    from rich.table import Table


WAITS = ("wait", "decode_wait", "flow_wait", "write")
"""Stages in which one thread waits for others."""


def summary_table(report: Report) -> Table:
    """Means by dt and over all of them; methods side by side.

    The first metric is shown for each dt, the others as means alone, so that a run over five
    frames' distance still fits a screen of 80 x 24.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    count = len({row.t for row in report.rows})
    frames = f"{count} reference frame" + ("" if count == 1 else "s")
    table = Table(
        title=escape(f"{report.input.clip}: {frames}, {report.device}"),
        caption=_caption(report),
        box=box.SIMPLE_HEAD,
        min_width=64,  # room for title and caption, which wrap at the table's width
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("mean of")
    table.add_column("dt", justify="right")
    for method in report.methods:
        table.add_column(method, justify="right")

    shown = [name for name in METRICS if name in report.metrics]
    for position, name in enumerate(shown):
        if position == 0:
            for dt in sorted({row.dt for row in report.rows}):
                at_dt = [row for row in report.rows if row.dt == dt]
                table.add_row(_label(name), f"{dt:+d}", *_cells(report, at_dt, name))
            if not report.rows:
                break
        style = "bold" if position == 0 else None
        table.add_row(_label(name), "all", *_cells(report, report.rows, name), style=style)
        if position == 0:
            table.add_section()
    return table


def timings_table(timings: Mapping[str, float]) -> Table:
    """Where the time went: seconds by stage, the longest first, and their shares of all work. Those
    of waiting have none: something else is at work meanwhile."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    total = sum(seconds for name, seconds in timings.items() if name not in WAITS) or 1.0
    for name, seconds in sorted(timings.items(), key=lambda item: -item[1]):
        share = "" if name in WAITS else f"{100 * seconds / total:.1f} %"
        table.add_row(name, f"{seconds:.2f}", share)
    return table


def _cells(report: Report, rows: Iterable[Row], name: str) -> list[str]:
    rows = list(rows)
    values = (
        mean_score(name, [getattr(row, name) for row in rows if row.method == method])
        for method in report.methods
    )
    return ["" if value is None else f"{value:.{METRICS[name].decimals}f}" for value in values]


def _label(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _caption(report: Report) -> str | None:
    if not report.rows:
        return "no pair of frames to compare"
    identical = sum(row.psnr == math.inf for row in report.rows)
    if identical and "psnr" in report.metrics:
        return f"identical frames count as 100 dB ({identical} of {len(report.rows)} rows)"
    return None
