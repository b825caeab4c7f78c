"""Options that have no meaning: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import refused

from stnls_cli import UserError, align
from stnls_cli.options import AlignOptions
from stnls_cli.report import read_report
from stnls_cli.video import write_image

QUICK = ["--flow=zero", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ws", "4"], "--ws must be odd, so that the window has a centre, not 4"),
        (["--ws", "0"], "--ws must be at least 1, not 0"),
        (["--ws", "-3"], "--ws must be at least 1, not -3"),
        (["--wt", "0"], "--wt must be at least 1, not 0"),
        (["--ps", "0"], "--ps must be at least 1, not 0"),
        (["--ps", "33"], "frames of 48x32 are smaller than the patch (--ps 33)"),
        (["-k", "0"], "-k must be at least 1, not 0"),
        (["-k", "10"], "-k 10 is more than the 9 positions of --ws 3"),
        (["--ws", "999999"], "--ws must be at most 4095 (2**24 candidates for each pixel), not 99"),
        (["--ws", "4097"], "--ws must be at most 4095"),
        (["--stride1", "0"], "--stride1 must lie between 0.001 and 10000, not 0"),
        (["--stride1", "nan"], "--stride1 must lie between 0.001 and 10000, not nan"),
        (["--stride1", "1e300"], "--stride1 must lie between 0.001 and 10000, not 1e+300"),
        (["--stride1", "1e-300"], "--stride1 must lie between 0.001 and 10000, not 1e-300"),
        (["--grid", "int", "--stride1", "0.5"], "--stride1 0.5 needs --grid float"),
        (["--grid", "cubic"], "--grid must be one of int, float, not 'cubic'"),
        (["--dist", "l1"], "--dist must be one of l2, prod, not 'l1'"),
        (["--weights", "mean"], "--weights must be one of best, softmax, not 'mean'"),
        (["--weights", "softmax"], "--weights softmax weighs several matches: give -k 2 or more"),
        (["--bandwidth", "0"], "--bandwidth must lie between 0.001 and 1e+06, not 0"),
        (["--bandwidth", "1e-300"], "--bandwidth must lie between 0.001 and 1e+06, not 1e-300"),
        (["--bandwidth", "1e300"], "--bandwidth must lie between 0.001 and 1e+06, not 1e+300"),
        (["--bandwidth", "inf"], "--bandwidth must lie between 0.001 and 1e+06, not inf"),
        (["--aggregate", "mean"], "--aggregate must be one of patch, pixel, not 'mean'"),
        (["--format", "jpg"], "--format must be one of png, png16, npy, not 'jpg'"),
        (["--save", "frames"], "--save: unknown 'frames'"),
        (["--save", ","], "--save names none; choose from aligned, flow, offsets, distance, video"),
        (["--save", "none,aligned"], "--save: none stands alone, for no files; leave it or"),
        (["--methods", "best"], "--methods: unknown 'best'"),
        (["--method", "best"], "--methods: unknown 'best'"),
        (["--method", "flow", "--methods", "nls"], "--method and --methods are one option"),
        (["--metrics", "vmaf"], "unknown metric 'vmaf'"),
        (["--start", "-1"], "--start must be at least 0, not -1"),
        (["--start", "6"], "--start 6 is beyond the end: the clip has 6 frames, counted from 0"),
        (["--start", "5"], "a single frame in the part asked for"),
        (["--frames", "0"], "--frames must be at least 1, not 0"),
        (["--frames", "1"], "a single frame in the part asked for"),
        (["--size", "big"], "--size must look like 640x360, not 'big'"),
        (["--size", "0x9"], "--size must be at least 1x1, not 0x9"),
        (["--size", "99999x99999"], "more pixels than FFmpeg makes frames of"),
        (["--stream", "3"], "stream 3 does not exist; video streams: 0 (ffv1 48x32)"),
        (["--sigma", "-1"], "--sigma must be 0 to 10000 grey levels; got -1"),
        (["--sigma", "inf"], "--sigma must be 0 to 10000 grey levels; got inf"),
        (["--sigma", "nan"], "--sigma must be 0 to 10000 grey levels; got nan"),
        (["--sigma", "1e39"], "--sigma must be 0 to 10000 grey levels; got 1e+39"),
        (["--seed", "-1"], "--seed must lie between 0 and 2**64 - 1; got -1"),
        (["--threads", "0"], "--threads must be at least 1, not 0"),
        (["--threads", "999999999"], "--threads must be at most 1024, not 999999999"),
        (["--flow", "tlv1"], "unknown flow 'tlv1' (did you mean tvl1?); use one of tvl1,"),
        (["--flow", ""], "unknown flow ''; use one of tvl1,"),
        (["--flow", "x" * 300], "unknown flow 'xxx"),
        (["-o", ""], "-o: the name is empty"),
        (["--flow", "no/flow"], "no such file or folder of flows: no/flow"),
        (["--device", "gpu"], "--device must be auto, cpu, cuda or cuda:N, not 'gpu'"),
        (["--ws", "abc"], "'--ws'"),
        (["--wss", "3"], "--wss"),
        (["--frames"], "--frames"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(cli: Any, clip: Path, tmp_path: Path, options: list[str], words: str) -> None:
    ended = cli("align", clip, *QUICK, *options)
    refused(ended, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["align"], "Missing argument 'INPUT'; see `stnls align --help`"),
        (["alig"], "No such command 'alig'"),
        (["--alig"], "No such option: --alig"),
    ],
)
def test_usage(cli: Any, arguments: list[str], words: str) -> None:
    refused(cli(*arguments), words)


def test_the_other_spelling_of_methods(cli: Any, clip: Path, tmp_path: Path) -> None:
    assert cli("align", clip, *QUICK, "--method=none,flow", "-q").code == 0
    assert read_report(tmp_path / "clip.stnls").methods == ("none", "flow")
    # It is the same run.
    assert cli("align", clip, *QUICK, "--methods=none,flow", "-q").code == 0
    both = align(
        clip, "clip.stnls", method="flow,none", flow="zero", ws=3, ps=3, wt=1, metrics="psnr"
    )
    assert both.methods == ("none", "flow")
    assert "--method " not in cli("align", "--help").out


def test_lists_and_sizes_from_python(clip: Path, tmp_path: Path) -> None:
    quick: dict[str, Any] = {"flow": "zero", "ws": 3, "ps": 3, "wt": 1}
    lists = {"methods": ["flow", "shifted-nls"], "metrics": ("mae",), "save": ["aligned", "flow"]}
    report = align(clip, tmp_path / "out", size=(24, np.int64(16)), **lists, **quick)
    assert (report.input.width, report.input.height) == (24, 16)
    assert (report.methods, report.metrics) == (("flow", "shifted-nls"), ("mae",))
    assert (tmp_path / "out/flow/forward/00000.flo").is_file()
    # The same as on the command line.
    text = {name: ",".join(value) for name, value in lists.items()}
    align(clip, tmp_path / "out", size="24x16", **text, **quick)
    align(clip, tmp_path / "none", save=[], **quick)
    assert not (tmp_path / "none/aligned").exists()
    for wrong, words in (
        ({"methods": ["flow", 3]}, "methods must be str or a list of str, not"),
        ({"size": (24,)}, r"size must be str \| None or \(width, height\), not"),
        ({"size": (24, 16.0)}, "size must be str"),
        ({"grid": ["int"]}, "grid must be str, not"),
    ):
        with pytest.raises(TypeError, match=words):
            align(clip, tmp_path / "other", **wrong, **quick)
    with pytest.raises(UserError, match="--methods names none"):
        align(clip, tmp_path / "other", methods=[], **quick)


def test_empty_and_long_names(cli: Any, clip: Path, tmp_path: Path) -> None:
    """An empty name is not the current folder, be it full of frames."""
    write_image(tmp_path / "0.png", np.zeros((32, 48, 3), np.uint8))
    write_image(tmp_path / "1.png", np.zeros((32, 48, 3), np.uint8))
    refused(cli("align", "", *QUICK), "INPUT: the name is empty")
    refused(cli("align", clip, "", *QUICK), "INPUT: the name is empty")
    with pytest.raises(UserError, match="INPUT: the name is empty"):
        align("")
    with pytest.raises(UserError, match="-o: the name is empty"):
        align(clip, "")
    refused(cli("align", "x" * 300, *QUICK), "no such file or folder")
    refused(cli("align", clip, *QUICK, "-o", "x" * 300), "cannot write xxx")
    refused(cli("align", clip, *QUICK, "-o", "x" * 300 + "/out"), "File name too long")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize(
    "options",
    [
        ["--stride1=0.001"],
        ["--stride1=10000", "--ws=5"],
        ["--stride1=10000", "--grid=int"],
        ["-k3", "--weights=softmax", "--bandwidth=0.001"],
        ["-k3", "--weights=softmax", "--bandwidth=1e6"],
        ["-k3", "--weights=softmax", "--bandwidth=0.001", "--dist=prod"],
    ],
    ids=" ".join,
)
def test_the_ends_of_the_ranges_work(
    cli: Any, clip: Path, tmp_path: Path, options: list[str]
) -> None:
    command = [*QUICK, "--sigma=5", *options, "--save=aligned,distance", "--format=npy"]
    assert cli("align", clip, *command, "-q").code == 0
    for path in (tmp_path / "clip.stnls/aligned").rglob("*.npy"):
        values = np.load(path)
        assert np.isfinite(values).all()
        assert values.max() < 256


@pytest.mark.parametrize("wt", ["30000000", "999999999999999999999"])
def test_a_window_longer_than_any_clip(cli: Any, clip: Path, tmp_path: Path, wt: str) -> None:
    """Only frames that exist are looped over: it takes no longer than the clip needs."""
    command = ["align", clip, *QUICK, "--frames=4", "--flow=farneback", "--save=video", "-q"]
    begun = time.monotonic()
    assert cli(*command, f"--wt={wt}").code == 0
    assert time.monotonic() - begun < 15
    rows = read_report(tmp_path / "clip.stnls").rows
    assert {row.dt for row in rows} == {-3, -2, -1, 1, 2, 3}
    assert len(list((tmp_path / "clip.stnls/video").iterdir())) == 6


def test_what_is_saved_for_several_matches() -> None:
    assert AlignOptions().saved() == {"aligned"}
    assert AlignOptions(k=4).saved() == {"aligned", "offsets", "distance"}
    # An explicit list is obeyed.
    assert AlignOptions(k=4, save="aligned").saved() == {"aligned"}
    (entry,) = [entry for entry in fields(AlignOptions) if entry.name == "save"]
    assert "aligned, with -k above 1 offsets and distance too" in entry.metadata["help"]
