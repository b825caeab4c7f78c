"""`stnls compare`: whole runs, resumed and refused ones, gates, earlier runs."""

from __future__ import annotations

import csv
import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import refused

import stnls_cli.code_digest
from stnls_cli.code_digest import computed_by
from stnls_cli.compare import job as compare_job
from stnls_cli.compare.flow_cache import FlowCache
from stnls_cli.flow import FlowSource, open_flow_source, write_flow_npz
from stnls_cli.report import COLUMNS
from stnls_cli.video import write_image

GRID = (
    "--flow=farneback,zero", "--ws=3,5", "--ps=3", "--sigma=0,9", "--wt=1",
    "--metrics=psnr,mae,at_edge",
)  # fmt: skip


@pytest.fixture
def clips(tmp_path: Path, textured: Any) -> list[Path]:
    """Three folders of four frames."""
    folders = [tmp_path / "clips" / name for name in ("a", "b", "c")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for t, frame in enumerate(textured(4, 40, 48 + 8 * number)):
            write_image(folder / f"{t}.png", frame)
    return folders


def results(folder: Path) -> dict[str, Any]:
    """comparison.json without what differs from run to run."""
    document = json.loads((folder / "comparison.json").read_text())
    for name in ("date", "seconds", "timings", "cells"):
        document.pop(name)
    return document


def test_a_grid_over_three_clips(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    ended = cli("compare", tmp_path / "clips", *GRID, "-o", "out", "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert document["schema"] == "stnls-comparison"
    # none; flow: 2 flows x 2 sigmas; nls: 2 x 2; shifted-nls: 2 x 2 x 2.
    assert len(document["settings"]) == 1 + 4 + 4 + 8
    assert [clip["clip"] for clip in document["clips"]] == ["a", "b", "c"]
    for setting in document["settings"]:
        assert [cell["clip"] for cell in setting["cells"]] == ["a", "b", "c"]
        for cell in setting["cells"]:
            assert cell["pairs"] == [[0, 1], [1, -1], [1, 1], [2, -1], [2, 1], [3, -1]]
            finite = [min(float(value), 100.0) for value in cell["scores"]["psnr"]]
            assert cell["mean"]["psnr"] == pytest.approx(np.mean(finite))
        means = [cell["mean"]["psnr"] for cell in setting["cells"]]
        assert setting["summary"]["psnr"]["mean"] == pytest.approx(np.mean(means))
    # Six flows (three steps, there and back) of each clip and noise; none is worth keeping at zero.
    assert document["flows"]["farneback"] == {
        "computed": 36, "read": 0, "ever_computed": 36, "different": 36,
    }  # fmt: skip
    with (tmp_path / "out/comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 17 * 3 * 6
    # The flow is exact but for the texture's border; a search without flow and with a window of 3
    # cannot reach two pixels.
    by_name = {s["label"]: s["summary"] for s in document["settings"]}
    assert by_name["nls, sigma 0, ws 3, ps 3"]["at_edge"]["mean"] > 0.3
    assert by_name["nls, sigma 0, ws 5, ps 3"]["psnr"]["mean"] > (
        by_name["nls, sigma 0, ws 3, ps 3"]["psnr"]["mean"] + 1
    )
    words = ended.err
    assert "report: out/report.html" in words
    assert "flow farneback: 36 computed, 0 from the cache" in words
    assert (tmp_path / "out/comparison.md").read_text().count("\n| shifted-nls |") == 8


def test_the_same_again_and_a_wider_grid(
    cli: Any, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = [option for option in GRID if not option.startswith("--ws")]
    assert cli("compare", clips[0], *narrow, "--ws=3", "-o", "out", "-q").code == 0
    first = results(tmp_path / "out")
    computed: list[str] = []
    real = compare_job.run_pass

    def counted(clip: Any, source: Any, sigma: float, cells: list[Any], context: Any) -> int:
        computed.extend(cell.setting.name for cell in cells)
        return real(clip, source, sigma, cells, context)

    monkeypatch.setattr(compare_job, "run_pass", counted)
    assert cli("compare", clips[0], *narrow, "--ws=3", "-o", "out", "-q").code == 0
    assert computed == []
    again = results(tmp_path / "out")
    assert again["flows"]["farneback"]["computed"] == 0
    first.pop("flows"), again.pop("flows")
    assert again == first
    assert cli("compare", clips[0], *narrow, "--ws=3,5", "-o", "out", "-q").code == 0
    assert computed
    assert all("ws=5" in name for name in computed)
    wide = results(tmp_path / "out")
    assert wide["flows"]["farneback"]["ever_computed"] == 12
    assert cli("compare", clips[0], *narrow, "--ws=3,5", "-o", "whole", "-q").code == 0
    whole = results(tmp_path / "whole")
    wide.pop("flows"), whole.pop("flows")
    assert wide == whole


QUICK = ("--flow=farneback", "--ws=3", "--ps=3", "--metrics=psnr", "-q")


def test_the_default_folder_below_the_input(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    """Pictures and heat maps of the first run are no clips of the second."""
    for _ in range(2):
        ended = cli("compare", ".", *QUICK)
        assert ended.code == 0, ended.err
        found = results(tmp_path / "comparison.stnls")
        assert [clip["clip"] for clip in found["clips"]] == ["a", "b", "c"]
    assert list((tmp_path / "comparison.stnls/pictures").glob("*/*.jpg"))
    refused(cli("compare", "comparison.stnls", *QUICK), "is a comparison of stnls, not a clip")


def test_cells_of_other_code_are_computed_again(
    cli: Any, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    real = compare_job.run_pass

    def counted(clip: Any, source: Any, sigma: float, cells: list[Any], context: Any) -> int:
        computed.extend(cell.setting.name for cell in cells)
        return real(clip, source, sigma, cells, context)

    monkeypatch.setattr(compare_job, "run_pass", counted)
    versions = computed_by()
    assert versions["library"] != versions["tool"]
    assert versions["torch"]
    for name, value in ((None, None), ("tool", "0123"), ("library", "4567"), ("torch", "9.9")):
        monkeypatch.setattr(
            compare_job, "computed_by", lambda n=name, v=value: {**versions, n or "": v}
        )
        computed.clear()
        assert cli("compare", clips[0], *QUICK, "-o", "out").code == 0
        assert len(computed) == 4
        computed.clear()
        assert cli("compare", clips[0], *QUICK, "-o", "out").code == 0
        assert computed == []


def test_a_baseline_that_was_measured_otherwise(
    cli: Any, clips: list[Path], tmp_path: Path
) -> None:
    """What the baseline has and the comparison has not fails the gate."""
    assert cli("compare", *clips[:2], *QUICK, "-o", "out").code == 0
    (tmp_path / "base.json").write_text((tmp_path / "out/comparison.json").read_text())
    gate = ("--baseline=base.json", "--fail-drop=0.1", "-o", "out")
    same = cli("compare", *clips, *[o for o in QUICK if o != "-q"], *gate)
    assert same.code == 0
    assert "8 of 8 cells of the baseline compared" in same.err
    for inputs, more, words, count in (
        (clips[:2], ("--ws=5",), "nls, sigma 0, ws 3, ps 3 is not in the grid (2 cells)", 4),
        (
            clips[:2],
            ("--prior=0.5",),
            "nls, sigma 0, ws 3, ps 3 had prior 0.02, now 0.5 (2 cells)",
            4,
        ),
        (clips[:1], (), "clip b is not among the clips (4 cells)", 4),
        (clips[:2], ("--frames=3",), "clip a had 6 pairs of frames, now other 4 (4 cells)", 0),
        (clips[2:], (), "clip a is not among the clips (4 cells)", 0),
    ):
        ended = cli("compare", *inputs, *QUICK, *gate, *more)
        assert ended.code == 1
        assert f"base.json: not compared: {words}" in ended.err.replace("shifted-nls", "nls")
        assert f"{count} of 8 cells of the baseline compared" in ended.lines[-1]


def test_joined_runs(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    """Runs on clips of one name are told apart; runs alike but for the clip have one mean."""
    align = ("--flow=farneback", "--ps=3", "--wt=1", "--metrics=psnr", "--save=none", "-q")
    for n, clip in enumerate(clips[:2]):
        (tmp_path / f"{n}").mkdir()
        clip.rename(tmp_path / f"{n}/x")
        for ws in (3, 5):
            run = cli("align", f"{n}/x", *align, f"--ws={ws}", "-o", f"runs/{n}ws{ws}")
            assert run.code == 0, run.err
    gate = ("--baseline=base.json", "--fail-drop=0.1")
    assert cli("compare", "runs", "--metrics=psnr", "-o", "out").code == 0
    found = results(tmp_path / "out")
    assert {clip["clip"] for clip in found["clips"]} == {"0-x", "1-x"}
    settings = {
        (s["parameters"]["method"], s["parameters"].get("ws")): s for s in found["settings"]
    }
    # What does not depend on ws was measured twice, and counts once.
    assert len(settings) == len(found["settings"]) == 6
    for setting in settings.values():
        assert [cell["clip"] for cell in setting["cells"]] == ["0-x", "1-x"]
    search, flow = settings["shifted-nls", 5], settings["flow", None]
    assert search["source"] == "runs/0ws5 and 1 more"
    assert search["gain"] == pytest.approx(
        search["summary"]["psnr"]["mean"] - flow["summary"]["psnr"]["mean"]
    )
    page = (tmp_path / "out/report.html").read_text()
    assert 'id="windows"' in page
    assert 'id="time"' in page
    worst = json.loads((tmp_path / "out/pictures/pairs.json").read_text())["worst"]
    told = json.loads((tmp_path / f"out/pictures/{worst}/pair.json").read_text())
    searches = [s for (method, _), s in settings.items() if method == "shifted-nls"]
    best = max(searches, key=lambda setting: setting["summary"]["psnr"]["mean"])
    lowest = min(value for cell in best["cells"] for value in cell["scores"]["psnr"])
    assert told["psnr"]["shifted-nls"] == pytest.approx(lowest)
    assert told["clip"] in ("0-x", "1-x")
    assert 'id="worst"' in page
    (tmp_path / "base.json").write_text((tmp_path / "out/comparison.json").read_text())
    assert cli("compare", "runs", "--metrics=psnr", "-q", *gate, "-o", "out").code == 0


def test_a_digest_changes_with_the_code(tmp_path: Path) -> None:
    module = tmp_path / "a.py"
    module.write_text("x = 1")
    before = stnls_cli.code_digest._digest([module])
    assert stnls_cli.code_digest._digest([module]) == before
    module.write_text("x = 2")
    assert stnls_cli.code_digest._digest([module]) != before
    names = {path.name for path in stnls_cli.code_digest._modules(Path(stnls_cli.__file__).parent)}
    assert {"matching.py", "clip_pass.py"} <= names


def test_a_clip_with_another_name_finds_its_cells(
    cli: Any, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("compare", clips[0], *QUICK, "-o", "out").code == 0
    other = tmp_path / "more/a"
    other.mkdir(parents=True)
    for path in clips[1].iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    computed: list[str] = []
    real = compare_job.run_pass

    def counted(clip: Any, source: Any, sigma: float, cells: list[Any], context: Any) -> int:
        computed.append(context.name)
        return real(clip, source, sigma, cells, context)

    monkeypatch.setattr(compare_job, "run_pass", counted)
    assert cli("compare", clips[0], other, *QUICK, "-o", "out").code == 0
    assert [clip["clip"] for clip in results(tmp_path / "out")["clips"]] == ["clips-a", "more-a"]
    assert set(computed) == {"more-a"}


def test_pairs_of_a_protocol_are_estimated(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    """At the ends of a clip its neighbours are farther ones, and as many as elsewhere."""
    protocol = ("--protocol=paper-script", "--ws=1", "--frames=4", "-o", "out")
    plan = json.loads(cli("compare", clips[0], *protocol, "--dry-run", "--json").out)
    assert cli("compare", clips[0], *protocol, "-q").code == 0
    (pairs,) = {
        len(cell["pairs"])
        for setting in results(tmp_path / "out")["settings"]
        for cell in setting["cells"]
    }
    assert {cell["pairs"] for cell in plan["cells"]} == {pairs} == {8}


def test_killed_in_the_middle_and_resumed(
    cli: Any, clips: list[Path], tmp_path: Path, start: Callable[..., Any]
) -> None:
    """Slowed down, so that the kill comes when some cells are done and others are not."""
    slow = (
        "import time\nfrom stnls_cli.compare import clip_pass as c\n"
        "real = c.Cell.record\n"
        "def record(self, t, rows):\n"
        "    real(self, t, rows); time.sleep(0.02)\n"
        "c.Cell.record = record"
    )
    arguments = ("compare", *clips, *GRID, "-q", "-o")
    process = start(*arguments, "out", before=slow)
    cells = tmp_path / "out/cells"
    for _ in range(1200):
        if len(list(cells.glob("*/*.json"))) > 18 or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(cells.glob("*/*.json")))
    assert 0 < done < 51
    assert not (tmp_path / "out/comparison.json").exists()
    assert cli(*arguments, "out").code == 0
    assert cli(*arguments, "whole").code == 0
    resumed, whole = results(tmp_path / "out"), results(tmp_path / "whole")
    flows = resumed.pop("flows")["farneback"], whole.pop("flows")["farneback"]
    assert resumed == whole
    assert flows[0]["ever_computed"] == flows[0]["different"] == flows[1]["different"] == 36
    one, other = ((tmp_path / name / "comparison.csv").read_bytes() for name in ("out", "whole"))
    assert one == other


def test_gates(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    grid = ("--flow=farneback", "--ws=3", "--ps=3", "--metrics=psnr", "-q", "-o", "out")
    assert cli("compare", *clips[:2], *grid).code == 0
    worst = min(
        cell["mean"]["psnr"]
        for setting in results(tmp_path / "out")["settings"]
        if setting["parameters"]["method"] == "shifted-nls"
        for cell in setting["cells"]
    )
    assert cli("compare", *clips[:2], *grid, f"--fail-below={worst - 0.01}").code == 0
    failed = cli("compare", *clips[:2], *grid, f"--fail-below={worst + 0.01}")
    assert failed.code == 1
    assert len(failed.lines) == 1
    assert "of shifted-nls farneback, sigma 0, ws 3, ps 3 is below" in failed.lines[0]
    assert "worst frames" in failed.lines[0]
    baseline = tmp_path / "baseline.json"
    baseline.write_text((tmp_path / "out/comparison.json").read_text())
    compared = ("--baseline=baseline.json", "--fail-drop=0.1")
    assert cli("compare", *clips[:2], *grid, *compared).code == 0
    better = json.loads(baseline.read_text())
    for setting in better["settings"]:
        for cell in setting["cells"]:
            scores = cell["scores"]["psnr"]
            cell["scores"]["psnr"] = [min(float(score), 100.0) + 0.2 for score in scores]
    baseline.write_text(json.dumps(better))
    dropped = cli("compare", *clips[:2], *grid, *compared)
    assert dropped.code == 1
    assert "0.20 dB below that of baseline.json" in dropped.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], "missing.mp4: no such file or folder"),
        (["clips/a", "--method=best"], "--method: unknown 'best'"),
        (["clips/a", "--methods=best"], "--method: unknown 'best'"),
        (["clips/a", "--methods=nls", "--method=nls"], "are one option: give it once"),
        (["clips/a", "--fail-drop=0.1"], "--baseline and --fail-drop belong together"),
        (["clips/a", "--fail-below=3", "--metrics=ssim"], "need psnr among --metrics"),
        (["clips/a", "--fail-below=3", "--method=flow"], "needs shifted-nls among --method"),
        (["clips/a", "--baseline=no.json", "--fail-drop=1"], "cannot read no.json"),
        (["clips/a", "-o", "clips"], "clips holds files that are no comparison"),
        (["clips/a", "-o", "clips/a/0.png"], "clips/a/0.png is a file, not a folder"),
        (["clips/a", "--truth=nowhere", "--flow=zero"], "nowhere: no such folder of true flows"),
        (["clips/a", "--margin=20", "--flow=zero"], "nothing inside a margin of 20 pixels"),
        (["clips/a", "--ps=41", "--flow=zero"], "smaller than the patch (--ps 41)"),
        (["clips/a/0.png", "clips/a/1.png"], "give the folder that holds the frames"),
    ],
)
def test_refused_in_one_line(
    cli: Any, clips: list[Path], arguments: list[str], message: str, tmp_path: Path
) -> None:
    refused(cli("compare", *arguments, "-q"), message)
    left = {path.name for path in tmp_path.iterdir()} - {"clips", "comparison.stnls"}
    assert not left


def test_one_bad_clip_does_not_keep_the_others(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    (clips[1] / "1.png").write_bytes(b"no picture")
    quick = ("--flow=zero", "--ws=3", "--ps=3", "--metrics=psnr", "-q", "-o", "out")
    ended = cli("compare", *clips, *quick)
    assert ended.code == 1
    assert ended.lines[-1] == "stnls: 1 of 3 inputs failed"
    assert [clip["clip"] for clip in results(tmp_path / "out")["clips"]] == ["a", "c"]
    assert "1.png" in results(tmp_path / "out")["failed"][str(clips[1])]
    refused(cli("compare", clips[1], *quick), "1.png")


def test_an_earlier_run_is_joined_in(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    quick = ("--flow=farneback", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr")
    assert cli("align", clips[0], *quick, "-q", "-o", "run").code == 0
    assert cli("compare", "run", clips[0], *quick, "-q", "-o", "out").code == 0
    found = results(tmp_path / "out")["settings"]
    own = {s["label"]: s["summary"] for s in found if s["source"] is None}
    joined = {s["label"]: s["summary"] for s in found if s["source"] == "run"}
    assert {f"{label}, from run" for label in own} == set(joined)
    for label, summary in own.items():
        # The same search on the same frames, by two jobs.
        assert joined[f"{label}, from run"]["psnr"]["mean"] == pytest.approx(
            summary["psnr"]["mean"], abs=1e-6
        )


def test_pairs_of_joined_runs_are_all_counted(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    """Runs with different noise share no setting: each has a clip of its own."""
    quick = ("--flow=farneback", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr", "-q")
    assert cli("align", clips[0], *quick, "-o", "a").code == 0
    assert cli("align", clips[1], *quick, "--frames=3", "--sigma=5", "-o", "b").code == 0
    ended = cli("compare", "a", "b", "--metrics=psnr", "-o", "out")
    assert ended.code == 0, ended.err
    assert "2 clips, 10 pairs" in ended.err


def test_threads_count_where_they_compute_flows(
    cli: Any, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("compare", clips[0], "--method=none,flow", "--flow=farneback", "--metrics=psnr_visible")

    def timings(folder: str) -> dict[str, float]:
        assert cli(*call, "-o", folder, "-q").code == 0
        found: dict[str, float] = json.loads((tmp_path / folder / "comparison.json").read_text())
        return found["timings"]

    assert timings("computed")["flow_cpu"] > 0
    still = [np.zeros((40, 48, 2), np.float32)] * 4
    write_flow_npz(tmp_path / "flow.npz", still, still, (4, 40, 48))

    def read(cache: FlowCache, name: str, threads: int) -> FlowSource:
        return open_flow_source(tmp_path / "flow.npz", height=40, width=48)

    monkeypatch.setattr(FlowCache, "source", read)
    stages = timings("read").keys()
    assert stages >= {"masks", "warp"}
    assert "flow_cpu" not in stages


def test_dry_run_computes_nothing(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    ended = cli("compare", *clips, *GRID, "-o", "out", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    assert not (tmp_path / "out").exists()
    plan = json.loads(ended.out)
    assert len(plan["cells"]) == 51
    assert plan["flows"]["farneback"]["flows"] == 36
    assert plan["seconds"] > 0
    assert all(cell["pairs"] == 6 and not cell["finished"] for cell in plan["cells"])
    assert cli("compare", clips[0], *GRID, "-o", "out", "-q").code == 0
    plan = json.loads(cli("compare", *clips, *GRID, "-o", "out", "--dry-run", "--json").out)
    assert {cell["clip"] for cell in plan["cells"] if cell["finished"]} == {"a"}


def test_ground_truth_of_our_samples(cli: Any, tmp_path: Path) -> None:
    clip = Path(__file__).parents[2] / "sample_videos/rotation.mp4"
    grid = (
        "--flow=dis",
        "--frames=3",
        "--metrics=psnr,psnr_visible,visible,epe",
        "-q",
        "-o",
        "out",
    )
    assert cli("compare", clip, "--method=none,flow,shifted-nls", *grid).code == 0
    found = {s["parameters"]["method"]: s for s in results(tmp_path / "out")["settings"]}
    epe = {method: s["summary"]["epe"]["mean"] for method, s in found.items()}
    assert epe["flow"] < 0.15 < 3 < epe["none"]
    assert epe["shifted-nls"] < 0.6
    share = found["flow"]["summary"]["visible"]
    assert share == found["shifted-nls"]["summary"]["visible"]
    assert 0.9 < share["mean"] < 1
    assert math.isfinite(found["flow"]["summary"]["psnr_visible"]["mean"])


def test_protocols_run(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    for name in ("paper-text", "paper-script"):
        ended = cli(
            "compare", f"--protocol={name}", "--flow=farneback", clips[0], "--ws=1,3", "-o", name
        )
        assert ended.code == 0, ended.err
        assert "the paper: more than 3 dB over the flow" in ended.err
        found = results(tmp_path / name)
        assert found["protocol"] == name
        pairs = found["settings"][0]["cells"][0]["pairs"]
        # At the ends of the clip the second neighbour is two frames away.
        assert pairs == [[0, 1], [0, 2], [1, 1], [1, -1], [2, 1], [2, -1], [3, -1], [3, -2]]


def test_a_second_process_is_kept_out(
    cli: Any, clips: list[Path], tmp_path: Path, start: Callable[..., Any]
) -> None:
    waiting = (
        "import time\nfrom stnls_cli.compare import job as j\n"
        "j.run_pass = lambda *_: (print('in', flush=True), time.sleep(60))"
    )
    quick = ("--flow=zero", "--metrics=psnr", "-q", "-o", "out")
    process = start("compare", clips[0], *quick, before=waiting)
    assert process.stdout.readline() == "in\n"
    refused(cli("compare", clips[0], *quick), "is being written by process")
    process.kill()
    process.wait()


@pytest.mark.gpu
def test_both_devices_agree(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    metrics = "--metrics=psnr,ssim,mae,psnr_visible,at_edge"
    for device in ("cpu", "cuda"):
        grid = ("--flow=farneback", "--ws=3,5", "--ps=3", "--sigma=9", metrics, "-q")
        ended = cli("compare", clips[0], *grid, f"--device={device}", "-o", device)
        assert ended.code == 0, ended.err
    for one, other in zip(
        *(results(tmp_path / d)["settings"] for d in ("cpu", "cuda")), strict=True
    ):
        assert one["label"] == other["label"]
        for metric, tolerance in (("psnr", 0.02), ("ssim", 0.002), ("psnr_visible", 0.02)):
            assert other["summary"][metric]["mean"] == pytest.approx(
                one["summary"][metric]["mean"], abs=tolerance
            )
