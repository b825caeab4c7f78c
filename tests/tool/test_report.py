from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from stnls_cli.errors import UserError
from stnls_cli.metrics import ALIGN_METRICS, METRICS
from stnls_cli.report import (
    COLUMNS,
    METHODS,
    InputRecord,
    Report,
    Row,
    RowSettings,
    is_report,
    read_report,
    summary_table,
    write_reports,
)
from stnls_cli.report.plain import plain
from stnls_cli.report.row import SCORES, SETTINGS

SETTINGS_9 = RowSettings(
    flow="tvl1",
    ws=9,
    wt=2,
    ps=7,
    stride1=0.5,
    k=3,
    dist="l2",
    grid="float",
    aggregate="patch",
    sigma=15.0,
    seed=0,
    weights="softmax",
    bandwidth=10.0,
    prior=0.02,
    subpixel="parabola",
    patch_weights="confidence",
    sampling="bicubic",
)
INPUT = InputRecord(
    path="a, b.mp4",
    digest="sha256:00",
    clip="a, b",
    frames=3,
    width=64,
    height=48,
    source_width=48,
    source_height=64,
    rate="30000/1001",
    stream=0,
    codec="h264",
    pixel_format="yuv420p",
    bit_depth=8,
    notes=("rotated by 90 degrees",),
)


def scores(psnr: float) -> dict[str, float | None]:
    return {"psnr": psnr, "ssim": 0.9, "mae": 2.5, "out_of_frame": 0.125}


def make_report(rows: list[Row] | None = None, metrics: tuple[str, ...] = SCORES) -> Report:
    if rows is None:
        rows = [
            SETTINGS_9.row("a, b", t, dt, method, scores(30.0 + METHODS.index(method) + t))
            for t in range(3)
            for dt in (-2, -1, 1, 2)
            if 0 <= t + dt < 3
            for method in METHODS
        ]
    return Report(
        input=INPUT,
        parameters={"ws": 9, "flow": {"name": "tvl1", "parameters": {"lambda": 0.15}}},
        device="cpu",
        metrics=metrics,
        rows=tuple(rows),
        timings={"flow": 1.25, "search": 0.5},
    )


def render(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=True)
    console.print(summary_table(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_columns_are_the_agreed_ones() -> None:
    assert ",".join(COLUMNS) == (
        "clip,t,dt,method,flow,ws,wt,ps,stride1,k,dist,grid,aggregate,sigma,seed,"
        "psnr,ssim,mae,out_of_frame,weights,bandwidth,"
        "psnr_visible,ssim_visible,mae_visible,visible,epe,at_edge,"
        "prior,subpixel,patch_weights,sampling"
    )
    assert tuple(METRICS) == SCORES


@pytest.mark.parametrize(
    ("method", "empty"),
    [
        ("none", {*SETTINGS, "out_of_frame"}),
        ("flow", set(SETTINGS) - {"flow", "sigma", "seed"}),
        ("nls", {"flow", "out_of_frame"}),
        ("shifted-nls", set()),
    ],
)
def test_settings_that_a_method_does_not_use_are_empty(method: str, empty: set[str]) -> None:
    row = SETTINGS_9.row("clip", 0, 1, method, scores(30.0)).to_json()
    measured_by_compare_alone = set(METRICS) - set(ALIGN_METRICS)
    missing = {name for name, value in row.items() if value is None}
    assert missing == empty | measured_by_compare_alone
    for name in set(SETTINGS) - empty:
        assert row[name] == getattr(SETTINGS_9, name)


def test_the_best_match_alone_has_no_bandwidth() -> None:
    row = replace(SETTINGS_9, weights="best").row("clip", 0, 1, "nls", scores(30.0))
    assert (row.weights, row.bandwidth) == ("best", None)
    row = replace(SETTINGS_9, weights="best", k=1).row("clip", 0, 1, "nls", scores(30.0))
    assert (row.weights, row.bandwidth) == (None, None)


def test_a_pixel_alone_has_no_patch_weights() -> None:
    row = replace(SETTINGS_9, aggregate="pixel").row("clip", 0, 1, "nls", scores(30.0))
    assert (row.patch_weights, row.sampling) == (None, "bicubic")


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="one of none, flow, nls, shifted-nls"):
        Row("clip", 0, 1, "nearest")
    with pytest.raises(ValueError, match="one of none"):
        SETTINGS_9.row("clip", 0, 1, "nearest", {})


def test_csv_is_tidy(tmp_path: Path) -> None:
    identical = SETTINGS_9.row("a, b", 0, -1, "none", {"psnr": math.inf, "ssim": None})
    write_reports(tmp_path, make_report([identical, *make_report().rows]))
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == 1 + 6 * 4
    assert lines[0]["clip"] == "a, b"
    assert lines[0]["psnr"] == "inf"
    assert lines[0]["ssim"] == lines[0]["ws"] == lines[0]["out_of_frame"] == ""
    assert lines[4]["method"] == "shifted-nls"
    assert lines[4]["dt"] == "1"
    assert (lines[4]["stride1"], lines[4]["sigma"], lines[4]["seed"]) == ("0.5", "15", "0")
    assert float(lines[4]["out_of_frame"]) == 0.125


def test_json_is_strict_and_read_back_equal(tmp_path: Path) -> None:
    row = SETTINGS_9.row("a, b", 1, 1, "flow", {"psnr": math.inf, "ssim": math.nan, "mae": 0.0})
    report = make_report([row, *make_report().rows])
    write_reports(tmp_path, report)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=refuse)
    assert document["rows"][0]["psnr"] == "inf"
    assert document["rows"][0]["ssim"] is None
    assert document["schema_version"] == 1
    assert document["tool"].keys() >= {"stnls", "python", "torch", "av", "opencv"}
    assert document["tool"]["torch"] is not None
    assert document["parameters"]["flow"]["parameters"] == {"lambda": 0.15}
    assert document["input"]["notes"] == ["rotated by 90 degrees"]

    again = read_report(tmp_path)
    assert again.rows[0].psnr == math.inf
    assert again == report
    assert again.to_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.csv", "report.json"]


