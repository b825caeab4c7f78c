"""`stnls bench`: how fast the operators are on this machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from stnls_cli.bench.options import BenchOptions
from stnls_cli.options import option_flags

# Typer keeps line breaks within a paragraph, so each is one line.
HELP = "\n\n".join(
    (
        "Time the operators on named problems, beside a reference and other tools.",
        "Every row has the median and spread of several runs, bytes and operations in a second as "
        "shares of what this machine was measured to do, and the peak of memory over inputs and "
        "outputs. The result of each call is compared with a reference in plain PyTorch: a row "
        "that differs is an error (exit code 1).",
    )
)


def bench_command() -> Callable[..., None]:
    """The function that Typer reads: its parameters come from the table of options."""

    def bench(**values: Any) -> None:
        options = BenchOptions(**values)
        from stnls_cli.bench.job import run_bench

        code = run_bench(options)
        if code:
            # Not typer.Exit: what was interrupted here does not go on with the next command.
            raise SystemExit(code)

    hints = get_type_hints(BenchOptions)
    parameters = []
    for entry in fields(BenchOptions):
        option = typer.Option(
            *option_flags(entry),
            help=entry.metadata["help"],
            rich_help_panel=entry.metadata["panel"],
            metavar=entry.metadata["metavar"] or None,
            show_default=entry.default is not None,
        )
        parameters.append(
            inspect.Parameter(
                entry.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=entry.default,
                annotation=Annotated[hints[entry.name], option],
            )
        )
    bench.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    bench.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    bench.__doc__ = HELP
    return bench


bench = bench_command()
