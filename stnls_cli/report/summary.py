"""Means over a report's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stnls_cli.metrics import mean_score
from stnls_cli.report.row import METHODS, Row


def summarise(rows: Sequence[Row], scores: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Means of each score per method, and per method and dt, with the number of rows in each."""

    def means(chosen: Sequence[Row]) -> dict[str, Any]:
        return {
            "rows": len(chosen),
            **{name: mean_score(name, [getattr(row, name) for row in chosen]) for name in scores},
        }

    return {
        "by_method": [
            {"method": method, **means(chosen)}
            for (method,), chosen in _groups(rows, lambda row: (row.method,))
        ],
        "by_method_and_dt": [
            {"method": method, "dt": dt, **means(chosen)}
            for (method, dt), chosen in _groups(rows, lambda row: (row.method, row.dt))
        ],
    }


def _groups(
    rows: Iterable[Row], key: Callable[[Row], tuple[Any, ...]]
) -> list[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items(), key=lambda item: (METHODS.index(item[0][0]), *item[0][1:]))
