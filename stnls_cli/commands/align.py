"""`stnls align`: from the command line to the job and its outcome."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from stnls_cli.console import EXIT_PARTIAL, EXIT_USAGE, console_for, print_error
from stnls_cli.errors import UserError
from stnls_cli.options import AlignOptions

if TYPE_CHECKING:
    from rich.console import Console

    from stnls_cli.align import Aligned

HELP = """Align the neighbours of every frame of a video and report the alignment error.

Decodes each INPUT (a video file, or a folder of frames), computes optical flow between neighbouring
frames, refines it by the Shifted Non-Local Search, and writes the aligned frames and an error
report to INPUT's name with the suffix .stnls, in the current folder.
"""


def run_align(
    inputs: list[Path],
    output: list[Path] | None,
    options: AlignOptions,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Aligns every input; returns the exit code."""
    from stnls_cli.align import output_folders

    console = console_for(quiet=quiet)
    folders = output_folders(inputs, output or [])
    documents: list[Any] = []
    failed = 0
    for path, folder in zip(inputs, folders, strict=True):
        try:
            aligned = _run_one(path, folder, options, console, quiet=quiet)
        except UserError as error:
            if len(inputs) == 1:
                raise
            print_error(str(error))
            failed += 1
            continue
        _tell(aligned, console, verbose=verbose)
        documents.append(aligned.report.to_json())
    if as_json and documents:
        text = json.dumps(
            documents[0] if len(inputs) == 1 else documents,
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    if failed == 0:
        return 0
    print_error(f"{failed} of {len(inputs)} inputs failed")
    return EXIT_USAGE if failed == len(inputs) else EXIT_PARTIAL


def _run_one(
    path: Path, folder: Path, options: AlignOptions, console: Console, *, quiet: bool
) -> Aligned:
    from stnls_cli.align import align_clip
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
    console.print(f"report: {aligned.folder / 'report.json'}", markup=False, soft_wrap=True)


def align_command() -> Callable[..., None]:
    """The function that Typer reads: its parameters come from the table in options.py."""

    def align(**values: Any) -> None:
        inputs, output = values.pop("inputs"), values.pop("output")
        console = {name: values.pop(name) for name in ("as_json", "quiet", "verbose")}
        code = run_align(inputs, output, AlignOptions(**values), **console)
        if code:
            raise typer.Exit(code)

    hints = get_type_hints(AlignOptions)
    parameters = [
        _parameter(
            "inputs",
            list[Path],
            typer.Argument(metavar="INPUT...", help="Video files or folders of frames."),
        )
    ]
    for entry in fields(AlignOptions):
        meta = entry.metadata
        flag = meta["flag"] or "--" + entry.name.replace("_", "-")
        option = typer.Option(
            flag,
            help=meta["help"],
            rich_help_panel=meta["panel"],
            metavar=meta["metavar"] or None,
            show_default=entry.default is not None,
        )
        parameters.append(_parameter(entry.name, hints[entry.name], option, entry.default))
    parameters += [
        _parameter(
            "output",
            list[Path] | None,
            typer.Option(
                "-o",
                "--output",
                help="Folder of the results; with several inputs a folder for all, or one -o each.",
                rich_help_panel="Output",
                metavar="DIR",
            ),
            None,
        ),
        _parameter(
            "as_json",
            bool,
            typer.Option(
                "--json", help="Print the report on standard output.", rich_help_panel="Output"
            ),
            False,
        ),
        _parameter(
            "quiet",
            bool,
            typer.Option(
                "-q", "--quiet", help="Print nothing but errors.", rich_help_panel="Running"
            ),
            False,
        ),
        _parameter(
            "verbose",
            bool,
            typer.Option(
                "-v", "--verbose", help="Print the time of each stage.", rich_help_panel="Running"
            ),
            False,
        ),
    ]
    align.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    align.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    align.__doc__ = HELP
    return align


def _parameter(
    name: str, kind: Any, info: Any, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )
