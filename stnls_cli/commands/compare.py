"""`stnls compare`: from the command line to the grid and its outcome."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stnls_cli.commands.parameters import (
    other_spelling,
    parameter,
    table_parameters,
    with_parameters,
)
from stnls_cli.compare.options import (
    CompareCommand,
    CompareOptions,
    compare_options,
    default_of,
    own_fields,
    shared_fields,
)
from stnls_cli.compare.protocol import PROTOCOLS
from stnls_cli.console import EXIT_PARTIAL, EXIT_USAGE, console_for, print_data, print_error
from stnls_cli.options import AlignOptions

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from stnls_cli.compare.document import ComparisonDocument
    from stnls_cli.compare.estimate import Estimate
    from stnls_cli.compare.gate import Miss
    from stnls_cli.compare.job import Comparison
    from stnls_cli.progress import Listener

# Typer keeps line breaks within a paragraph, so each is one line.
HELP = "\n\n".join(
    (
        "Compare alignment errors over a grid of methods, flows, windows and noise.",
        "Each INPUT is a video, a folder of frames, a folder of such folders (one clip each), or "
        "the folder of an earlier `stnls align`, which is joined in. --method, --flow, --ws, --ps "
        "and --sigma take lists: every combination is a cell.",
        "A flow is computed once and kept. Finished cells are kept too: the same command goes on "
        "where it stopped, and a wider grid adds to what is there.",
    )
)


def run_compare(names: list[str], options: CompareOptions, command: CompareCommand) -> int:
    """Runs the grid; returns the exit code."""
    from stnls_cli.compare.files import read_comparison
    from stnls_cli.compare.run import prepare, run
    from stnls_cli.folders import given_path

    command.check(options)
    earlier = None
    if command.baseline is not None:
        earlier = read_comparison(given_path(command.baseline, "--baseline"))
    console = console_for(quiet=command.quiet)
    paths = [given_path(name, "INPUT") for name in names]
    folder = given_path(command.output, "-o")
    job = prepare(paths, options, folder, _listener_for(console, notes=not command.quiet))
    if command.dry_run:
        _dry_run(job, options, console, as_json=command.as_json)
        return 0
    document = run(job, folder)
    for name, why in document.failed.items():
        print_error(why if why.startswith(name) else f"{name}: {why}")
    count = len(document.clips) + len(document.failed)
    if not document.clips:
        if count > 1:
            print_error(f"all {count} inputs failed")
        return EXIT_USAGE
    _tell(document, folder, console)
    if command.as_json:
        print_data(json.dumps(document.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
    if document.failed:
        print_error(f"{len(document.failed)} of {count} inputs failed")
    missed = _gates(document, earlier, command, console)
    return EXIT_PARTIAL if missed or document.failed else 0


def _gates(
    document: ComparisonDocument,
    earlier: ComparisonDocument | None,
    command: CompareCommand,
    console: Console,
) -> bool:
    """Whether a threshold was missed, or the baseline has cells that were not compared; names
    both."""
    from stnls_cli.compare.gate import below, dropped

    misses: list[Miss] = []
    if command.fail_below is not None:
        misses += below(document, command.fail_method, command.fail_below)
    missing: list[str] = []
    if earlier is not None:
        name = str(command.baseline)
        found = dropped(document, earlier, name, command.fail_drop or 0.0)
        misses += found.misses
        missing = [f"{name}: not compared: {why}" for why in found.missing]
        counted = f"{found.compared} of {found.total} cells of the baseline compared"
        if missing or not found.total:
            missing.append(f"{counted}; give all its clips and settings, or a baseline of these")
        else:
            console.print(counted, markup=False, highlight=False)
    for text in (*(miss.text for miss in misses), *missing):
        print_error(text)
    return bool(misses or missing)


def _was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was on the command line: a protocol's value stands otherwise."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _listener_for(
    console: Console, *, notes: bool
) -> Callable[[str], contextlib.AbstractContextManager[Listener]]:
    from stnls_cli.progress import ConsoleListener

    def listener(title: str) -> contextlib.AbstractContextManager[Listener]:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        return ConsoleListener(console, title, notes=notes)

    return listener


def _dry_run(job: Comparison, options: CompareOptions, console: Console, *, as_json: bool) -> None:
    from stnls_cli.compare.estimate import estimate
    from stnls_cli.cores import usable_cores

    threads = options.base.threads or usable_cores()
    found = estimate(job.survey(), options, threads)
    console.print(_estimate_table(found))
    for name, (count, seconds) in sorted(found.flows.items()):
        console.print(f"flow {name}: {count} flows, {_duration(seconds / threads)}", markup=False)
    console.print(
        f"about {_duration(found.seconds)} on {threads} threads, {found.megabytes:.0f} MB at the "
        "most; flows that are kept already take no time",
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        document = {
            "schema": "stnls-comparison-estimate",
            "schema_version": 1,
            "seconds": round(found.seconds, 1),
            "megabytes": round(found.megabytes),
            "threads": threads,
            "flows": {
                name: {"flows": count, "seconds": round(seconds / threads, 1)}
                for name, (count, seconds) in sorted(found.flows.items())
            },
            "cells": [
                {
                    "clip": cell.clip,
                    **cell.setting.parameters(),
                    "pairs": cell.pairs,
                    "finished": cell.finished,
                    "seconds": round(cell.seconds / threads, 1),
                    "megabytes": round(cell.megabytes),
                }
                for cell in found.cells
            ],
        }
        print_data(json.dumps(document, indent=2, allow_nan=False) + "\n")


def _estimate_table(found: Estimate) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("clip", "setting"):
        table.add_column(name, overflow="fold")
    for name in ("pairs", "time", "MB"):
        table.add_column(name, justify="right")
    for cell in found.cells:
        time = "finished" if cell.finished else _duration(cell.seconds / found.threads)
        table.add_row(
            escape(cell.clip),
            cell.setting.name.replace(",", " "),
            str(cell.pairs),
            time,
            f"{cell.megabytes:.0f}",
        )
    return table


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _tell(document: ComparisonDocument, folder: Path, console: Console) -> None:
    console.print(_table(document))
    for name, counts in document.flows.items():
        console.print(
            f"flow {name}: {counts['computed']} computed, {counts['read']} from the cache",
            markup=False,
            highlight=False,
        )
    if document.protocol is not None:
        claim = PROTOCOLS[document.protocol].claim
        other = "; ".join(f"{name} {value}" for name, value in document.overrides.items())
        with_other = f" (here with {other})" if other else ""
        told = f"{document.protocol}{with_other}: the paper: {claim}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", markup=False, soft_wrap=True)


def _table(document: ComparisonDocument) -> Table:
    """What fits a screen: the first measures; comparison.md has them all."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from stnls_cli.compare.tables import narrow_table

    header, rows = narrow_table(document)
    count = len(document.clip_names)
    # Of joined runs each setting may have a clip of its own.
    pairs = len({(c, p) for s in document.settings for c, of in s.measured.items() for p in of})
    title = f"{count} clip{'' if count == 1 else 's'}, {pairs} pairs, {document.device}"
    table = Table(
        title=escape(title),
        caption="means of the clips' means; gain over the warp by the same flow",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
        min_width=60,
    )
    for name in header:
        left = name in ("method", "flow")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def compare_command() -> Callable[..., None]:
    """The function that Typer reads: its parameters come from the tables of options."""

    def compare(**values: Any) -> None:
        context, inputs = values.pop("context"), values.pop("inputs")
        command = CompareCommand(**{f.name: values.pop(f.name) for f in fields(CompareCommand)})
        given = {name: value for name, value in values.items() if _was_given(context, name)}
        code = run_compare(inputs, compare_options(given), command)
        if code:
            raise typer.Exit(code)

    argument = typer.Argument(
        metavar="INPUT", help="Videos, folders of frames, folders of those, earlier runs."
    )
    parameters = [
        parameter("context", typer.Context),
        parameter("inputs", Annotated[list[str], argument]),
        *table_parameters(CompareOptions, own_fields(), default_of),
        other_spelling("methods", "--methods"),
        *table_parameters(AlignOptions, shared_fields(), default_of),
        *table_parameters(CompareCommand, fields(CompareCommand), default_of),
    ]
    return with_parameters(compare, parameters, HELP)
