"""Options that have no meaning: one line, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outcome import refused

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
        (["--stride1", "0"], "--stride1 must be above 0, not 0"),
        (["--stride1", "nan"], "--stride1 must be above 0, not nan"),
        (["--grid", "int", "--stride1", "0.5"], "--stride1 0.5 needs --grid float"),
        (["--grid", "cubic"], "--grid must be one of int, float, not 'cubic'"),
        (["--dist", "l1"], "--dist must be one of l2, prod, not 'l1'"),
        (["--weights", "mean"], "--weights must be one of best, softmax, not 'mean'"),
        (["--bandwidth", "0"], "--bandwidth must be above 0, not 0"),
        (["--aggregate", "mean"], "--aggregate must be one of patch, pixel, not 'mean'"),
        (["--format", "jpg"], "--format must be one of png, png16, npy, not 'jpg'"),
        (["--save", "frames"], "--save: unknown 'frames'"),
        (["--methods", "best"], "--methods: unknown 'best'"),
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
        (["--sigma", "-1"], "sigma must be a finite number of grey levels, 0 or more"),
        (["--sigma", "inf"], "sigma must be a finite number of grey levels, 0 or more"),
        (["--seed", "-1"], "the seed must lie between 0 and 2**64 - 1; got -1"),
        (["--threads", "0"], "--threads must be at least 1, not 0"),
        (["--flow", "tlv1"], "unknown flow 'tlv1' (did you mean tvl1?); use one of tvl1,"),
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
