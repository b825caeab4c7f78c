"""`stnls flow`: the flows of a clip as files and pictures."""

from __future__ import annotations

import json
import math
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from outcome import refused

from stnls_cli import compute_flow
from stnls_cli.colour_wheel import wheel_disc
from stnls_cli.flow import FLOW_METHODS, luma8, open_flow_files, read_flo, write_flow_npz
from stnls_cli.flow_run.document import read_flow_document
from stnls_cli.flow_run.options import flow_options
from stnls_cli.plan import Plan
from stnls_cli.video import read_image, write_image


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_every_flow_of_a_clip(cli: Any, clip: Path, textured: Any, tmp_path: Path) -> None:
    ended = cli("flow", clip, "--flow=dis", "--json")
    assert ended.code == 0
    folder = tmp_path / "clip.flow"
    forward = [f"forward/{t:05d}.flo" for t in range(5)]
    backward = [f"backward/{t:05d}.flo" for t in range(1, 6)]
    pictures = [f"pictures/{Path(name).with_suffix('.png')}" for name in (*forward, *backward)]
    assert files(folder) == sorted(
        [*forward, *backward, *pictures, "pictures/wheel.png", "flow.json", "run.json"]
    )
    greys = [luma8(frame) for frame in textured(6, 32, 48)]
    for t in range(5):
        expected = FLOW_METHODS["dis"].compute(greys[t], greys[t + 1])
        np.testing.assert_array_equal(read_flo(folder / forward[t]), expected)
        expected = FLOW_METHODS["dis"].compute(greys[t + 1], greys[t])
        np.testing.assert_array_equal(read_flo(folder / backward[t]), expected)

    document = json.loads(ended.out)
    assert document == json.loads((folder / "flow.json").read_text(encoding="utf-8"))
    assert document["parameters"]["flow"]["name"] == "dis"
    assert [(flow["t"], flow["direction"]) for flow in document["flows"][:3]] == [
        (0, "forward"),
        (1, "forward"),
        (1, "backward"),
    ]
    record = document["flows"][2]
    length = np.hypot(*np.moveaxis(read_flo(folder / backward[0]).astype(float), -1, 0))
    assert record["mean"] == pytest.approx(length.mean())
    assert record["most"] == pytest.approx(length.max())
    assert (length <= record["p99"] + 1e-9).mean() >= 0.99
    assert (length < record["p99"] - 1e-9).mean() <= 0.99
    assert "backward" in ended.err
    most = max(flow["p99"] for flow in document["flows"] if flow["direction"] == "backward")
    (row,) = [line.split() for line in ended.lines if line.split()[:1] == ["backward"]]
    assert row[3] == f"{most:.2f}"
    assert "flows: clip.flow" in ended.err


