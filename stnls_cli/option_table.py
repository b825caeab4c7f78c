"""The tables of options in the documentation: `python -m stnls_cli.option_table docs/*.md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import Field, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from stnls_cli.compare.options import CompareCommand, default_of, own_fields, shared_fields
from stnls_cli.flow_run import options as flow_options
from stnls_cli.options import AlignOptions, CommandOptions, option_flags

END = "<!-- end of options -->\n"

Entries = Sequence[Field[Any]]


def pages() -> dict[str, Entries]:
    """By the name of a page: the options of its command."""
    return {
        "align": (*fields(AlignOptions), *fields(CommandOptions)),
        "compare": (*own_fields(), *shared_fields(), *fields(CompareCommand)),
        "flow": (
            *flow_options.own_fields(),
            *flow_options.shared_fields(),
            *fields(flow_options.FlowCommand),
        ),
    }


def option_table(entries: Entries, *, compared: bool = False) -> str:
    """Markdown: a table for each panel of the command's help."""
    panels = list(dict.fromkeys(entry.metadata["panel"] for entry in entries))
    ordered = sorted(entries, key=lambda entry: panels.index(entry.metadata["panel"]))
    parts = []
    for panel, group in groupby(ordered, key=lambda entry: str(entry.metadata["panel"])):
        rows = [
            f"| {_flags(e)} | {_default(default_of(e) if compared else e.default)} | {_help(e)} |"
            for e in group
        ]
        parts.append(
            "\n".join([f"### {panel}\n", "| option | default | |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def updated(page: str, name: str = "align") -> str:
    """The page with its table as it should be."""
    begin = f"<!-- options: written by `python -m stnls_cli.option_table docs/{name}.md` -->\n"
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise ValueError("the marks of the table are missing")
    table = option_table(pages()[name], compared=name == "compare")
    return f"{before}{begin}\n{table}\n{END}{after}"


def _flags(entry: Field[Any]) -> str:
    kind = str(entry.type).partition(" | ")[0]
    names = {"int": "N", "float": "X", "str": "NAME", "bool": ""}
    value = str(entry.metadata["metavar"] or names.get(kind, "")).replace("|", "\\|")
    flags = ", ".join(f"`{flag}`" for flag in option_flags(entry))
    return f"{flags} {value}".rstrip()


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _help(entry: Field[Any]) -> str:
    return str(entry.metadata["help"]).replace("|", "\\|")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(updated(path.read_text(encoding="utf-8"), path.stem), encoding="utf-8")
