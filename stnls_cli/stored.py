"""Whether a finished run still has the files that it wrote: by their names, nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from stnls_cli.errors import UserError
from stnls_cli.report import CSV_NAME, InputRecord, Report
from stnls_cli.rundir import Finished
from stnls_cli.storage import storage_errors
from stnls_cli.video import IMAGE_SUFFIX

PAGES = ("report.html", CSV_NAME)
"""What `stnls report` makes of report.json."""


def check_files(run: Finished, wanted: Collection[str]) -> None:
    """Raises UserError where a finished run lacks some of the files `wanted`, which are named from
    its folder."""
    if lost := _lost(run.path, wanted):
        raise UserError(
            f"{run.path} is complete, but {_told(run.path, lost)}; make it again with --overwrite"
        )


def check_pages(run: Finished) -> None:
    """Raises UserError where a finished run of `align` lacks a file that `stnls report` writes."""
    if lost := _lost(run.path, PAGES):
        raise UserError(
            f"{run.path} is complete, but {_told(run.path, lost)}; `stnls report {run.path}` "
            "writes it again"
        )


def check_damage(run: Finished, record: InputRecord, path: Path, *, allowed: bool) -> None:
    """Raises UserError where a finished run of the clip `path` was made of a damaged one, and that
    is not `allowed`."""
    if record.damage and not allowed:
        raise UserError(
            f"{path}: {record.damage[0]}; {run.path} was made of it with --allow-damaged"
        )


def saved_files(report: Report, saved: Collection[str], image_format: str) -> Iterator[str]:
    """What a run of `align` with these rows has written for --save."""
    pairs = sorted({(row.t, row.dt) for row in report.rows})
    suffixes = {
        "aligned": IMAGE_SUFFIX[image_format],
        "distance": ".npz",
        "offsets": ".npz",
    }
    for folder, suffix in suffixes.items():
        if folder in saved:
            yield from (f"{folder}/dt{dt:+d}/{t:05d}{suffix}" for t, dt in pairs)
    if "flow" in saved:
        yield from (f"flow/forward/{t:05d}.flo" for t, dt in pairs if dt == 1)
        yield from (f"flow/backward/{t:05d}.flo" for t, dt in pairs if dt == -1)
    if "video" in saved:
        yield from (f"video/dt{dt:+d}.mkv" for dt in sorted({dt for _, dt in pairs}))


def _lost(folder: Path, wanted: Collection[str]) -> list[str]:
    """Those of `wanted` that are not there; every folder is listed once."""
    names: dict[str, set[str]] = {}
    lost = []
    for file in wanted:
        place, _, name = file.rpartition("/")
        if place not in names:
            names[place] = _listed(folder / place)
        if name not in names[place]:
            lost.append(file)
    return lost


def _listed(folder: Path) -> set[str]:
    with storage_errors(folder, "read"):
        try:
            return set(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return set()


def _told(folder: Path, lost: list[str]) -> str:
    first = PurePosixPath(lost[0])
    for place in reversed(first.parents):
        if not (folder / place).is_dir():
            return f"its folder {place} is gone"
    if len(lost) == 1:
        return f"its file {first} is gone"
    return f"its file {first} and {len(lost) - 1} more are gone"
