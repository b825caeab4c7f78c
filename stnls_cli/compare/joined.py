"""Earlier runs of `stnls align`, as clips and cells of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stnls_cli.compare.inputs import EarlierRun
from stnls_cli.compare.outcome import CellRows
from stnls_cli.report import Row


def run_names(runs: Sequence[EarlierRun], clips: Iterable[Mapping[str, Any]]) -> list[str]:
    """A name for the clip of each run: its own; where clips of other content have that name too,
    its folder's is put before it, and a number behind it if need be."""
    taken = {str(clip["clip"]): str(clip["digest"]) for clip in clips}
    known = {name: {digest} for name, digest in taken.items()}
    for run in runs:
        known.setdefault(run.report.input.clip, set()).add(run.report.input.digest)
    names = []
    for run in runs:
        clip, digest = run.report.input.clip, run.report.input.digest
        name = clip
        if len(known[clip]) > 1:
            parent = Path(run.report.input.path).parent.name
            name = f"{parent}-{clip}" if parent else clip
        number, first = 1, name
        while taken.setdefault(name, digest) != digest:
            number += 1
            name = f"{first}-{number}"
        names.append(name)
    return names


def joined(run: EarlierRun, clip: str) -> tuple[dict[str, Any], list[CellRows]]:
    """The rows of an earlier run as cells, one for each method; its clip is called `clip`."""
    report = run.report
    told = {
        "clip": clip,
        "path": str(run.path),
        "digest": report.input.digest,
        "frames": report.input.frames,
        "width": report.input.width,
        "height": report.input.height,
        "rate": report.input.rate,
        "notes": list(report.input.notes),
        "damage": list(report.input.damage),
    }
    cells = []
    shared = tuple(report.parameters.get(name) for name in ("wt", "start", "frames", "size"))
    for method in report.methods:
        rows = tuple(renamed(row, clip) for row in report.rows if row.method == method)
        first = rows[0].to_json()
        names = ("flow", "sigma", "seed", "ws", "ps", "stride1", "k", "dist", "grid", "aggregate")
        parameters = {"method": method}
        parameters.update({n: first[n] for n in names if first[n] is not None})
        if method in ("nls", "shifted-nls"):
            more = ("prior", "subpixel", "patch_weights", "sampling")
            parameters.update({n: report.parameters[n] for n in more if n in report.parameters})
        cells.append(
            CellRows(clip, None, parameters, rows, report.input.digest, str(run.path), shared)
        )
    return told, cells


def renamed(row: Row, clip: str) -> Row:
    """A cell is known by its content: the clip may have had another name."""
    return row if row.clip == clip else replace(row, clip=clip)
