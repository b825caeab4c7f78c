"""Runs that were interrupted or killed, and the same command again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stnls_cli.job
from stnls_cli import UserError, align
from stnls_cli.outputs import Outputs
from stnls_cli.report import read_report

EVERYTHING: dict[str, Any] = {
    "flow": "farneback",
    "ws": 3,
    "ps": 3,
    "wt": 2,
    "sigma": 4.0,
    "save": "aligned,flow,offsets,distance,video",
}
# Every flow takes this long, in a thread that no signal wakes.
SLOW = """
import time
from stnls_cli.flow.methods import FlowMethod
real = FlowMethod.compute
FlowMethod.compute = lambda *given: (time.sleep({seconds}), real(*given))[1]
"""
OPTIONS = ["--flow=farneback", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr", "--threads=1"]


def files(folder: Path) -> dict[str, bytes]:
    """Contents by name, without the reports, whose timings differ."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".json", ".csv")
    }


def same_run(one: Path, other: Path) -> None:
    """Equal but for the timings."""
    documents = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    assert documents[0].pop("timings").keys() == documents[1].pop("timings").keys()
    assert documents[0] == documents[1]
    assert (one / "report.csv").read_bytes() == (other / "report.csv").read_bytes()
    assert files(one) == files(other)
    left = {path.name for path in other.parent.iterdir()}
    assert not any(name.startswith(".") or name.endswith(".partial") for name in left)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    align(clip, folder, **EVERYTHING)
    return folder


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int, error: type[BaseException]) -> None:
    """Raises in the place of the `call`-th flush, between two frames, or of the end after them."""
    calls = iter(range(1, 1000))

    def stopping(real: Callable[..., None]) -> Callable[..., None]:
        def stopped(*given: Any) -> None:
            if next(calls) == call:
                raise error("stopped")
            real(*given)

        return stopped

    for name in ("flush", "finish"):
        monkeypatch.setattr(Outputs, name, stopping(getattr(Outputs, name)))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (2, KeyboardInterrupt),
        (4, KeyboardInterrupt),
        (7, KeyboardInterrupt),
        (4, UserError),
        (7, RuntimeError),
    ],
)
def test_resumed_is_as_uninterrupted(
    tmp_path: Path,
    clip: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    error: type[BaseException],
) -> None:
    """After 1, after 3, and after all 6 frames, before the videos are made."""
    with monkeypatch.context() as patch:
        stop_at(patch, call, error)
        with pytest.raises(error):
            align(clip, tmp_path / "out", **EVERYTHING)
    partial = tmp_path / "out.partial"
    lines = (partial / "frames.ndjson").read_text().splitlines()
    assert [json.loads(line)["t"] for line in lines] == list(range(call - 1))
    assert not (tmp_path / "out").exists()
    # As a kill would have left them.
    (partial / "aligned/dt+1/.00003.1.tmp.png").write_bytes(b"half")
    (partial / "offsets/dt+1/.00003.npz.tmp").write_bytes(b"half")
    computed: list[int] = []
    real = stnls_cli.job.Job._pairs

    def counted(self: Any, t: int, outputs: Any) -> Any:
        computed.append(t)
        return real(self, t, outputs)

    monkeypatch.setattr(stnls_cli.job.Job, "_pairs", counted)
    align(clip, tmp_path / "out", **EVERYTHING)
    assert computed == list(range(call - 1, 6))
    same_run(whole, tmp_path / "out")


