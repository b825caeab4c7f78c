"""Clips aligned side by side, each by a process of its own: what comes out is the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from outcome import refused
from stnls import _native

from stnls_cli import UserError, align
from stnls_cli.devices import resolve_device, resolve_devices
from stnls_cli.errors import WorkerError
from stnls_cli.options import AlignOptions
from stnls_cli.progress import Listener
from stnls_cli.workers import WorkerProcess, align_side_by_side, head_start, worker_options

SMALL = ["--device=cpu", "--ws=3", "--ps=3", "--wt=1"]
QUICK = [*SMALL, "--flow=farneback", "--metrics=psnr,ssim", "--sigma=4"]
OPTIONS: dict[str, Any] = {
    "device": "cpu", "flow": "zero", "ws": 3, "ps": 3, "wt": 1, "metrics": "psnr",
}  # fmt: skip


@pytest.fixture
def clips(tmp_path: Path, clip: Path) -> list[Path]:
    """Three clips of six frames and different names."""
    paths = [tmp_path / f"{name}.mkv" for name in "abc"]
    for path in paths:
        shutil.copy(clip, path)
    return paths


def contents(folder: Path) -> dict[str, Any]:
    """Files by name, and the report without what differs from run to run."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".json", ".html"):
            found[str(path.relative_to(folder))] = path.read_bytes()
    for path in sorted(folder.rglob("report.json")):
        report = json.loads(path.read_text())
        del report["timings"], report["parameters"]["threads"]
        found[str(path.relative_to(folder))] = report
    return found


