"""`python -m stnls_cli.bench`: the command `stnls bench` without Typer and Rich."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from typing import Any, get_type_hints

from stnls_cli.bench.options import BenchOptions
from stnls_cli.console import EXIT_PARTIAL, described, print_error
from stnls_cli.errors import UserError
from stnls_cli.options import option_flags


def parser() -> argparse.ArgumentParser:
    """From the table of options."""
    found = argparse.ArgumentParser(
        prog="python -m stnls_cli.bench", description="Time the operators on named problems."
    )
    hints = get_type_hints(BenchOptions)
    for entry in fields(BenchOptions):
        options: dict[str, Any] = {
            "dest": entry.name,
            "default": entry.default,
            "help": entry.metadata["help"].replace("%", "%%"),
        }
        kind = str(hints[entry.name])
        if hints[entry.name] is bool:
            options["action"] = "store_true"
        else:
            options["metavar"] = entry.metadata["metavar"] or "N"
            if "list" in kind:
                options["action"] = "append"
            elif "int" in kind:
                options["type"] = int
        found.add_argument(*option_flags(entry), **options)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Runs it and exits as `stnls bench` does."""
    values = vars(parser().parse_args(arguments))
    try:
        options = BenchOptions(**values)
        from stnls_cli.bench.job import run_bench

        code = run_bench(options)
    except UserError as error:
        print_error(str(error))
        code = error.exit_code
    except Exception as error:
        print_error(described(error))
        code = EXIT_PARTIAL
    sys.exit(code)


if __name__ == "__main__":
    main()
