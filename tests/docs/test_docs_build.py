"""The documentation builds without a warning, and misses no public name."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import stnls

for needed in ("sphinx", "myst_parser", "furo"):
    pytest.importorskip(needed, reason=f"no documentation tools: {needed}")

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
# What there is to scroll up and down in the displayed formulas, where --dump-dom finds it.
PROBE = """
<script>
addEventListener("load", () => {
  const boxes = [...document.querySelectorAll(".math-wrapper")];
  document.body.dataset.found =
    boxes.map(box => box.scrollHeight - box.clientHeight).join(" ");
});
</script></body>"""

MODULES = (stnls.search, stnls.agg, stnls.nn, stnls.normz, stnls.graph_opts)


@pytest.fixture(scope="module")
def pages(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    # A proxy that is not there: nothing may be loaded.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [*command, "-d", str(folder / "cache"), str(root / "docs"), str(folder / "html")],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def public_names(module: ModuleType) -> list[str]:
    return [f"{module.__name__}.{name}" for name in module.__all__]


def test_every_public_name_is_in_the_reference(pages: Path) -> None:
    # Four lines of header, then a compressed line for each object.
    packed = (pages / "objects.inv").read_bytes().split(b"\n", 4)[4]
    found = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    expected = [name for module in MODULES for name in public_names(module)]
    expected += [f"stnls.{name}" for name in stnls.__all__ if name.endswith("Error")]
    expected += ["stnls.utils.flow2inds", "stnls.utils.inds2flow"]
    assert [name for name in expected if name not in found] == []


def test_pages_load_nothing_from_elsewhere(pages: Path) -> None:
    for page in pages.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text):
            assert "://" not in tag, (page.name, tag)
        for formula in re.findall(r"<math.*?</math>", text, re.DOTALL):
            assert "\\" not in formula, formula


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_formulas_fit_their_boxes(pages: Path) -> None:
    assert BROWSER is not None
    page = pages / "guide" / "search.html"
    probed = page.with_name("probed.html")
    text = page.read_text(encoding="utf-8").replace("</body>", PROBE, 1)
    probed.write_text(text, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [*command, "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    probed.unlink()
    found = re.search(r'<body[^>]*data-found="([^"]*)"', done.stdout)
    assert found is not None
    assert found[1].split() == ["0"] * text.count('class="math-wrapper')
    assert len(found[1].split()) > 5


def test_returned_values_are_listed_by_name(pages: Path) -> None:
    text = (pages / "api/search.html").read_text(encoding="utf-8")
    assert "<strong>dists</strong> – (B, HD, T, nH, nW, K)" in text
    assert "Return type" not in text


def test_pictures_are_those_of_the_script(root: Path, tmp_path: Path) -> None:
    names = runpy.run_path(str(root / "docs/pictures/draw.py"))
    names["main"](tmp_path)
    folder = root / "docs/pictures"
    measured = "paper_experiment.svg"  # benchmarks/protocol.py, from footage that is not here
    kept = {path.name: path.read_text() for path in folder.glob("*.svg") if path.name != measured}
    assert {path.name: path.read_text() for path in tmp_path.glob("*.svg")} == kept, (
        "run: python docs/pictures/draw.py"
    )
    assert sorted(kept) == sorted(names["PICTURES"])