def test_two_processes_give_the_results_of_one(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    save = "--save=aligned,flow,offsets,video"
    assert cli("align", *clips, *QUICK, save, "-o", "one", "-q").code == 0
    ended = cli("align", *clips, *QUICK, save, "-o", "two", "--workers=2", "--threads=2", "--json")
    assert ended.code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    documents = json.loads(ended.out)
    assert [document["input"]["clip"] for document in documents] == ["a", "b", "c"]
    assert {document["parameters"]["threads"] for document in documents} == {1}
    assert sum(line.startswith("report: two/") for line in ended.lines) == 3
    # Done already, which costs no process its work.
    ended = cli("align", *clips, *QUICK, save, "-o", "two", "--workers=3")
    assert ended.code == 0
    assert sum("is complete already" in line for line in ended.lines) == 3


def test_notes_name_their_clip(cli: Any, clips: list[Path]) -> None:
    ended = cli("align", *clips[:2], *QUICK, "--wt=4", "--workers=2", "--timings")
    assert ended.code == 0
    for name in "ab":
        assert any(line.startswith(f"{name}.mkv: 6 frames are fewer") for line in ended.lines)
    assert sum("6 frames in " in line and "cores busy" in line for line in ended.lines) == 2


def test_one_input_fails_and_the_others_do_not(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    clips[1].write_bytes(b"no video")
    ended = cli("align", *clips, *QUICK, "--workers=2", "-q")
    assert ended.code == 1
    assert [line for line in ended.lines if "not a video" in line] == [
        line for line in ended.lines if "b.mkv" in line
    ]
    assert ended.lines[-1] == "stnls: 1 of 3 inputs failed"
    assert "Traceback" not in ended.err
    assert sorted(p.name for p in tmp_path.glob("*.stnls*")) == ["a.stnls", "c.stnls"]


def test_from_python(clips: list[Path], tmp_path: Path) -> None:
    one = align(clips, tmp_path / "one", **OPTIONS)
    two = align(clips, tmp_path / "two", workers=2, **OPTIONS)
    assert [report.rows for report in two] == [report.rows for report in one]
    clips[0].write_bytes(b"")
    with pytest.raises(UserError, match="the file is empty"):
        align(clips, tmp_path / "three", workers=2, **OPTIONS)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for task in tasks for child in task.read_text().split())


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def recorded(folder: Path) -> int:
    journal = folder / "frames.ndjson"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.fixture
def slow(tmp_path: Path, textured: Any, encode: Any) -> list[Path]:
    """Two clips that take a while."""
    frames = textured(16, 80, 112)
    return [
        encode(tmp_path / f"{name}.mkv", frames, codec="ffv1", pixel_format="bgr0")
        for name in ("x", "y")
    ]


SLOW = [*SMALL, "--flow=tvl1-opencv", "--ws=5", "--metrics=psnr", "--save=none"]


def test_an_interrupted_run_goes_on(start: Any, cli: Any, slow: list[Path], tmp_path: Path) -> None:
    process = start("align", *slow, *SLOW, "-o", "out", "--workers=2", "--threads=2", "-q")
    partial = tmp_path / "out/x.stnls.partial"
    wait_for(lambda: recorded(partial) >= 2)
    working = children(process.pid)
    assert len(working) == 2
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "stnls: interrupted; the same command goes on where it stopped\n")
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in working))
    done = recorded(partial)
    assert 2 <= done < 16
    ended = cli("align", *slow, *SLOW, "-o", "out", "--workers=2")
    assert ended.code == 0
    assert f"x.mkv: resuming after {done} finished frames" in ended.lines
    assert cli("align", *slow, *SLOW, "-o", "whole", "-q").code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_process_that_dies_is_one_failed_input(
    start: Any, cli: Any, slow: list[Path], tmp_path: Path
) -> None:
    process = start("align", *slow, *SLOW, "-o", "out", "--workers=2", "--threads=2", "-q")
    wait_for(lambda: recorded(tmp_path / "out/x.stnls.partial") >= 1)
    lock = (tmp_path / "out/x.stnls.partial/.lock").read_text()
    os.kill(int(lock), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    lines = err.splitlines()
    assert len(lines) == 2
    assert "x.mkv: the process that aligned it ended by signal 9; the same command" in lines[0]
    assert lines[1] == "stnls: 1 of 2 inputs failed"
    assert (tmp_path / "out/y.stnls/report.json").is_file()
    assert cli("align", *slow, *SLOW, "-o", "out", "-q").code == 0


def machine_with(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], current: int
) -> None:
    """GPUs of these compute capabilities, and kernels built for 9.0."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capabilities[number])
    monkeypatch.setattr(_native, "find_library", lambda name: Path("libstnls_cuda.so"))
    monkeypatch.setattr(_native, "cuda_build", lambda: _native.CudaBuild("13.0", "90-real"))


def test_gpus_that_the_kernels_do_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are left out unless they are named."""
    machine_with(monkeypatch, [(7, 5), (9, 0), (7, 5), (9, 0)], current=3)
    for name in ("auto", "cuda"):
        assert [str(device) for device in resolve_devices(name)] == ["cuda:3", "cuda:1"]
    with pytest.raises(UserError, match=r"--device cuda:2: the CUDA kernels were built for 90"):
        resolve_devices("cuda:2")
    machine_with(monkeypatch, [(7, 5), (9, 0)], current=0)
    for name in ("auto", "cuda"):
        assert str(resolve_device(name)) == "cuda:1"
        assert [str(device) for device in resolve_devices(name)] == ["cuda:1"]
    machine_with(monkeypatch, [(7, 5), (8, 0)], current=1)
    assert [str(device) for device in resolve_devices("auto")] == ["cpu"]
    with pytest.raises(UserError, match=r"not for this GPU \(compute capability 8\.0\)"):
        resolve_devices("cuda")


def test_how_many_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(inputs: int, **given: Any) -> list[tuple[str, int | None]]:
        options = AlignOptions(**{"device": "cpu", **given})
        return [(each.device, each.threads) for each in worker_options(options, inputs)]

    assert planned(5, threads=8) == []
    assert planned(5, threads=8, workers=3) == [("cpu", 2)] * 3
    assert planned(2, threads=8, workers=3) == [("cpu", 4)] * 2
    assert planned(1, threads=8, workers=3) == []
    assert planned(4, threads=1, workers=2) == [("cpu", 1)] * 2

    machine_with(monkeypatch, [(9, 0)] * 3, current=1)
    assert [str(device) for device in resolve_devices("auto")] == ["cuda:1", "cuda:0", "cuda:2"]
    assert planned(8, threads=12, device="cuda") == [("cuda:1", 4), ("cuda:0", 4), ("cuda:2", 4)]
    assert planned(8, threads=12, device="cuda:2") == []
    assert planned(8, threads=12, device="cuda:2", workers=2) == [("cuda:2", 6)] * 2
    assert [device for device, _ in planned(8, threads=8, device="auto", workers=4)] == [
        "cuda:1", "cuda:0", "cuda:2", "cuda:1",
    ]  # fmt: skip


