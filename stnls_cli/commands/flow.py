"""`stnls flow`: from the command line to the flows of each input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stnls_cli.commands.each import run_each
from stnls_cli.commands.parameters import parameter, table_parameters, with_parameters
from stnls_cli.console import console_for, print_data
from stnls_cli.flow_run.options import (
    FlowCommand,
    FlowOptions,
    flow_options,
    own_fields,
    shared_fields,
)
from stnls_cli.options import AlignOptions

if TYPE_CHECKING:
    from rich.console import Console

    from stnls_cli.flow_run.job import Computed

# Typer keeps line breaks within a paragraph, so each is one line.
HELP = "\n\n".join(
    (
        "Compute the optical flow between the neighbouring frames of a video.",
        "Writes the flow of every frame of each INPUT (a video file, or a folder of frames) to the "
        "next frame and to the previous one, with pictures, into a folder named like INPUT with "
        "the suffix .flow, in the current folder. `stnls align --flow FOLDER` reads it.",
        "The same command again does nothing where that folder is complete, and goes on where a "
        "run stopped.",
    )
)


def run_flow(names: list[str], options: FlowOptions, command: FlowCommand) -> int:
    """Computes the flows of every input; returns the exit code."""
    from stnls_cli.flow_run.job import compute_clip_flow
    from stnls_cli.folders import FLOW_SUFFIX, check_pictures, given_path, output_folders
    from stnls_cli.pipeline import check_machine
    from stnls_cli.progress import ConsoleListener

    console = console_for(quiet=command.quiet)
    inputs = [given_path(name, "INPUT") for name in names]
    check_pictures(inputs)
    outputs = [given_path(name, "-o") for name in command.output or []]
    folders = output_folders(inputs, outputs, FLOW_SUFFIX)
    check_machine(options.base)
    documents: list[Any] = []

    def run(number: int) -> None:
        path = inputs[number]
        name = path.name or str(path)
        with ConsoleListener(console, name, notes=not command.quiet, work="flow") as listener:
            computed = compute_clip_flow(path, folders[number], options, listener)
        _tell(computed, console, verbose=command.verbose)
        documents.append(computed.document.to_json())

    code = run_each(inputs, run)
    if command.as_json and documents:
        document = documents[0] if len(inputs) == 1 else documents
        print_data(json.dumps(document, indent=2, allow_nan=False) + "\n")
    return code


def _tell(computed: Computed, console: Console, *, verbose: bool) -> None:
    from stnls_cli.flow_run.document import flow_table
    from stnls_cli.report import timings_table

    if computed.already_done:
        console.print(
            f"{computed.folder} is complete already, with the same input and parameters",
            markup=False,
            soft_wrap=True,
        )
        if verbose:
            console.print(timings_table(computed.document.timings))
        return
    console.print(flow_table(computed.document))
    if verbose:
        console.print(timings_table(computed.document.timings))
    for line in computed.document.input.damage:
        console.print(f"damage: {line}", markup=False, soft_wrap=True)
    # A name with a line break stays on its line.
    folder = " ".join(str(computed.folder).splitlines())
    console.print(f"flows: {folder}", markup=False, soft_wrap=True)


def flow_command() -> Callable[..., None]:
    """The function that Typer reads: its parameters come from the tables of options."""

    def flow(**values: Any) -> None:
        inputs = values.pop("inputs")
        command = FlowCommand(**{f.name: values.pop(f.name) for f in fields(FlowCommand)})
        code = run_flow(inputs, flow_options(values), command)
        if code:
            raise typer.Exit(code)

    argument = typer.Argument(metavar="INPUT", help="Video files or folders of frames.")
    parameters = [
        parameter("inputs", Annotated[list[str], argument]),
        *table_parameters(FlowOptions, own_fields()),
        *table_parameters(AlignOptions, shared_fields()),
        *table_parameters(FlowCommand, fields(FlowCommand)),
    ]
    return with_parameters(flow, parameters, HELP)