def test_the_bars(cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each stage, which ends at its total."""
    from stnls_cli.progress import ConsoleListener

    ended: list[dict[str, tuple[float, float | None]]] = []
    leave = ConsoleListener.__exit__

    def seen(listener: ConsoleListener, *how: Any) -> None:
        assert listener._progress is not None
        tasks = listener._progress.tasks
        ended.append({task.description: (task.completed, task.total) for task in tasks})
        leave(listener, *how)

    monkeypatch.setattr(ConsoleListener, "__exit__", seen)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal
    assert cli("flow", clip, "--flow=dis", "--no-pictures").code == 0
    assert cli("align", clip, "--flow=dis", "--wt=1", "--ws=3", "--metrics=psnr").code == 0
    assert ended == [
        {"decode": (6, 6), "flow": (6, 6)},
        {"decode": (6, 6), "flow": (10, 10), "align": (6, 6)},
    ]


def test_the_figure_of_the_warp(cli: Any, clip: Path, textured: Any, tmp_path: Path) -> None:
    """By zero flow the neighbour stays as it is."""
    assert cli("flow", clip, "--flow=zero", "-q").code == 0
    frames = [frame.astype(float) for frame in textured(6, 32, 48)]
    for record in read_flow_document(tmp_path / "clip.flow/flow.json").flows:
        other = record.t + (1 if record.direction == "forward" else -1)
        error = np.square(frames[record.t] - frames[other]).mean()
        assert record.psnr == pytest.approx(10 * math.log10(255**2 / error), abs=1e-5)


def test_pictures_have_one_scale(cli: Any, clip: Path, tmp_path: Path) -> None:
    """A motion of the scale's length has full colour; half of it half the saturation."""
    flow = np.zeros((6, 32, 48, 2), np.float32)
    flow[..., 0] = np.arange(6)[:, None, None]  # to the right: red
    write_flow_npz("right.npz", flow, flow, (6, 32, 48))
    assert cli("flow", clip, "--flow=right.npz", "--scale=4", "-q").code == 0
    pictures = tmp_path / "clip.flow/pictures"
    levels = [read_image(pictures / f"forward/{t:05d}.png")[0, 0].tolist() for t in range(5)]
    assert levels[0] == [255, 255, 255]
    assert levels[2][0] == 255
    assert levels[2][1:] == pytest.approx([127.5, 127.5], abs=0.5)
    assert levels[4] == [255, 0, 0]
    np.testing.assert_array_equal(read_image(pictures / "wheel.png"), wheel_disc(241))

    assert cli("flow", clip, "--flow=right.npz", "-q", "--output=auto").code == 0
    assert read_flow_document(tmp_path / "auto/flow.json").scale == 5  # of frame 5, backward
    write_flow_npz("still.npz", flow / 100, flow / 100, (6, 32, 48))
    assert cli("flow", clip, "--flow=still.npz", "-q", "--output=still").code == 0
    assert read_flow_document(tmp_path / "still/flow.json").scale == 0.5


def test_align_reads_what_flow_writes(cli: Any, clip: Path, tmp_path: Path) -> None:
    assert (
        cli("flow", clip, "--flow=farneback", "--format=flo,npz", "--no-pictures", "-q").code == 0
    )
    assert not (tmp_path / "clip.flow/pictures").exists()
    common = ["--metrics=psnr", "--wt=2", "--save=none", "-q"]
    assert cli("align", clip, "--flow=farneback", *common, "--output=computed").code == 0
    for name in ("clip.flow", "clip.flow/flow.npz"):
        assert (
            cli("align", clip, f"--flow={name}", *common, "--output=read", "--overwrite").code == 0
        )
        rows = [
            [
                row["psnr"]
                for row in json.loads((tmp_path / run / "report.json").read_text())["rows"]
            ]
            for run in ("computed", "read")
        ]
        assert rows[0] == rows[1]


def test_the_archive_alone_and_a_part(cli: Any, clip: Path, tmp_path: Path) -> None:
    assert (
        cli("flow", clip, "--flow=dis", "--format=npz", "--start=2", "--frames=3", "-q").code == 0
    )
    folder = tmp_path / "clip.flow"
    assert not (folder / "forward").exists()
    assert (folder / "pictures/backward/00004.png").exists()
    with np.load(folder / "flow.npz") as archive:
        assert sorted(archive) == ["backward", "forward"]
        assert archive["forward"].shape == (5, 32, 48, 2)
        there = {
            kind: [t for t in range(5) if np.isfinite(archive[kind][t]).all()] for kind in archive
        }
    assert there == {"forward": [2, 3], "backward": [3, 4]}
    # What is missing is an error where it is needed, and only there.
    path = folder / "flow.npz"
    common = ["--save=none", "--metrics=psnr", "-q"]
    assert cli("align", clip, f"--flow={path}", "--start=2", "--frames=3", *common).code == 0
    ended = cli("align", clip, "--flow=clip.flow", "--start=2", "--frames=3", *common)
    assert ended.code == 0  # the same flows
    refused(
        cli("align", clip, f"--flow={path}", "--output=all", *common),
        "frame 0: 1536 pixels of unknown or non-finite flow",
    )


def test_noise_is_seen_by_the_flow(cli: Any, clip: Path, tmp_path: Path) -> None:
    for name, options in (("a", []), ("b", ["--sigma=20"]), ("c", ["--sigma=20", "--seed=1"])):
        assert (
            cli(
                "flow", clip, "--flow=dis", "--no-pictures", "-q", f"--output={name}", *options
            ).code
            == 0
        )
    a, b, c = (read_flo(tmp_path / name / "forward/00000.flo") for name in "abc")
    assert np.abs(a - b).max() > 0.01
    assert np.abs(b - c).max() > 0.01
    # As `align` has it.
    common = ["--flow=dis", "--sigma=20", "--save=flow", "--methods=flow", "--metrics=psnr", "-q"]
    assert cli("align", clip, *common).code == 0
    np.testing.assert_array_equal(read_flo(tmp_path / "clip.stnls/flow/forward/00000.flo"), b)


def test_the_same_command_again(cli: Any, clip: Path, tmp_path: Path) -> None:
    assert cli("flow", clip, "--flow=zero", "-q").code == 0
    before = (tmp_path / "clip.flow/flow.json").stat().st_mtime_ns
    ended = cli("flow", clip, "--flow=zero", "--json")
    assert (ended.code, "is complete already" in ended.err) == (0, True)
    assert len(json.loads(ended.out)["flows"]) == 10
    assert (tmp_path / "clip.flow/flow.json").stat().st_mtime_ns == before
    refused(
        cli("flow", clip, "--flow=dis"), "holds a finished run with other parameters (flow.name"
    )
    assert cli("flow", clip, "--flow=dis", "--overwrite", "-q").code == 0
    assert read_flow_document(tmp_path / "clip.flow/flow.json").parameters["flow"]["name"] == "dis"
    # A folder of the other command is not ours to replace.
    refused(cli("align", clip, "--output=clip.flow", "--overwrite"), "no run of stnls align")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("forward", "folder"),
        ("backward/00003.flo", "file"),
        ("pictures", "folder"),
        ("pictures/forward/00000.png", "file"),
        ("flow.npz", "file"),
    ],
)
def test_a_finished_run_that_lacks_something(
    cli: Any, clip: Path, tmp_path: Path, name: str, kind: str
) -> None:
    command = ["flow", clip, "--flow=zero", "--format=flo,npz", "-q"]
    assert cli(*command).code == 0
    (tmp_path / "clip.flow" / name).rename(tmp_path / "elsewhere")
    refused(cli(*command), f"clip.flow is complete, but its {kind} {name} is gone; make it again")
    assert cli(*command, "--overwrite").code == 0
    assert (tmp_path / "clip.flow" / name).exists()


