"""The table of options in docs/align.md: `python -m stnls_cli.option_table docs/align.md`."""

from __future__ import annotations

import sys
from dataclasses import Field, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from stnls_cli.options import AlignOptions, CommandOptions, option_flags

BEGIN = "<!-- options: written by `python -m stnls_cli.option_table docs/align.md` -->\n"
END = "<!-- end of options -->\n"


def option_table() -> str:
    """Markdown: a table for each panel of the command's help."""
    entries = sorted((*fields(AlignOptions), *fields(CommandOptions)), key=_panel_rank)
    parts = []
    for panel, group in groupby(entries, key=lambda entry: str(entry.metadata["panel"])):
        rows = [f"| {_flags(entry)} | {_default(entry)} | {_help(entry)} |" for entry in group]
        parts.append(
            "\n".join([f"### {panel}\n", "| option | default | |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def updated(page: str) -> str:
    """The page with its table as it should be."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the marks of the table are missing")
    return f"{before}{BEGIN}\n{option_table()}\n{END}{after}"


def _panel_rank(entry: Field[Any]) -> int:
    panels = list(dict.fromkeys(field.metadata["panel"] for field in fields(AlignOptions)))
    return panels.index(entry.metadata["panel"])


def _flags(entry: Field[Any]) -> str:
    kind = str(entry.type).partition(" | ")[0]
    names = {"int": "N", "float": "X", "str": "NAME", "bool": ""}
    value = str(entry.metadata["metavar"] or names.get(kind, "")).replace("|", "\\|")
    flags = ", ".join(f"`{flag}`" for flag in option_flags(entry))
    return f"{flags} {value}".rstrip()


def _default(entry: Field[Any]) -> str:
    if entry.default is None or isinstance(entry.default, bool):
        return ""
    return f"{entry.default:g}" if isinstance(entry.default, float) else f"{entry.default}"


def _help(entry: Field[Any]) -> str:
    return str(entry.metadata["help"]).replace("|", "\\|")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
