"""The programs of the documentation, as they stand there; their assertions are the test."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stnls
import torch

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCS = ROOT / "docs"
# The pages of the tool have programs about files that are not there; tests/tool knows them.
TOOL = {DOCS / name for name in ("align.md", "compare.md", "flow.md", "report.md")}
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if path not in TOOL and FENCE.search(path.read_text(encoding="utf-8"))
]


@pytest.fixture(autouse=True)
def random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def run(page: Path) -> dict[str, Any]:
    """Runs the blocks of a page one after the other; errors name the page and the line."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": page.stem}
    for block in FENCE.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path) -> None:
    run(page)


def test_the_pages_are_there() -> None:
    assert {"attention", "denoising", "alignment", "examples"} <= {page.stem for page in PAGES}
    assert DOCS / "guide/flow.md" in PAGES  # the tool has a page of this name too


def test_tutorials_assert_what_they_claim() -> None:
    for page in (ROOT / "docs/tutorials").glob("*.md"):
        asserted = re.findall(r"^ *assert ", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(asserted) >= 2, page.name


def test_the_migration_table_knows_every_public_name_and_parameter() -> None:
    text = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    modules = (stnls.search, stnls.agg, stnls.nn, stnls.normz, stnls.graph_opts)
    names = {name for module in modules for name in module.__all__}
    for search in (stnls.search.NonLocalSearch, stnls.search.RefineSearch):
        names |= set(inspect.signature(search).parameters)
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def test_a_failing_program_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Words.\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run(page)
    assert caught.tb.tb_next is not None
    assert caught.traceback[-1].lineno == 7


def placeholders(text: str) -> list[str]:
    """Cells of tables that hold one word in capitals, too long for a name such as PSNR or DAVIS."""
    rows = (line for line in text.splitlines() if line.startswith("|"))
    cells = (cell.strip() for row in rows for cell in row.split("|"))
    return [cell for cell in cells if re.fullmatch(r"[A-Z][A-Z0-9_]{7,}|TODO|TBD|X{2,}", cell)]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs"])
def test_no_figure_of_a_table_is_still_to_be_filled_in(name: str) -> None:
    path = ROOT / name
    pages = sorted(path.rglob("*.md")) if path.is_dir() else [path]
    assert pages
    found = {page.name: placeholders(page.read_text(encoding="utf-8")) for page in pages}
    assert {page: cells for page, cells in found.items() if cells} == {}


def test_a_figure_to_be_filled_in_is_noticed() -> None:
    table = "| flow | PSNR |\n|---|---|\n| `ABCDEFGH` | THEIRPSNR |\n| DIS | 30.02 |\n| TODO | |\n"
    assert placeholders(table) == ["THEIRPSNR", "TODO"]
