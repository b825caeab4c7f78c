"""The section `Returns` of docstrings, where several values go by their names.

Napoleon takes what stands before the first colon for a type. Here the section becomes a list, one
item for each name, or a paragraph where there are no names.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx


def returned_values(lines: list[str]) -> list[str]:
    """The lines of a docstring with its section `Returns` as a field of reStructuredText."""
    if "Returns:" not in lines:
        return lines
    start = lines.index("Returns:")
    end = start + 1
    while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
        end += 1
    body = [line[4:] for line in lines[start + 1 : end]]
    named = bool(body) and re.match(r"\w+: ", body[0]) is not None
    if not named:
        return [*lines[:start], f":returns: {body[0]}", *_indented(body[1:]), "", *lines[end:]]
    items = []
    for line in body:
        item = re.match(r"(\w+): (.*)", line)
        items.append(f"- **{item[1]}** – {item[2]}" if item else f"  {line.strip()}".rstrip())
    return [*lines[:start], ":returns:", *_indented(items), "", *lines[end:]]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}".rstrip() for line in lines]


def _process(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = returned_values(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before Napoleon."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