def test_processes_begin_before_they_are_wanted(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stnls_cli import workers

    jobs = [(path, tmp_path / "out" / path.stem) for path in clips]
    options = AlignOptions(**{**OPTIONS, "workers": 3})
    nobody = lambda _: contextlib.nullcontext(Listener())  # noqa: E731
    with head_start(options, len(jobs)) as early:
        taken = [process.process for process in list(early)[:2]]
        (left,) = [process.process for process in list(early)[2:]]
        assert all(process.poll() is None for process in (*taken, left))
        outcomes = list(align_side_by_side(jobs, [options] * 2, nobody, early=early))
        assert [process.returncode for process in taken] == [0, 0]
        assert left.poll() is None
    assert sorted(outcome.number for outcome in outcomes if outcome.error is None) == [0, 1, 2]
    assert left.returncode == -signal.SIGKILL

    def begun(inputs: int, **given: Any) -> list[str | None]:
        with head_start(AlignOptions(**given), inputs) as early:
            return [process.likely for process in early]

    monkeypatch.setattr(
        workers, "WorkerProcess", lambda likely: SimpleNamespace(likely=likely, stop=int)
    )
    monkeypatch.setattr(workers, "_gpus", lambda: 2)
    assert begun(8, device="cuda") == begun(8) == begun(2, workers=5) == ["cuda:0", "cuda:1"]
    assert begun(9, workers=3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert begun(9, device="cpu", workers=2) == [None, None]
    assert begun(1, device="cuda") == begun(8, device="cpu") == begun(8, device="cuda:1") == []
    monkeypatch.setattr(workers, "_gpus", lambda: 0)
    assert begun(8) == []


def test_a_device_that_is_not_there_after_all(clips: list[Path], tmp_path: Path) -> None:
    """A process that was begun for it works on another one."""
    nobody = lambda _: contextlib.nullcontext(Listener())  # noqa: E731
    jobs = [(clips[0], tmp_path / "out")]
    early = deque([WorkerProcess("cuda:99")])
    (outcome,) = align_side_by_side(jobs, [AlignOptions(**OPTIONS)], nobody, early=early)
    assert outcome.error is None
    assert not early


def test_the_next_input_begins_before_an_outcome_is_told(clips: list[Path], tmp_path: Path) -> None:
    begun: list[Path] = []

    def listener(path: Path) -> contextlib.AbstractContextManager[Listener]:
        begun.append(path)
        return contextlib.nullcontext(Listener())

    jobs = [(path, tmp_path / "out" / path.stem) for path in clips[:2]]
    for _ in align_side_by_side(jobs, [AlignOptions(**OPTIONS)], listener):
        assert begun == clips[:2]


def test_memory_is_shared(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process reckons with its part of what is free, by the processes on the same device."""
    import stnls_cli.pipeline
    from stnls_cli import plan, worker, workers
    from stnls_cli.plan import free_bytes

    monkeypatch.setattr(plan, "_parts", {})
    orders: list[tuple[Any, ...]] = []

    class Sent(workers.Worker):
        def begin(self, order: tuple[int, tuple[Path, Path]] | None) -> None:
            send = self.connection.send
            self.connection.send = lambda sent: (orders.append(sent), send(sent))
            super().begin(order)

    monkeypatch.setattr(workers, "Worker", Sent)
    align(clips, tmp_path / "out", workers=3, **OPTIONS)
    sent = [order for order in orders if order is not None]
    assert [order[3] for order in sent] == [3, 3, 3]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (800, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 150)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 50)
    free: list[int] = []

    def aligned(*_: object) -> None:
        free.append(free_bytes(torch.device("cuda:0")))
        raise UserError("enough")

    monkeypatch.setattr(stnls_cli.pipeline, "align_clip", aligned)
    for sharing in (1, 3):
        order = (*sent[0][:3], sharing)
        assert worker._outcome(None, *order) == ("failed", True, "enough")
    # What the others take is theirs: the part stays, as long as so much is free.
    for left in (400, 100):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, left=left: (left, 1000))
        worker._outcome(None, *order)
    assert free == [900, 300, 300, 200]
    assert free_bytes(torch.device("cuda:0")) == 200


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--workers=0", "--workers must be at least 1"),
        ("--workers=65", "--workers must be at most 64"),
        ("--trace=trace.json", "--trace trace.json takes one input, not 3"),
    ],
)
def test_what_is_refused(cli: Any, clips: list[Path], option: str, words: str) -> None:
    refused(cli("align", *clips, *QUICK, option), words)


def test_trace(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    assert cli("align", clips[0], *QUICK, "--trace=trace.json", "-q").code == 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {"search", "metrics", "decode"} <= {event.get("name") for event in events}
    refused(cli("align", clips[1], *QUICK, "--trace=none/trace.json"), "cannot write none/")


def test_a_trace_of_no_work_is_not_written(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    """Nor does it replace that of the run, which the same command made."""
    command = ["align", clips[0], *QUICK, "--trace=trace.json"]
    assert cli(*command).code == 0
    before = (tmp_path / "trace.json").read_bytes()
    ended = cli(*command)
    assert ended.code == 0
    assert "trace.json is not written: there was nothing left to do" in ended.lines
    assert (tmp_path / "trace.json").read_bytes() == before


def test_the_profiler_says_nothing(start: Any, clips: list[Path], tmp_path: Path) -> None:
    unset = "import os\nos.environ.pop('KINETO_LOG_LEVEL', None)"
    process = start("align", clips[0], *QUICK, "--trace=trace.json", "-q", before=unset)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")
    assert "profiler_start" not in err
    assert not re.search(r"^(STAGE|INFO|WARNING|ERROR|USDT):", err, re.MULTILINE), err
    assert (tmp_path / "trace.json").is_file()


def test_a_trace_that_has_no_place(cli: Any, clips: list[Path], tmp_path: Path) -> None:
    """Refused before the work; what lies there stays what it is."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    for name, words in (
        ("", "--trace: the name is empty"),
        (".", "cannot write .: it is a folder"),
        ("folder", "cannot write folder: it is a folder"),
        ("pipe", "cannot write pipe: it is no regular file"),
    ):
        refused(cli("align", clips[0], *QUICK, f"--trace={name}"), words)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "pipe").is_fifo()


def test_a_trace_that_the_profiler_does_not_write(
    cli: Any, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_: object, path: str) -> None:
        Path(f"{path}.tmp").write_text("{")

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", half)
    (tmp_path / "trace.json").write_text("older")
    ended = cli("align", clips[0], *QUICK, "--trace=trace.json", "-q")
    # The profiler may have said something before, where it was used already.
    assert ended.code == 2
    assert ended.lines[-1] == "stnls: cannot write trace.json: PyTorch's profiler gave no trace"
    assert (tmp_path / "trace.json").read_text() == "older"
    names = ["a.mkv", "a.stnls", "b.mkv", "c.mkv", "trace.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_timings(cli: Any, clips: list[Path]) -> None:
    for option in ("--timings", "-v", "--verbose"):
        lines = cli("align", clips[0], *QUICK, option, "--overwrite").lines
        rows = [line.split() for line in lines if line.strip().endswith("%")]
        assert {"search", "metrics", "aggregate", "decode"} <= {row[0] for row in rows}
        assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=1)
        waits = [line.split() for line in lines if line.split()[:1] == ["wait"]]
        assert [len(row) for row in waits] == [2]


def test_a_worker_error_is_told_as_it_is() -> None:
    from stnls_cli.console import described

    assert described(WorkerError("x.mkv: gone")) == "x.mkv: gone"
