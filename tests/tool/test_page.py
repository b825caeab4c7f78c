"""report.html, looked at in a headless browser."""

from __future__ import annotations

import dataclasses
import html
import html.parser
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from outcome import refused
from PIL import Image

from stnls_cli import align
from stnls_cli.colour_wheel import wheel_colours
from stnls_cli.compare.document import CellScores, ComparisonDocument, SettingScores
from stnls_cli.page.align_page import _verdict, align_page
from stnls_cli.page.compare_page import _mean_clip, compare_page
from stnls_cli.page.gallery import DRAWN, Gallery, read_pairs
from stnls_cli.page.pictures import (
    PairPictures,
    SmallPair,
    load_pair,
    load_small_pair,
    paint_pair,
    save_pair,
    save_small_pair,
    shrink_pair,
)
from stnls_cli.page.plots import Line, line_panel
from stnls_cli.page.render import render
from stnls_cli.report import InputRecord, Report, Row

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
QUICK: dict[str, Any] = {"flow": "farneback", "ws": 3, "ps": 3, "wt": 1, "metrics": "psnr,ssim"}

# Moves every slider, and writes what happened where --dump-dom finds it.
PROBE = """
<script>
const found = {errors: window.faults, sliders: [], sections: [], broken: [], overflow:
  document.documentElement.scrollWidth - document.documentElement.clientWidth};
for (const slider of document.querySelectorAll(".slider")) {
  const after = slider.querySelector(".after");
  const range = slider.querySelector("input");
  const seen = [getComputedStyle(after).clipPath];
  range.value = 20;
  range.dispatchEvent(new Event("input"));
  seen.push(getComputedStyle(after).clipPath);
  found.sliders.push(seen);
}
for (const section of document.querySelectorAll("section")) {
  if (section.getBoundingClientRect().height > 40) found.sections.push(section.id);
}
found.values = Math.min(...[...document.querySelectorAll("dd")].map(value => value.clientWidth));
const tables = [...document.querySelectorAll(".wide")];
found.tables = Math.max(...tables.map(table => table.scrollWidth - table.clientWidth));
found.text = document.body.innerText;
for (const image of document.images) if (!image.naturalWidth) found.broken.push(image.alt);
document.body.dataset.found = JSON.stringify(found);
</script></body>"""
LISTEN = """<head><script>
window.faults = [];
addEventListener("error", event => faults.push(String(event.message)), true);
const say = console.error;
console.error = (...words) => { faults.push(words.join(" ")); say(...words); };
</script>"""


# Chromium's own window is not narrower than 500 pixels.
FRAME = """<!doctype html><body><script>
addEventListener("load", () => {
  document.body.dataset.found = document.querySelector("iframe").contentDocument.body.dataset.found;
});
</script><iframe style="border: 0; width: %dpx; height: 900px" srcdoc="%s"></iframe></body>"""


def probe(page: Path, width: int, *, printed: bool = False) -> dict[str, Any]:
    """What a browser of this width finds in the page; `printed`: with the style of paper."""
    assert BROWSER is not None
    text = page.read_text(encoding="utf-8")
    if printed:
        assert "@media print" in text
        text = text.replace("@media print", "@media all")
    text = text.replace("<head>", LISTEN, 1).replace("</body>", PROBE, 1)
    if width < 500:
        text = FRAME % (width, html.escape(text))
    probed = page.with_name("probed.html")
    probed.write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu",
            f"--window-size={max(width, 500)},900", "--virtual-time-budget=3000", "--dump-dom",
            probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in ran.stderr
    found = re.search(r'<body[^>]*data-found="([^"]*)"', ran.stdout)
    assert found is not None
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    return result