def test_a_clip_that_was_renamed(
    tmp_path: Path, clip: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of before and after have the name that it has now."""
    with monkeypatch.context() as patch:
        stop_at(patch, 4, UserError)
        with pytest.raises(UserError):
            align(clip, tmp_path / "out", **EVERYTHING)
    other = shutil.copy(clip, tmp_path / "other.mkv")
    report = align(other, tmp_path / "out", **EVERYTHING)
    assert {row.clip for row in report.rows} == {"other"}
    rows = [replace(row, clip=clip.stem) for row in report.rows]
    assert rows == list(read_report(whole).rows)


def test_flows_that_only_finished_frames_use_are_not_computed(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stnls_cli.flow.methods import FlowMethod

    real = FlowMethod.compute
    count = 0

    def counted(self: FlowMethod, *grays: Any) -> Any:
        nonlocal count
        count += 1
        return real(self, *grays)

    monkeypatch.setattr(FlowMethod, "compute", counted)
    with monkeypatch.context() as patch:
        stop_at(patch, 6, RuntimeError)
        with pytest.raises(RuntimeError):
            align(clip, tmp_path / "out", **EVERYTHING)
    count = 0
    align(clip, tmp_path / "out", **EVERYTHING)
    # The last frame is left: its two backward flows.
    assert count == 2


def test_a_run_killed_while_it_deletes_the_images_of_its_videos(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**EVERYTHING, "save": "video"}
    align(clip, tmp_path / "whole", **options)

    real = shutil.rmtree

    def half(folder: Path, ignore_errors: bool = False) -> None:
        if folder.name != ".for-video":
            real(folder, ignore_errors=ignore_errors)
            return
        for path in sorted(folder.rglob("*.png"))[::2]:
            path.unlink()
        raise OSError(5, "killed")

    with monkeypatch.context() as patch:
        patch.setattr("stnls_cli.outputs.shutil.rmtree", half)
        with pytest.raises(UserError):
            align(clip, tmp_path / "out", **options)
    align(clip, tmp_path / "out", **options)
    same_run(tmp_path / "whole", tmp_path / "out")


def test_time_is_added_up(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 4, RuntimeError)
        with pytest.raises(RuntimeError):
            align(clip, tmp_path / "out", **EVERYTHING)
    last = (tmp_path / "out.partial/frames.ndjson").read_text().splitlines()[-1]
    before = json.loads(last)["payload"]["seconds"]
    after = align(clip, tmp_path / "out", **EVERYTHING).timings
    assert before.keys() <= after.keys()
    assert all(after[name] >= seconds for name, seconds in before.items())
    assert after["search"] > before["search"] > 0
    assert after["flow_cpu"] > before["flow_cpu"] > 0


def test_bad_input_leaves_nothing_behind(tmp_path: Path, clip: Path, cli: Any) -> None:
    cli("align", clip, "--frames=1", "-o", "out", "--flow=zero")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_of_other_parameters(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 3, RuntimeError)
        with pytest.raises(RuntimeError):
            align(clip, tmp_path / "out", **EVERYTHING)
    with pytest.raises(UserError, match=r"unfinished run with other parameters \(ws 3, now 5\)"):
        align(clip, tmp_path / "out", **{**EVERYTHING, "ws": 5})
    report = align(clip, tmp_path / "out", overwrite=True, **{**EVERYTHING, "ws": 5})
    assert {row.ws for row in report.rows if row.method == "nls"} == {5}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def recorded(folder: Path) -> int:
    journal = folder / "frames.ndjson"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_in_the_middle(
    tmp_path: Path, clip: Path, start: Any, cli: Any, number: signal.Signals
) -> None:
    process = start("align", clip, *OPTIONS, "-q", "-o", "out", before=SLOW.format(seconds=0.4))
    wait_for(lambda: recorded(tmp_path / "out.partial") >= 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert out == ""
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err == "stnls: interrupted; the same command goes on where it stopped\n"
    else:
        assert (process.returncode, err) == (-number, "")
    done = recorded(tmp_path / "out.partial")
    assert 2 <= done < 6
    ended = cli("align", clip, *OPTIONS, "-o", "out")
    assert ended.code == 0
    assert f"clip.mkv: resuming after {done} finished frames" in ended.lines
    assert cli("align", clip, *OPTIONS, "-o", "whole", "-q").code == 0
    same_run(tmp_path / "whole", tmp_path / "out")


def test_interrupt_does_not_wait_for_slow_flow(tmp_path: Path, clip: Path, start: Any) -> None:
    env = {"STNLS_TRACEBACK": "1"}
    process = start("align", clip, *OPTIONS, before=SLOW.format(seconds=50), env=env)
    wait_for(lambda: (tmp_path / "clip.stnls.partial/run.json").exists())
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert (out, err) == ("", "stnls: interrupted; the same command goes on where it stopped\n")
    # No frame was finished, so there is nothing to go on with.
    assert list(tmp_path.iterdir()) == []


def test_two_at_once(tmp_path: Path, clip: Path, start: Any, cli: Any) -> None:
    process = start("align", clip, *OPTIONS, "-q", "-o", "out", before=SLOW.format(seconds=50))
    try:
        wait_for(lambda: (tmp_path / "out.partial/run.json").exists())
        ended = cli("align", clip, *OPTIONS, "-o", "out")
        assert ended.code == 2
        (line,) = ended.lines
        assert f"is being written by process {process.pid}" in line
    finally:
        process.kill()
        process.communicate()
    assert os.path.exists(tmp_path / "out.partial")
    assert cli("align", clip, *OPTIONS, "-q", "-o", "out").code == 0
    assert read_report(tmp_path / "out").input.frames == 6