def test_a_finished_run_of_a_damaged_clip(cli: Any, clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 3 // 4])
    command = ["flow", "cut.mkv", "--flow=zero", "-q"]
    assert cli(*command, "--allow-damaged").code == 0
    refused(cli(*command), "cut.flow was made of it with --allow-damaged")
    assert cli(*command, "--allow-damaged").code == 0


def test_a_killed_run_goes_on(start: Any, cli: Any, clip: Path, tmp_path: Path) -> None:
    slow = (
        "import time\n"
        "from stnls_cli.flow_run import job\n"
        "write = job.FlowRecord.to_json\n"
        "def slowly(record):\n"
        "    time.sleep(0.3)\n"
        "    return write(record)\n"
        "job.FlowRecord.to_json = slowly\n"
    )
    command = ["flow", clip, "--flow=dis", "--format=npz"]
    process = start(*command, before=slow)
    journal = tmp_path / "clip.flow.partial/frames.ndjson"
    deadline = time.monotonic() + 60
    while not (journal.exists() and len(journal.read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (tmp_path / "clip.flow.partial/forward/.00003.flo.1.tmp").write_bytes(b"half")
    ended = cli(*command)
    assert ended.code == 0
    assert "resuming after" in ended.err
    assert cli("flow", clip, "--flow=dis", "--format=npz", "-q", "--output=whole").code == 0
    assert files(tmp_path / "clip.flow") == files(tmp_path / "whole")
    with np.load("clip.flow/flow.npz") as found, np.load("whole/flow.npz") as expected:
        for kind in ("forward", "backward"):
            np.testing.assert_array_equal(found[kind], expected[kind])
    documents = [
        read_flow_document(tmp_path / name / "flow.json") for name in ("clip.flow", "whole")
    ]
    assert documents[0].flows == documents[1].flows


def test_time_is_added_up(clip: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from stnls_cli.flow_run import job

    def stops(flow: Any, *_: Any) -> Any:
        if len(journal.read_text().splitlines()) >= 3:
            raise RuntimeError
        return warp(flow, *_)

    warp, journal = job.warp, tmp_path / "out.partial/frames.ndjson"
    with monkeypatch.context() as patch:
        patch.setattr(job, "warp", stops)
        with pytest.raises(RuntimeError):
            compute_flow(clip, tmp_path / "out", flow="dis", threads=1)
    before = json.loads(journal.read_text().splitlines()[-1])["payload"]["seconds"]
    after = compute_flow(clip, tmp_path / "out", flow="dis", threads=1).timings
    assert before.keys() <= after.keys()
    assert all(after[name] >= seconds for name, seconds in before.items())
    for name in ("encode", "metrics", "flow_cpu"):
        assert after[name] > before[name] > 0


@pytest.mark.parametrize("pairs", [0, 4])
def test_the_stages_that_are_timed(
    clip: Path, tmp_path: Path, monkeypatch: Any, pairs: int
) -> None:
    """tvl1 is timed where it runs: by the threads that compute it, or as a stage on a GPU."""
    from stnls_cli.flow_run import job

    plan = Plan(ahead=2, pairs=1, flow_pairs=pairs, under_way=1)
    monkeypatch.setattr(job, "plan_for", lambda *_, **__: plan)
    timings = compute_flow(
        clip, tmp_path / "out", flow="tvl1-fast", format="flo,npz", device="cpu"
    ).timings
    computed = "flow" if pairs else "flow_cpu"
    common = {"decode", "decode_wait", "prepare", "encode", "metrics", "wait", "pictures"}
    assert timings.keys() - {"flow_wait"} == {computed, *common}


def test_timings(cli: Any, clip: Path) -> None:
    for option in ("--timings", "-v", "--verbose"):  # first of a run, then of one that is complete
        lines = cli("flow", clip, "--flow=dis", option).lines
        rows = [line.split() for line in lines if line.strip().endswith(" %")]
        assert {"flow_cpu", "metrics", "encode", "pictures", "decode"} <= {row[0] for row in rows}
        assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=1)
    assert not any("flow_cpu" in line for line in cli("flow", clip, "--flow=dis").lines)


def test_flows_are_looked_at_side_by_side(clip: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Each on one thread: threads inside operators would wait for those that compute flow."""
    from stnls_cli.flow_run import job

    psnr, meeting, threads = job.psnr, threading.Barrier(2, timeout=60), set()

    def met(*frames: Any) -> float:
        meeting.wait()
        threads.add(torch.get_num_threads())
        return psnr(*frames)

    monkeypatch.setattr(job, "psnr", met)
    document = compute_flow(clip, tmp_path / "out", flow="zero", threads=2, device="cpu")
    assert len(document.flows) == 10
    assert threads == {1}


def test_what_is_under_way_is_kept_where_the_clip_ends(
    cli: Any, textured: Any, encode: Any, tmp_path: Path
) -> None:
    whole = encode(tmp_path / "whole.mkv", textured(12, 32, 48), codec="ffv1", pixel_format="bgr0")
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 3 // 4])
    command = ["flow", "cut.mkv", "--flow=zero", "--threads=4", "--device=cpu"]
    ended = cli(*command, "-q")
    assert ended.code == 2
    count = int(re.search(r"(\d+) frames could be read", ended.err)[1])  # type: ignore[index]
    lines = (tmp_path / "cut.flow.partial/frames.ndjson").read_text().splitlines()
    # A neighbour and three frames ahead of the reference were there.
    assert [json.loads(line)["t"] for line in lines] == list(range(count - 4))
    ended = cli(*command, "--allow-damaged")
    assert f"cut.mkv: resuming after {count - 4} finished frames" in ended.lines
    assert ended.code == 0


def test_killed_after_the_files_were_archived(cli: Any, clip: Path, monkeypatch: Any) -> None:
    """The archive is made of files that are deleted then: it must not be made again of nothing."""
    from stnls_cli.flow_run import job

    command = ["flow", clip, "--flow=dis", "--format=npz", "-q"]
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_flow_document", lambda *_: 1 / 0)
        assert cli(*command).code == 1
    assert cli(*command).code == 0
    flows = open_flow_files("clip.flow/flow.npz", height=32, width=48, stop=6)
    assert np.isfinite(flows.forward(0)).all()
    flows.close()
    assert Path("clip.flow/pictures/forward/00000.png").exists()


def test_several_inputs(cli: Any, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    ended = cli("flow", clip, "bad.mp4", "--flow=zero", "--output=all", "--json")
    assert ended.code == 1
    assert "1 of 2 inputs failed" in ended.err
    assert len(json.loads(ended.out)) == 1
    assert (tmp_path / "all/clip.flow/flow.json").exists()
    assert not (tmp_path / "all/bad.flow").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format=avi"], "--format: unknown 'avi'; choose from flo, npz"),
        (["--format=,"], "--format: names none"),
        (["--scale=0"], "--scale must be above 0"),
        (["--scale=nan"], "--scale must be above 0"),
        (["--scale=2", "--no-pictures"], "--scale is for the pictures"),
        (["--flow=tv1"], "unknown flow 'tv1' (did you mean tvl1?)"),
        (["--frames=1"], "a single frame in the part asked for"),
        (["--device=gpu"], "--device must be"),
    ],
)
def test_bad_options(
    cli: Any, clip: Path, arguments: list[str], words: str, tmp_path: Path
) -> None:
    refused(cli("flow", clip, *arguments), words)
    assert list(tmp_path.iterdir()) == []


def test_a_single_frame(cli: Any, textured: Any, encode: Any, tmp_path: Path) -> None:
    path = encode(tmp_path / "one.mkv", textured(1), codec="ffv1", pixel_format="bgr0")
    refused(cli("flow", path), "a single frame, so there is no neighbour for a flow to lead to")


def test_a_single_picture(cli: Any, textured: Any, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    write_image(tmp_path / "frames/0.png", textured(1)[0])
    words = "no neighbour for a flow to lead to; give the folder that holds the frames"
    refused(cli("flow", "frames/0.png"), words)


def test_fewer_frames_than_asked_for(cli: Any, clip: Path, tmp_path: Path) -> None:
    ended = cli("flow", clip, "--flow=zero", "--frames=20")
    assert ended.code == 0
    assert "clip.mkv: --frames 20: only 6 were there" in ended.lines
    document = read_flow_document(tmp_path / "clip.flow/flow.json")
    assert "--frames 20: only 6 were there" in document.input.notes


def test_from_python(clip: Path, tmp_path: Path) -> None:
    document = compute_flow(clip, tmp_path / "out", flow="zero", pictures=False)
    assert repr(document) == f"FlowDocument of {clip}: 10 flows"
    assert document.scale is None
    assert {record.most for record in document.flows} == {0.0}
    with pytest.raises(TypeError, match="flow has no option 'picture'; did you mean 'pictures'"):
        flow_options({"picture": True})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"format": 3}, "format must be str or a list of str, not 3"),
        ({"format": ["npz", 3]}, "format must be str or a list of str, not ['npz', 3]"),
        ({"scale": "x"}, "scale must be float | None, not 'x'"),
        ({"scale": True}, "scale must be float | None, not True"),
        ({"pictures": "no"}, "pictures must be bool, not 'no'"),
        ({"start": "1"}, "start must be int, not '1'"),
    ],
)
def test_types_from_python(clip: Path, tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        compute_flow(clip, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    assert flow_options({"scale": np.float32(2)}).scale == 2
    assert flow_options({"format": ["npz", "flo"]}).formats() == ("flo", "npz")
