"""docs/align.md is in step with the options and the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from stnls_cli.compare.protocol import PROTOCOLS
from stnls_cli.console import EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_USAGE
from stnls_cli.option_table import pages, updated
from stnls_cli.options import SAVES, AlignOptions, CommandOptions, option_flags
from stnls_cli.report.row import METHODS


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/align.md").read_text(encoding="utf-8")


def test_the_table_of_options_is_the_one_of_the_code(page: str) -> None:
    assert updated(page) == page, "run: python -m stnls_cli.option_table docs/align.md"
    rows = [line for line in page.splitlines() if line.startswith("| `-")]
    assert len(rows) == len(fields(AlignOptions)) + len(fields(CommandOptions))
    for entry in (*fields(AlignOptions), *fields(CommandOptions)):
        flags = ", ".join(f"`{flag}`" for flag in option_flags(entry))
        assert sum(row.startswith(f"| {flags}") for row in rows) == 1


@pytest.mark.parametrize("name", ["compare", "flow"])
def test_the_tables_of_the_options_of_other_commands(root: Path, name: str) -> None:
    page = (root / f"docs/{name}.md").read_text(encoding="utf-8")
    command = f"python -m stnls_cli.option_table docs/{name}.md"
    assert updated(page, name) == page, f"run: {command}"
    rows = [line for line in page.splitlines() if line.startswith("| `-")]
    assert len(rows) == len(pages()[name])


def test_every_parameter_of_a_protocol_is_in_its_table(root: Path) -> None:
    page = (root / "docs/compare.md").read_text(encoding="utf-8")
    section = page[page.index("## The paper's experiment") :]
    for protocol in PROTOCOLS.values():
        for name, value in protocol.given.items():
            row = next(line for line in section.splitlines() if line.startswith(f"| `{name}`"))
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            assert f"`{shown}`" in row, (protocol.name, name)


def test_a_changed_table_is_noticed(page: str) -> None:
    assert updated(page.replace("| 9 |", "| 11 |")) == page
    with pytest.raises(ValueError, match="marks"):
        updated("no table here")


def test_methods_outputs_and_exit_codes_are_described(page: str) -> None:
    for name in METHODS:
        assert f"`{name}` (" in page
    for name in SAVES:
        assert re.search(rf"^\| `[^|]+\| `{name}` \|", page, re.M), name
    for code in (0, EXIT_PARTIAL, EXIT_USAGE, EXIT_INTERRUPTED):
        assert f"\n| {code} | " in page


def test_the_stages_of_timings_are_described(root: Path) -> None:
    text = (root / "docs/report.md").read_text(encoding="utf-8")
    for stage in (
        "decode", "decode_wait", "prepare", "flow", "flow_wait", "flow_cpu", "compose", "warp",
        "search", "aggregate", "metrics", "pictures", "encode", "wait", "write",
    ):  # fmt: skip
        assert f"`{stage}`" in text
