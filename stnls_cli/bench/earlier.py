"""Times of the original that were measured once on one GPU, kept in original_h200.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from stnls_cli.bench.problem import Problem


@cache
def figures() -> dict[str, Any]:
    """The file: where the times are from, the machine, a row for each call."""
    path = Path(__file__).with_name("original_h200.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def original_of(preset: str, problem: Problem, machine: str, dtype: str) -> dict[str, Any] | None:
    """`ms` and `peak_mib` of the original, or `fails` with the reason; None for another machine,
    another call, strides between queries, or a problem with a flow of its own, on which the
    original was not timed."""
    if figures()["machine"] not in machine or dtype != "float32" or problem.stride0 > 1:
        return None
    parameters = problem.parameters()
    for row in figures()["rows"]:
        same = all(parameters[name] == value for name, value in row["match"].items())
        if row["preset"] != preset or not same:
            continue
        if "fails" in row:
            return {"fails": row["fails"]}
        kind = {"none": "forward_ms"}.get(problem.gradients, f"{problem.gradients}_ms")
        if kind not in row or problem.flow is not None:
            return None
        peak = row.get("peak_mib") if problem.gradients == "none" else None
        return {"ms": row[kind], "peak_mib": peak}
    return None
