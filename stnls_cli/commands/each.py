"""A command over several inputs: one that fails does not keep the others from theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stnls_cli.console import EXIT_PARTIAL, EXIT_USAGE, described, print_error


def run_each(inputs: Sequence[Path], run: Callable[[int], None]) -> int:
    """Runs `run` with the number of every input, one after the other; returns the exit code.

    The error of a single input is raised, those of several are printed.
    """
    failed = 0
    for number in range(len(inputs)):
        try:
            run(number)
        except BrokenPipeError:
            raise
        except Exception as error:
            if len(inputs) == 1:
                raise
            print_error(described(error))
            failed += 1
    return exit_code(failed, len(inputs))


def exit_code(failed: int, count: int) -> int:
    """That of a command of which so many inputs failed, which is said."""
    if failed == 0:
        return 0
    print_error(f"{failed} of {count} inputs failed")
    return EXIT_USAGE if failed == count else EXIT_PARTIAL
