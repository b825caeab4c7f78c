"""`stnls report`: report.html again, from what a run stored."""

from __future__ import annotations

from typing import Annotated

import typer

from stnls_cli.console import EXIT_PARTIAL, EXIT_USAGE, console_for, print_error
from stnls_cli.errors import UserError

HELP = (
    "Build report.html of finished runs again (and report.csv of those of `stnls align`), from the "
    "results and pictures that they stored. RUN is a folder that `stnls align` or `stnls compare` "
    "wrote."
)


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Folders of finished runs.")],
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Writes the page of every run; one that fails does not keep the others from theirs."""
    from stnls_cli.folders import given_path
    from stnls_cli.page.build import rebuild

    console = console_for(quiet=quiet)
    folders = [given_path(run, "RUN") for run in runs]
    failed = 0
    for folder in folders:
        try:
            written = rebuild(folder)
        except UserError as error:
            if len(folders) == 1:
                raise
            print_error(str(error))
            failed += 1
            continue
        console.print(f"report: {written}", markup=False, soft_wrap=True)
    if failed:
        print_error(f"{failed} of {len(folders)} runs failed")
        raise typer.Exit(EXIT_USAGE if failed == len(folders) else EXIT_PARTIAL)
