"""`stnls align`: from the command line to the job and its outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stnls_cli.commands.each import run_each
from stnls_cli.commands.parameters import parameter, table_parameters, with_parameters
from stnls_cli.console import console_for, print_data
from stnls_cli.options import AlignOptions, CommandOptions

if TYPE_CHECKING:
    from rich.console import Console

    from stnls_cli.pipeline import Aligned

# Typer keeps line breaks within a paragraph, so each is one line.
HELP = "\n\n".join(
    (
        "Align the neighbours of every frame of a video and report the alignment error.",
        "Decodes each INPUT (a video file, or a folder of frames), computes optical flow between "
        "neighbouring frames, refines it by the Shifted Non-Local Search, and writes the aligned "
        "frames and an error report to a folder named like INPUT with the suffix .stnls, in the "
        "current folder.",
        "The same command again does nothing where that folder is complete, and goes on where a "
        "run stopped.",
    )
)


def run_align(names: list[str], options: AlignOptions, command: CommandOptions) -> int:
    """Aligns every input; returns the exit code."""
    from stnls_cli.folders import check_pictures, given_path, output_folders
    from stnls_cli.pipeline import check_machine

    console = console_for(quiet=command.quiet)
    inputs = [given_path(name, "INPUT") for name in names]
    check_pictures(inputs)
    folders = output_folders(inputs, [given_path(name, "-o") for name in command.output or []])
    check_machine(options)
    documents: list[Any] = []

    def run(number: int) -> None:
        aligned = _run_one(inputs[number], folders[number], options, console, quiet=command.quiet)
        _tell(aligned, console, verbose=command.verbose)
        documents.append(aligned.report.to_json())

    code = run_each(inputs, run)
    if command.as_json and documents:
        document = documents[0] if len(inputs) == 1 else documents
        print_data(json.dumps(document, indent=2, allow_nan=False) + "\n")
    return code


def _run_one(
    path: Path, folder: Path, options: AlignOptions, console: Console, *, quiet: bool
) -> Aligned:
    from stnls_cli.pipeline import align_clip
    from stnls_cli.progress import ConsoleListener

    with ConsoleListener(console, path.name or str(path), notes=not quiet) as listener:
        return align_clip(path, folder, options, listener)


def _tell(aligned: Aligned, console: Console, *, verbose: bool) -> None:
    from stnls_cli.report import summary_table

    if aligned.already_done:
        console.print(
            f"{aligned.folder} is complete already, with the same input and parameters",
            markup=False,
            soft_wrap=True,
        )
        return
    console.print(summary_table(aligned.report))
    if verbose:
        for name, seconds in sorted(aligned.report.timings.items(), key=lambda item: -item[1]):
            console.print(f"{name:>18} {seconds:8.2f} s", highlight=False)
    for line in aligned.report.input.damage:
        console.print(f"damage: {line}", markup=False, soft_wrap=True)
    # A name with a line break stays on its line.
    page = " ".join(str(aligned.folder / "report.html").splitlines())
    console.print(f"report: {page}", markup=False, soft_wrap=True)


def align_command() -> Callable[..., None]:
    """The function that Typer reads: its parameters come from the tables in options.py."""

    def align(**values: Any) -> None:
        inputs = values.pop("inputs")
        command = CommandOptions(**{f.name: values.pop(f.name) for f in fields(CommandOptions)})
        code = run_align(inputs, AlignOptions(**values), command)
        if code:
            raise typer.Exit(code)

    argument = typer.Argument(metavar="INPUT", help="Video files or folders of frames.")
    parameters = [
        parameter("inputs", Annotated[list[str], argument]),
        *table_parameters(AlignOptions, fields(AlignOptions)),
        *table_parameters(CommandOptions, fields(CommandOptions)),
    ]
    return with_parameters(align, parameters, HELP)