class Loads(html.parser.HTMLParser):
    """Everything that the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            loads = name == "src" or (name in ("href", "xlink:href") and tag not in ("a", "use"))
            if loads and value is not None:
                self.found.append(value)


def check_page(page: Path, sections: list[str]) -> None:
    text = page.read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    assert all(value.startswith(("data:", "#")) for value in loads.found)
    assert not re.search(r"url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    if BROWSER is None:
        pytest.skip("no Chromium here")
    for width in (1200, 500, 390):
        found = probe(page, width)
        assert found["values"] > 150
        assert found["errors"] == []
        assert found["broken"] == []
        assert found["sections"] == sections
        assert found["overflow"] <= 0
        assert len(found["sliders"]) == 3
        for before, after in found["sliders"]:
            assert "50%" in before
            assert "20%" in after


def test_page_of_a_run(tmp_path: Path, clip: Path) -> None:
    align(clip, tmp_path / "out", **QUICK)
    check_page(tmp_path / "out/report.html", ["summary", "time", "pairs", "parameters"])


def test_notes_are_a_list_of_their_own(tmp_path: Path, clip: Path) -> None:
    report = align(clip, tmp_path / "out", **QUICK, frames=2)
    assert report.input.notes
    page = (tmp_path / "out/report.html").read_text()
    (found,) = re.findall(r'<p class="notes">Notes</p>\s*<ul class="notes">(.*?)</ul>', page)
    told = [html.unescape(note) for note in re.findall(r"<li>(.*?)</li>", found)]
    assert told == list(report.input.notes)
    bare = dataclasses.replace(report, input=dataclasses.replace(report.input, notes=()))
    assert 'class="notes"' not in render(align_page(bare, tmp_path / "out"))


def test_page_of_a_comparison(tmp_path: Path, clip: Path, cli: Any) -> None:
    ended = cli(
        "compare", clip, "--flow=farneback", "--ws=3,5", "--ps=3", "--metrics=psnr,ssim", "-q",
        "-o", "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    page = tmp_path / "out/report.html"
    check_page(page, ["summary", "clips", "time", "windows", "pairs", "parameters"])
    before = page.read_bytes()
    page.unlink()
    clip_gone = tmp_path / "out"
    assert cli("report", clip_gone).code == 0
    assert page.read_bytes() == before


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_long_names_of_parameters_on_a_phone(tmp_path: Path, clip: Path) -> None:
    """dis has parameters with long names, and every measure makes a wide table."""
    align(clip, tmp_path / "out", flow="dis", ws=3, ps=3, wt=1)
    found = probe(tmp_path / "out/report.html", 390)
    assert "flow.parameters." in found["text"]
    assert found["values"] > 150
    assert found["overflow"] <= 0


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_print_shows_the_whole_table(tmp_path: Path, clip: Path, cli: Any) -> None:
    ended = cli("compare", clip, "--flow=dis", "--ws=3,5", "--ps=3", "-q", "-o", "out")
    assert ended.code == 0, ended.err
    page = tmp_path / "out/report.html"
    screen = probe(page, 717)
    assert screen["tables"] > 100  # there it scrolls
    assert "Drag the line" in screen["text"]
    printed = probe(page, 717, printed=True)  # A4 less the browser's margins
    assert "at the window's edge" in printed["text"]
    assert printed["tables"] <= 0
    assert printed["overflow"] <= 0
    assert "Drag the line" not in printed["text"]


def many_clips(count: int) -> ComparisonDocument:
    """A comparison of `count` clips of four frames, dis, two windows."""
    pairs = tuple((t, dt) for t in range(4) for dt in (-2, -1, 1, 2) if 0 <= t + dt < 4)
    base = {"flow": "dis", "sigma": 0.0, "seed": 0}

    def setting(level: float, **parameters: Any) -> SettingScores:
        cells = tuple(
            CellScores(f"c{n}", pairs, {"psnr": tuple(level + n + t for t, _ in pairs)}, f"d{n}")
            for n in range(count)
        )
        return SettingScores({**parameters, **base}, None, cells)

    return ComparisonDocument(
        metrics=("psnr",),
        protocol="paper-script",
        overrides={"flow": "dis, not farneback"},
        parameters={},
        clips=tuple(
            {"clip": f"c{n}", "digest": f"d{n}", "path": f"c{n}", "frames": 4} for n in range(count)
        ),
        settings=(
            setting(20, method="flow"),
            setting(21, method="shifted-nls", ws=3, ps=5),
            setting(23, method="shifted-nls", ws=9, ps=5),
        ),
    )


def test_every_distance_is_drawn_over_time(tmp_path: Path) -> None:
    """Also where the clips have too many panels: then as means over the clips."""
    few = compare_page(many_clips(3), tmp_path).time
    assert few is not None
    assert len(few.panels) == 12
    many = compare_page(many_clips(13), tmp_path).time
    assert many is not None
    titles = [re.findall(r"aria-label=\"[^:]*: ([^\"]*)", panel)[0] for panel in many.panels]
    assert titles[:4] == [f"mean of 13 clips, dt {dt:+d}" for dt in (1, -1, 2, -2)]
    assert titles[4:] == [f"c{n}, dt +1" for n in range(12)]
    assert "of the clips only dt +1 is shown" in many.caption
    means = _mean_clip(many_clips(13).settings[:1], "psnr")["mean of 13 clips"]
    assert [(s.t, s.dt, s.value) for s in means if s.t == 2] == [
        (2, dt, 28.0) for dt in (-2, -1, 1)
    ]


def test_a_single_frame_is_a_whole_number() -> None:
    """Also where a clip of two frames has one reference frame for each distance."""
    line = Line("flow", [3], [30.0], "#d95f02", mark=".")
    panel = line_panel("dt +1", [line], x_label="frame", y_label="dB", label="scores")
    ticks = re.findall(r'id="[^"]*xtick_\d+".*?<text[^>]*>([^<]*)</text>', panel, re.DOTALL)
    assert ticks == ["3"]


def test_what_a_comparison_says(tmp_path: Path) -> None:
    page = compare_page(many_clips(2), tmp_path)
    best = "shifted-nls dis, sigma 0, ws 9, ps 5"
    assert page.verdict.startswith(f"The best mean PSNR is 25.00 dB, of {best}, +3.00 dB over its")
    assert "Here it was run with other settings: flow dis, not farneback." in page.verdict
    assert page.verdict.endswith("The paper claims more than 3 dB over the flow.")
    assert page.pairs_caption == f"Here: {best}."
    assert page.clips is not None
    assert list(page.clips.header) == ["clip", "flow", "shifted-nls", "gain", "worst frames"]
    worst = "0, dt +1: 23.00; 0, dt +2: 23.00; 1, dt -1: 24.00"
    assert list(page.clips.rows[0]) == ["c0", "21.50", "24.50", "+3.00", worst]
    assert {"flow", "shifted-nls", "ws", "ps", "dt", "gain"} <= dict(page.words).keys()
    assert "none" not in dict(page.words)


@pytest.mark.parametrize(
    ("means", "told"),
    [
        ((30.0, 32.5, 20.0), "gains 2.50 dB over the flow alone (32.50 against 30.00 dB PSNR)."),
        (
            (35.0, 20.0, 20.0),
            "loses 15.00 dB against the flow alone (20.00 against 35.00 dB PSNR).",
        ),
        (
            (35.0, 20.0, 25.5),
            "loses 15.00 dB against the flow alone (20.00 against 35.00 dB PSNR); the search "
            "without flow is better here (25.50 dB).",
        ),
        ((30.0, 31.0, None), "gains 1.00 dB over the flow alone (31.00 against 30.00 dB PSNR)."),
    ],
)
def test_what_a_run_says(means: tuple[float | None, ...], told: str) -> None:
    methods = zip(("flow", "shifted-nls", "nls"), means, strict=True)
    rows = [Row("a", 0, 1, method, psnr=mean) for method, mean in methods if mean is not None]
    names = {field.name for field in dataclasses.fields(InputRecord)}
    record = InputRecord(**{**dict.fromkeys(names), "notes": (), "damage": ()})
    report = Report(record, {}, "cpu", ("psnr",), tuple(rows), {})
    assert _verdict(report) == f"The search around the flow {told}"


def test_report_again(tmp_path: Path, clip: Path, cli: Any) -> None:
    align(clip, tmp_path / "out", **QUICK)
    before = (tmp_path / "out/report.html").read_bytes()
    (tmp_path / "out/report.html").unlink()
    ended = cli("report", "out")
    assert (ended.code, ended.lines) == (0, ["report: out/report.html"])
    assert (tmp_path / "out/report.html").read_bytes() == before
    # Without its pictures the page has none.
    shutil.rmtree(tmp_path / "out/pictures")
    assert cli("report", "out", "-q").code == 0
    assert "data:image" not in (tmp_path / "out/report.html").read_text()
    (tmp_path / "empty").mkdir()
    refused(cli("report", "empty"), "empty: holds neither report.json nor comparison.json")
    refused(cli("report", "missing"), "missing: no such folder of a run")
    both = cli("report", "missing", "out")
    assert both.code == 1
    assert both.lines[-1] == "stnls: 1 of 2 runs failed"


def small(number: int) -> SmallPair:
    """A pair that can be told from others by its number."""
    frame = torch.full((3, 4, 6), number, dtype=torch.uint8)
    still = torch.zeros(2, 4, 6)
    return SmallPair(
        {"reference": frame}, {"flow": torch.zeros(4, 6)}, {"flow": still}, still[0].flatten()
    )


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_gallery_keeps_worst_median_and_best(tmp_path: Path, count: int) -> None:
    scores = np.random.default_rng(count).permutation(count) + 20.0
    gallery = Gallery(tmp_path, [])
    for t, score in enumerate(scores):
        gallery.consider((t, 1), {"flow": float(score)}, lambda t=t: small(t))  # type: ignore[misc]
        assert len(list((tmp_path / "pictures").iterdir())) <= DRAWN + 2
    gallery.finish()
    found = read_pairs(tmp_path / "pictures")
    told = {role: load_pair(path).told for role, path in found.items()}
    shown = {role: pair["psnr"]["flow"] for role, pair in told.items()}
    assert all(shown[role] == scores[pair["t"]] for role, pair in told.items())
    assert shown["worst"] == scores.min()
    assert shown["best"] == scores.max()
    assert abs(shown["median"] - np.median(scores)) <= (1 if count <= DRAWN else count / 4)
    assert len(list((tmp_path / "pictures").glob("*dt*"))) == len(set(found.values()))


def test_gallery_goes_on_where_it_stopped(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).uniform(20, 40, 30)
    for name, stop in (("whole", None), ("two", 17)):
        gallery = Gallery(tmp_path / name, [])
        for t, score in enumerate(scores):
            if t == stop:
                done = [((n, 1), {"flow": float(value)}) for n, value in enumerate(scores[:t])]
                gallery = Gallery(tmp_path / name, done)
            scored = {"none": 0.0, "flow": float(score)}
            gallery.consider((t, 1), scored, lambda t=t: small(t))  # type: ignore[misc]
        gallery.finish()
    one, other = (
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*.jp*g")
        }
        for name in ("whole", "two")
    )
    assert len(one) >= 3
    assert one == other


def test_gallery_that_knows_what_will_come(tmp_path: Path) -> None:
    """Shows the same, and is asked for less."""
    scores = np.random.default_rng(0).uniform(20, 40, 60)
    expected = [(t, 1) for t in range(60)]
    asked = []
    for known in (None, expected):
        gallery = Gallery(tmp_path / str(known is None), [], known)
        count = 0

        def counted(t: int) -> SmallPair:
            nonlocal count
            count += 1
            return small(t)

        for t, score in enumerate(scores):
            gallery.consider((t, 1), {"flow": score}, lambda t=t: counted(t))  # type: ignore[misc]
        gallery.finish()
        asked.append(count)
    assert asked[1] < asked[0]
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.json")}
        for name in ("True", "False")
    )
    assert one == other
    # A clip that ends early has fewer to draw from.
    gallery = Gallery(tmp_path / "early", [], expected)
    for t in range(12):
        gallery.consider((t, 1), {"flow": scores[t]}, lambda t=t: small(t))  # type: ignore[misc]
    gallery.finish()
    found = read_pairs(tmp_path / "early/pictures")
    assert load_pair(found["worst"]).told["t"] == int(scores[:12].argmin())
    assert set(found) == {"worst", "median", "best"}


def test_pairs_without_a_score_are_passed_over(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, [])
    gallery.consider((0, 1), {}, lambda: small(0))
    gallery.consider((0, 2), {"flow": None}, lambda: small(0))
    gallery.finish()
    assert not (tmp_path / "pictures").exists()


def test_small_pairs_come_back(tmp_path: Path) -> None:
    frames = {name: torch.rand(3, 20, 1280) * 255 for name in ("reference", "neighbour", "flow")}
    made = shrink_pair(
        reference=frames["reference"],
        neighbour=frames["neighbour"],
        aligned={"flow": frames["flow"]},
        motions={"flow": torch.randn(2, 20, 1280)},
    )
    assert made.frames["flow"].shape == (3, 10, 640)
    mean = frames["flow"].unflatten(2, (640, 2)).unflatten(1, (10, 2)).mean((2, 4))
    torch.testing.assert_close(made.frames["flow"].float(), mean, atol=0.501, rtol=0)
    difference = (frames["neighbour"] - frames["reference"]).abs().mean(0)
    mean = difference.unflatten(1, (640, 2)).unflatten(0, (10, 2)).mean((1, 3))
    torch.testing.assert_close(made.errors["neighbour"], mean)
    save_small_pair(tmp_path / "pictures/pair.npz", made)
    back = load_small_pair(tmp_path / "pictures/pair.npz")
    for kind in ("frames", "errors", "motions"):
        one, other = getattr(made, kind), getattr(back, kind)
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)
    painted = [paint_pair(p, clip="", t=1, dt=-1, scores={"flow": 30.0}) for p in (made, back)]
    assert painted[0] == painted[1]


def averages(pixels: int, cells: int) -> np.ndarray:
    """(cells, pixels): what each pixel counts in the mean over a cell, as far as it lies there."""
    ends = np.arange(cells + 1) * pixels / cells
    first = np.arange(pixels)
    inside = np.minimum(ends[1:, None], first + 1) - np.maximum(ends[:-1, None], first)
    return np.maximum(inside, 0) * cells / pixels


def test_pixels_count_by_how_much_of_them_lies_in_a_cell() -> None:
    reference, neighbour = (torch.rand(3, 48, 854) * 255 for _ in range(2))
    made = shrink_pair(reference=reference, neighbour=neighbour, aligned={}, motions={})
    rows, columns = averages(48, 36), averages(854, 640)
    frame = rows @ neighbour.double().numpy() @ columns.T
    assert np.abs(made.frames["neighbour"].numpy() - frame).max() <= 0.501
    error = rows @ (neighbour - reference).abs().mean(0).double().numpy() @ columns.T
    np.testing.assert_allclose(made.errors["neighbour"].numpy(), error, rtol=1e-5)


def test_colours_of_errors() -> None:
    """From black to the brightest at 64 grey levels and above; none where it is no number."""
    error = torch.tensor([0.0, 32.0, 64.0, 500.0, math.nan, math.inf])
    blocks = error.repeat_interleave(16)[None].expand(16, -1)  # as large as those of a JPEG
    small = SmallPair({}, {"flow": blocks}, {}, torch.zeros(0))
    painted = paint_pair(small, clip="", t=0, dt=1, scores={}).images["error flow"]
    with Image.open(io.BytesIO(painted)) as image:
        shown = np.asarray(image.convert("RGB"), float)[8, 8::16]
    known = matplotlib.colormaps["inferno"]([0.0, 0.5, 1.0, 1.0, 0.0, 1.0])[:, :3] * 255
    assert np.abs(shown - known).max() < 16  # JPEG, and colours at half the resolution


def test_pictures_come_back(tmp_path: Path) -> None:
    saved = PairPictures(
        {"error flow": b"1", "reference": b"2"}, {"images": ["error flow", "reference"]}
    )
    save_pair(tmp_path / "pair", saved)
    assert load_pair(tmp_path / "pair") == saved


def test_colours_of_motion() -> None:
    """Hue is the direction, saturation the length."""
    motion = torch.tensor([[[4.0, 0.0, -4.0, 0.0]], [[0.0, 4.0, 0.0, 0.0]]])
    right, down, left, still = wheel_colours(motion, 4.0)[0].tolist()
    assert right == [255, 0, 0]
    assert down == [128, 255, 0]
    assert left == [0, 255, 255]
    assert still == [255, 255, 255]
    half = wheel_colours(motion / 2, 4.0)[0][0].tolist()
    assert half == [255, 128, 128]


def test_pictures_are_small_and_true(tmp_path: Path, clip: Path) -> None:
    align(clip, tmp_path / "out", size="1300x100", frames=2, **QUICK)
    for path in (tmp_path / "out/pictures").rglob("*.jpg"):
        with Image.open(path) as image:
            assert image.size == (640, 49)
