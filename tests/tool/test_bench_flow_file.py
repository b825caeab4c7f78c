"""`stnls bench --flow-file`: rows on a clip's flow beside the named one."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_runs import QUICK, Cli, clip_flow, document
from outcome import refused

from stnls_cli.bench import job, presets
from stnls_cli.flow import write_flow_folder, write_flow_npz


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_flow_of_a_clip_beside_the_named_flow(cli: Cli, tmp_path: Path) -> None:
    name = clip_flow(tmp_path / "bikes.npz")
    only = ("--preset", "alignment-480p,readme-attention", "--backend", "stnls", "--repeat", "1")
    done = cli(*QUICK, *only, "--flow-file", tmp_path / name, "--json", "--csv", "rows.csv")
    assert done.code == 0, done.err
    found = document(done)
    assert all(row["status"] == "ok" and row["checked"] for row in found["rows"])
    pair, video = "PairedSearch T1 C3 16x24 ws9 ps7", "NonLocalSearch T3 C3 16x24 ws9 wt1 ps7"
    told = [(r["problem"], r["flow"]) for r in found["rows"] if r["preset"] == "alignment-480p"]
    assert told == [
        (f"{pair} K1 int forward", "edges"),
        (f"{pair} K1 int flow=file forward", "file"),
        (f"{pair} K1 int flow=zero forward", "zero"),
        (f"{pair} K10 int forward", "edges"),
        (f"{pair} K10 int flow=file forward", "file"),
        (f"{pair} K1 float step1 forward", "edges"),
        (f"{pair} K1 float step1 flow=file forward", "file"),
        (f"{pair} K1 float step0.5 forward", "edges"),
        (f"{pair} K1 float step0.5 flow=file forward", "file"),
        ("WeightedPatchSum T1 C3 16x24 ps7 K1 float forward", "edges"),
        (f"{pair} K10 stride4 int forward", "edges"),
        (f"{pair} K10 stride4 int flow=file forward", "file"),
        (f"{video} K1 int forward", "edges"),
        (f"{video} K1 int flow=file forward", "file"),
    ]
    assert {row["flow"] for row in found["rows"][len(told) :]} == {"edges"}
    assert found["settings"]["flow"] == "edges"
    settings = found["settings"]["flow_file"]
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert settings == {"name": name, "size": "24x16", "digest": f"sha256:{digest}"}
    assert str(tmp_path) not in done.out  # nothing of this machine's folders
    first = f"alignment-480p, float32, flow: edges; flow=file is that of {tmp_path / name}"
    assert first in done.lines
    assert "readme-attention, float32, flow: edges" in done.lines
    with (tmp_path / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["problem"], line["flow"]) for line in lines][: len(told)] == told


def test_a_plan_has_the_rows_of_a_clip(cli: Cli, tmp_path: Path) -> None:
    write = write_flow_folder(tmp_path / "bikes.flow")
    for t in (0, 1):
        flow = np.zeros((*presets.QUICK_ALIGNMENT, 2), np.float32)
        write("forward", t, flow)
        write("backward", t + 1, flow)
    only = ("--preset", "alignment-4k", "--device", "cuda", "--flow", "smooth")
    plan = (*QUICK, "--dry-run", *only, "--json", "--flow-file", "bikes.flow")
    found = document(cli(*plan))
    assert [row["flow"] for row in found["rows"]] == ["smooth", "file", "smooth", "file"]
    assert found["settings"]["flow_file"]["name"] == "bikes.flow"


def test_searches_get_the_flow_of_the_clip(tmp_path: Path) -> None:
    from stnls_cli.bench.flow_file import open_flow_file
    from stnls_cli.bench.inputs import InputMaker

    clip_flow(tmp_path / "bikes.npz", frames=5)
    file = open_flow_file(str(tmp_path / "bikes.npz"))
    maker = InputMaker(torch.device("cpu"), torch.float32, "edges", file)
    pair, video = presets.problems("alignment-4k", cuda=True, quick=True)
    for problem in (pair, replace(video, frames=5, wt=2)):
        named, own = file.beside([problem])
        flows = maker.make(own)[2]
        assert flows.shape == maker.make(named)[2].shape
        assert not torch.equal(flows, maker.make(named)[2])
        if problem.paired:
            assert torch.equal(flows, torch.full_like(flows, 1.5))
        else:  # (1, T, S, 2, H, W): composed along the clip
            middle = flows[0, 2, :, :, 8, 12]
            assert middle.sort(0).values.tolist() == [[x, x] for x in (-3.0, -1.5, 1.5, 3.0)]


@pytest.mark.parametrize("plan", [[], ["--dry-run"]])
def test_flow_of_a_clip_that_no_problem_can_have(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: list[str]
) -> None:
    monkeypatch.setattr(job, "measure_ceilings", None)  # it ends before anything is timed
    small, large = clip_flow(tmp_path / "small.npz", size=(8, 24)), "large.npz"
    clip_flow(tmp_path / large, size=(480, 854))
    begin = ("bench", "--device", "cpu", *plan, "--flow-file", small, "--preset")
    refused(
        cli(*begin, "alignment-4k,alignment-1080p,readme-attention"),
        "--flow-file: the flow of small.npz is 24x8, the frames to search are 1920x1080, "
        "3840x2160: `stnls flow CLIP --size 1920x1080` makes one",
    )
    refused(
        cli(*QUICK, *plan, "--flow-file", large),
        "the flow of large.npz is 854x480, the frames to search are 24x16: leave out --quick",
    )
    refused(cli(*begin, "attention-256,neighbourhood"), "there are none here: name an alignment")
    short = clip_flow(tmp_path / "short.npz", frames=2)
    refused(
        cli(*QUICK, *plan, "--flow-file", short, "--preset", "alignment-480p"),
        "short.npz, backward: no flow for frame 2; it has 2: NonLocalSearch T3 C3 16x24 ws9 wt1 "
        "ps7 K1 int forward needs 3 frames",
    )


def test_two_frames_are_enough_for_a_pair(cli: Cli, tmp_path: Path) -> None:
    short = clip_flow(tmp_path / "short.npz", frames=2)
    only = ("--preset", "alignment-4k", "--backend", "stnls", "--repeat", "1", "--json")
    done = cli(*QUICK, *only, "--flow-file", short)
    assert done.code == 0, done.err
    assert [row["flow"] for row in document(done)["rows"]] == ["edges", "file"]


def test_sweeps_keep_the_named_flow(cli: Cli, tmp_path: Path) -> None:
    name = clip_flow(tmp_path / "bikes.npz")
    only = ("--preset", "alignment-4k", "--backend", "stnls", "--repeat", "1", "--json")
    done = cli(*QUICK, *only, "--sweep", "--flow-file", name)
    assert done.code == 0, done.err
    found = document(done)
    assert [row["flow"] for row in found["rows"]] == ["edges", "file"]
    assert len(found["sweeps"]) == 12
    assert "sweeps, float32, flow: edges" in done.lines


def test_flow_files_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "damaged.npz").write_bytes(b"PK and no more")
    np.savez(tmp_path / "keys.npz", flow=np.zeros((3, 16, 24, 2), np.float32))
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("damaged.npz", "damaged.npz: not an .npz file, or a damaged one"),
        ("keys.npz", "keys.npz: unknown key 'flow'"),
        ("empty", "empty: no folder 'forward' in it"),
    ):
        refused(cli(*QUICK, "--preset", "alignment-4k", "--flow-file", name), words)

    height, width = presets.QUICK_ALIGNMENT
    flow = [np.full((height, width, 2), np.nan, np.float32)] * 3
    write_flow_npz(tmp_path / "unknown.npz", flow, flow, (3, height, width))
    for plan in ([], ["--dry-run"]):
        refused(
            cli(*QUICK, *plan, "--preset", "alignment-4k", "--flow-file", "unknown.npz"),
            f"--flow-file: unknown.npz, forward, frame 0: {height * width} pixels of unknown or "
            "non-finite flow",
        )
