"""`stnls diff`: two videos against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stnls_cli.console import EXIT_PARTIAL, console_for, print_data, print_error
from stnls_cli.errors import UserError
from stnls_cli.metrics import METRICS, FrameMetric, parse_metrics

if TYPE_CHECKING:
    from rich.table import Table

    from stnls_cli.difference import Difference

FRAME_METRICS = tuple(name for name, metric in METRICS.items() if isinstance(metric, FrameMetric))

# Typer keeps line breaks within a paragraph, so each is one line.
HELP = "\n\n".join(
    (
        "Measure two videos against each other, frame by frame.",
        "Both must have the same size, rate and number of frames (exit code 2 otherwise); a folder "
        "of frames goes with any rate. Identical frames have an infinite PSNR, which counts as "
        "100 dB in means.",
    )
)


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A video or a folder of frames.")],
    second: Annotated[str, typer.Argument(metavar="B", help="What it is compared with.")],
    metrics: Annotated[
        str, typer.Option(help="What to measure: " + ", ".join(FRAME_METRICS) + ".")
    ] = "psnr,ssim",
    start: Annotated[int, typer.Option(help="First frame of both, counted from 0.")] = 0,
    frames: Annotated[
        int | None, typer.Option(help="At most this many frames (default: to the end).")
    ] = None,
    fail_below: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Exit with 1 where the mean PSNR is lower."),
    ] = None,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a row for each frame to this file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Measures, prints, and fails where --fail-below says so."""
    from stnls_cli.difference import compare_clips, misnumbered
    from stnls_cli.folders import given_path
    from stnls_cli.storage import check_writable, write_text

    chosen = _chosen(metrics, fail_below)
    if csv is not None:
        check_writable(given_path(csv, "--csv"))
    paths = given_path(first, "A"), given_path(second, "B")
    found = compare_clips(*paths, chosen, start=start, frames=frames)
    console = console_for(quiet=quiet)
    if note := misnumbered(*paths, start, frames):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(_table(found))
    if csv is not None:
        write_text(Path(csv), found.to_csv())
    if as_json:
        print_data(json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
    if fail_below is None:
        return
    psnr = found.summary()["psnr"]
    assert psnr is not None  # frames of any size have one
    if psnr.mean < fail_below:
        worst = ", ".join(f"{t} ({value:.2f})" for t, value in psnr.worst)
        print_error(
            f"{found.second}: mean PSNR {psnr.mean:.2f} dB is below {fail_below:g}; worst frames: "
            f"{worst}"
        )
        raise typer.Exit(EXIT_PARTIAL)


def _chosen(metrics: str, fail_below: float | None) -> tuple[str, ...]:
    names = parse_metrics(metrics, FRAME_METRICS)
    if fail_below is not None:
        if fail_below != fail_below:
            raise UserError("--fail-below must be a number of dB, not nan")
        if "psnr" not in names:
            raise UserError("--fail-below needs psnr among --metrics")
    return names


def _table(found: Difference) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    count = len(found.frames)
    title = f"{found.first} and {found.second}: {count} frame{'' if count == 1 else 's'}"
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for name in ("mean", "median", "worst 5 %", "worst frame"):
        table.add_column(name, justify="right")
    for name, summary in found.summary().items():
        metric = METRICS[name]
        label = f"{metric.label} ({metric.unit})" if metric.unit else metric.label
        if summary is None:
            table.add_row(label, *("-",) * 4)
            continue
        values = summary.mean, summary.median, summary.percentile_5
        t, worst = summary.worst[0]
        table.add_row(
            label,
            *(f"{value:.{metric.decimals}f}" for value in values),
            f"{worst:.{metric.decimals}f} (frame {t})",
        )
    return table