def test_summary_means() -> None:
    rows = [
        SETTINGS_9.row("c", 0, 1, "none", {"psnr": 20.0, "mae": 4.0}),
        SETTINGS_9.row("c", 1, -1, "none", {"psnr": math.inf, "mae": 0.0}),
        SETTINGS_9.row("c", 0, 1, "flow", {"psnr": 33.0, "out_of_frame": 0.5}),
    ]
    summary = make_report(rows).to_json()["summary"]
    nothing = {"ssim": None, "out_of_frame": None}
    assert summary["by_method"] == [
        {"method": "none", "rows": 2, "psnr": 60.0, "mae": 2.0, **nothing},
        {"method": "flow", "rows": 1, "psnr": 33.0, "ssim": None, "mae": None, "out_of_frame": 0.5},
    ]
    assert [(s["method"], s["dt"], s["psnr"]) for s in summary["by_method_and_dt"]] == [
        ("none", -1, 100.0),
        ("none", 1, 20.0),
        ("flow", 1, 33.0),
    ]


def test_table_fits_80_columns_without_colour() -> None:
    text = render(make_report())
    codes = set(re.findall(r"\x1b\[([\d;]*)m", text))
    assert codes <= {"0", "1", "2", "3", "2;3"}  # bold, dim and italics, but no colours
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for word in ("none", "flow", "nls", "shifted-nls", "PSNR (dB)", "+1", "-2", "SSIM", "a, b"):
        assert word in text
    # The scores of t are t dB higher, and t 0, 1, 2 have two neighbours each: the mean adds 1.
    means = next(line for line in lines if "all" in line and "PSNR" in line)
    assert means.split()[-4:] == ["31.00", "32.00", "33.00", "34.00"]


def test_table_shows_what_was_measured() -> None:
    rows = [SETTINGS_9.row("c", 0, 1, "none", {"mae": 4.0})]
    text = render(make_report(rows, metrics=("mae",)))
    assert "MAE" in text
    assert "PSNR" not in text
    assert "4.00" in text


def test_table_says_when_identical_frames_count_as_100() -> None:
    rows = [SETTINGS_9.row("c", 0, 1, "none", {"psnr": math.inf})]
    text = render(make_report(rows))
    assert "100.00" in text
    assert "identical frames count as 100 dB (1 of 1 rows)" in text


def test_table_of_a_single_frame() -> None:
    text = render(make_report([]))
    assert "no pair of frames to compare" in text


def test_clip_names_are_not_read_as_markup() -> None:
    report = make_report()
    object.__setattr__(report, "input", InputRecord(**{**vars(INPUT), "clip": "a[/b]"}))
    assert "a[/b]" in render(report)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "not a report"),
        ("{}", "not a report"),
        ('{"schema": "stnls-report", "schema_version": 99}', "schema version 99"),
        ('{"schema": "stnls-report", "schema_version": 1}', "incomplete"),
    ],
)
def test_files_that_are_no_report(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        read_report(path)
    assert str(path) in str(caught.value)
    assert is_report(path) == ("stnls-report" in text)


def test_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent: No such file"):
        read_report(tmp_path / "absent")
    assert not is_report(tmp_path / "absent")


def test_no_right_to_write_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*report\.csv: No such file"):
        write_reports(tmp_path / "absent", make_report())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_anything_becomes_strict_json(value: object) -> None:
    text = json.dumps(plain(value), allow_nan=False)
    text.encode("utf-8")
    assert plain(json.loads(text)) == plain(value)


def test_scalars_of_other_libraries() -> None:
    assert plain((np.float32(0.5), np.int64(3), np.bool_(True), Path("a"), Fraction(1, 2))) == [
        0.5,
        3,
        True,
        "a",
        "1/2",
    ]
    assert plain({"x": {2, 1}, "y": -math.inf}) == {"x": [1, 2], "y": "-inf"}
    with pytest.raises(TypeError, match="no place in a report"):
        plain(object())


def test_input_record_of_a_clip() -> None:
    from stnls_cli.video.info import ClipInfo

    info = ClipInfo(
        path=Path("clips/c.mp4"),
        stem="c",
        width=48,
        height=64,
        source_width=64,
        source_height=48,
        rate=Fraction(30000, 1001),
        stream=1,
        frames_expected=None,
        pixel_format="yuv420p",
        bit_depth=8,
        notes=("alpha dropped",),
    )
    record = InputRecord.of_clip(info, "sha256:ab", frames=7, damage=["frame 3 concealed"])
    assert (record.path, record.clip, record.frames, record.rate) == (
        "clips/c.mp4",
        "c",
        7,
        "30000/1001",
    )
    assert (record.width, record.source_width, record.stream) == (48, 64, 1)
    assert (record.notes, record.damage) == (("alpha dropped",), ("frame 3 concealed",))


def test_every_field_is_documented(root: Path) -> None:
    page = (root / "docs" / "report.md").read_text(encoding="utf-8")
    document = make_report().to_json()
    names = [*COLUMNS, *METHODS, *document["tool"]]
    names += [name for name in document if name not in ("input", "summary")]
    names += [f"input.{name}" for name in document["input"]]
    names += [f"summary.{name}" for name in document["summary"]]
    assert [name for name in names if f"`{name}`" not in page] == []
