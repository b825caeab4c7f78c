"""Parameters that Typer reads, made from the tables of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field
from typing import Annotated, Any, get_type_hints

import typer

from stnls_cli.options import option_flags


def parameter(
    name: str, annotation: Any, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    """One parameter of a command."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def table_parameters(
    table: type,
    entries: Iterable[Field[Any]],
    default_of: Callable[[Field[Any]], Any] = lambda entry: entry.default,
) -> list[inspect.Parameter]:
    """One for each of the fields `entries` of the options class `table`."""
    hints = get_type_hints(table)
    found = []
    for entry in entries:
        default = default_of(entry)
        option = typer.Option(
            *option_flags(entry),
            help=entry.metadata["help"],
            rich_help_panel=entry.metadata["panel"],
            metavar=entry.metadata["metavar"] or None,
            show_default=default is not None,
        )
        found.append(parameter(entry.name, Annotated[hints[entry.name], option], default))
    return found


def other_spelling(name: str, flag: str) -> inspect.Parameter:
    """A list of another option, under a name that the help does not show."""
    option = typer.Option(flag, hidden=True)
    return parameter(name, Annotated[str | None, option], None)


def with_parameters(
    command: Callable[..., None], parameters: list[inspect.Parameter], help: str
) -> Callable[..., None]:
    """`command`, which takes keywords, as a function that Typer can read."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    command.__doc__ = help
    return command
