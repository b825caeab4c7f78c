from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from stnls_cli import rundir
from stnls_cli.errors import UserError
from stnls_cli.lock import FolderLock
from stnls_cli.rundir import Finished, RunDirectory

PRINT: dict[str, Any] = {"input": "sha256:1", "ws": 9, "flow": {"name": "tvl1", "scales": 6}}
OTHER: dict[str, Any] = {**PRINT, "ws": 11, "flow": {"name": "tvl1", "scales": 5}}
REPORT = json.dumps({"schema": "stnls-report", "schema_version": 1})


def begin(
    folder: Path, fingerprint: dict[str, Any] = PRINT, overwrite: bool = False
) -> RunDirectory:
    run = RunDirectory.open(folder, fingerprint, overwrite=overwrite)
    assert isinstance(run, RunDirectory)
    return run


def complete(folder: Path, fingerprint: dict[str, Any] = PRINT, *, mark: str = "first") -> None:
    with begin(folder, fingerprint, overwrite=folder.exists()) as run:
        (run.path / "aligned").mkdir()
        (run.path / "aligned" / "0.png").write_text(mark)
        (run.path / "report.json").write_text(REPORT)
        run.record(0, [mark])
        run.finish()


def mark_of(folder: Path) -> str:
    return (folder / "aligned" / "0.png").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_appears_under_its_name_only_when_finished(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "in.stnls"
    with begin(out) as run:
        assert run.path == tmp_path / "deep" / "in.stnls.partial"
        assert not run.resumed
        (run.path / "report.json").write_text(REPORT)
        run.record(0, {"rows": []})
        assert not out.exists()
        assert run.finish() == out
    assert names(out) == ["report.json", "run.json"]
    assert names(tmp_path / "deep") == ["in.stnls"]


def test_the_same_command_again_is_told(tmp_path: Path) -> None:
    complete(tmp_path / "out")
    again = RunDirectory.open(tmp_path / "out", dict(reversed(PRINT.items())))
    assert again == Finished(tmp_path / "out")
    assert isinstance(again, Finished)
    assert again.document_path.is_file()
    assert names(tmp_path) == ["out"]


def test_tuples_and_lists_are_the_same_fingerprint(tmp_path: Path) -> None:
    complete(tmp_path / "out", {"size": (4, 3)})
    assert isinstance(RunDirectory.open(tmp_path / "out", {"size": [4, 3]}), Finished)


def test_other_parameters_are_named_with_both_values(tmp_path: Path) -> None:
    complete(tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite") as caught:
        RunDirectory.open(tmp_path / "out", {**OTHER, "sigma": 15})
    message = str(caught.value)
    assert "flow.scales 6, now 5; sigma not set, now 15; ws 9, now 11" in message
    assert "finished" in message
    assert "\n" not in message
    assert mark_of(tmp_path / "out") == "first"


def test_many_differences_stay_one_line(tmp_path: Path) -> None:
    complete(tmp_path / "out", {str(i): i for i in range(9)})
    with pytest.raises(UserError, match="and 5 more"):
        RunDirectory.open(tmp_path / "out", {str(i): i + 1 for i in range(9)})


def test_an_unfinished_run_is_resumed(tmp_path: Path) -> None:
    def broken() -> None:
        with begin(tmp_path / "out") as run:
            run.record(4, {"psnr": "inf"})
            run.record(5, [1.5, None])
            raise RuntimeError("flow broke")

    with pytest.raises(RuntimeError, match="flow broke"):
        broken()
    # The same command with --overwrite resumes as well: it may be the one that died.
    for overwrite in (False, True):
        with begin(tmp_path / "out", overwrite=overwrite) as run:
            assert run.resumed
            assert run.done_frames == {4: {"psnr": "inf"}, 5: [1.5, None]}
    with begin(tmp_path / "out") as run:
        run.record(6, "later")
        assert list(run.done_frames) == [4, 5, 6]


def test_an_unfinished_run_of_other_parameters_is_refused(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        run.record(0, 1)
        (run.path / "flow").mkdir()
        (run.path / "flow" / "0.flo").write_text("old")
    with pytest.raises(UserError, match=r"unfinished .*ws 9, now 11.*--overwrite"):
        RunDirectory.open(tmp_path / "out", OTHER)
    with begin(tmp_path / "out") as run:
        assert run.done_frames == {0: 1}
    with begin(tmp_path / "out", OTHER, overwrite=True) as run:
        assert run.done_frames == {}
        assert names(run.path) == [".lock", "frames.ndjson", "run.json"]


def test_a_run_that_its_input_ended_gives_way(tmp_path: Path) -> None:
    """It is taken up by the same command, and no obstacle to another."""
    with begin(tmp_path / "out") as run:
        run.record(0, 1)
        run.give_up()
    with begin(tmp_path / "out") as run:
        assert run.done_frames == {0: 1}
    # Taken up and interrupted it is a run like any other.
    with pytest.raises(UserError, match="unfinished"):
        RunDirectory.open(tmp_path / "out", OTHER)
    with begin(tmp_path / "out") as run:
        run.give_up()
    with begin(tmp_path / "out", OTHER) as run:
        assert run.done_frames == {}
        assert names(run.path) == [".lock", "frames.ndjson", "run.json"]
    assert names(tmp_path) == []
    # Where nothing was finished nothing is left.
    with begin(tmp_path / "out") as run:
        run.give_up()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "torn", [b'{"t": 7, "pay', b'{"t": 7, "payload": 1}', b"\xff\x00\n", b"7\n"]
)
def test_a_torn_line_is_ignored(tmp_path: Path, torn: bytes) -> None:
    with begin(tmp_path / "out") as run:
        run.record(0, "zero")
        journal = run.path / "frames.ndjson"
    with journal.open("ab") as file:
        file.write(torn)
    with begin(tmp_path / "out") as run:
        assert run.done_frames == {0: "zero"}
        run.record(7, "seven")
    with begin(tmp_path / "out") as run:
        assert run.done_frames == {0: "zero", 7: "seven"}


def test_payloads_must_be_strict_json(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        with pytest.raises(ValueError, match="JSON"):
            run.record(0, float("nan"))
        assert run.done_frames == {}


def test_overwrite_keeps_the_old_run_until_the_new_one_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    complete(out)
    with begin(out, OTHER, overwrite=True) as run:
        run.record(0, 1)
    assert mark_of(out) == "first"
    complete(out, OTHER, mark="second")
    assert mark_of(out) == "second"
    assert names(tmp_path) == ["out"]
    assert isinstance(RunDirectory.open(out, OTHER), Finished)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_replacement_that_dies_half_way_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    out = tmp_path / "out"
    complete(out)
    rename, calls = Path.rename, []

    def dying(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(self, target)

    run = begin(out, OTHER, overwrite=True)
    (run.path / "aligned").mkdir()
    (run.path / "aligned" / "0.png").write_text("second")
    (run.path / "report.json").write_text(REPORT)
    run.record(0, "done")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            run.finish()
    run.close()
    # Asked for the old run: there it is. Asked for the new one: its work is there as well.
    assert isinstance(RunDirectory.open(out, PRINT), Finished)
    assert mark_of(out) == "first"
    with begin(out, OTHER, overwrite=True) as run:
        assert run.done_frames == {0: "done"}
        run.finish()
    assert mark_of(out) == "second"
    assert names(tmp_path) == ["out"]


def test_leftovers_of_a_replacement_are_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    complete(out)
    complete(tmp_path / ".out.replaced", mark="older")
    (tmp_path / ".out.replaced" / "report.json").unlink()  # deletion had begun
    complete(out, OTHER, mark="second")
    assert names(tmp_path) == ["out"]
    assert mark_of(out) == "second"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_the_user_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "report.json").write_text('{"schema": "another"}')
    with pytest.raises(UserError, match="no run of stnls"):
        RunDirectory.open(out, PRINT, overwrite=overwrite)
    assert names(tmp_path) == ["holiday"]
    assert names(out) == ["report.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_partial_folder_of_the_user_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="no unfinished run"):
        RunDirectory.open(tmp_path / "out", PRINT, overwrite=overwrite)
    assert names(partial) == ["thesis.tex"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = begin(out)
    (run.path / "report.json").write_text(REPORT)
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(UserError, match="no run of stnls"):
        run.finish()
    run.close()
    assert names(out) == ["mine"]
    assert (run.path / "report.json").exists()


def test_empty_folders_and_links_to_folders_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    complete(tmp_path / "empty")
    assert mark_of(tmp_path / "empty") == "first"
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with begin(tmp_path / "link") as run:
        (run.path / "report.json").write_text(REPORT)
        run.finish()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk") == ["report.json", "run.json"]


def test_a_run_without_its_parameters_needs_overwrite(tmp_path: Path) -> None:
    complete(tmp_path / "out")
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json.*--overwrite"):
        RunDirectory.open(tmp_path / "out", PRINT)
    complete(tmp_path / "out", mark="second")
    assert mark_of(tmp_path / "out") == "second"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        RunDirectory.open(tmp_path / "out", PRINT)
    with pytest.raises(UserError, match="cannot be an output folder"):
        RunDirectory.open(Path("/"), PRINT)


def test_finish_needs_a_report(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run, pytest.raises(ValueError, match=r"no report\.json"):
        run.finish()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with begin(tmp_path / "out"):
        with pytest.raises(UserError, match=rf"process {os.getpid()} \(lock file .*out\.partial"):
            RunDirectory.open(tmp_path / "out", PRINT)
        with begin(tmp_path / "elsewhere"):
            assert names(tmp_path) == ["elsewhere.partial", "out.partial"]
    begin(tmp_path / "out").close()


CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from stnls_cli.rundir import RunDirectory
    run = RunDirectory.open(Path(sys.argv[1]), {"ws": 9})
    t = len(run.done_frames)
    while True:
        (run.path / f"{t}.png").write_text("x")
        run.record(t, {"t": t, "rows": ["x" * 3000]})
        print(t, flush=True)
        t += 1
    """
)


def test_a_killed_process_loses_at_most_one_frame(tmp_path: Path) -> None:
    out, reported = tmp_path / "out", -1
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(out)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        last = reported
        for _, line in zip(range(5), child.stdout, strict=False):
            last = int(line)
        with pytest.raises(UserError, match=f"process {child.pid}"):
            RunDirectory.open(out, {"ws": 9})
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        assert last >= reported + 5
        reported = int(lines[-1]) if lines else last
        with begin(out, {"ws": 9}) as run:
            done = run.done_frames
        # All that was told is there, and at most the line that was on its way besides.
        assert list(done) == list(range(len(done)))
        assert reported + 1 <= len(done) <= reported + 2
        assert all(done[t]["t"] == t for t in done)
        reported = len(done) - 1


def test_no_space_is_one_line_and_leaves_a_sound_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with begin(tmp_path / "out") as run:
        run.record(0, "zero")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(UserError, match=r"cannot write .*frames\.ndjson: No space left"):
                run.record(1, "one")
        run.record(2, "two")
    with begin(tmp_path / "out") as run:
        assert run.done_frames == {0: "zero", 2: "two"}


def test_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(UserError, match=r"cannot write .*out\.partial: Permission denied"):
        RunDirectory.open(tmp_path / "out", PRINT)
    with pytest.raises(UserError, match="cannot write"):
        RunDirectory.open(Path("/dev/null/out"), PRINT)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_another_process_finishes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    out = tmp_path / "out"

    class Late(FolderLock):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            monkeypatch.undo()
            # As the other process does it: the folder moves away, lock file and all.
            self.release()
            complete(out)
            super().__init__(out)

    monkeypatch.setattr(rundir, "FolderLock", Late)
    if not overwrite:
        assert RunDirectory.open(out, PRINT) == Finished(out)
        assert not (tmp_path / "out.partial").exists()
        return
    with begin(out, overwrite=True) as run:
        assert names(run.path) == [".lock", "frames.ndjson", "run.json"]
        assert run.done_frames == {}
    assert mark_of(out) == "first"


def test_overwrite_deletes_nothing_that_no_run_wrote(tmp_path: Path) -> None:
    out = tmp_path / "out"
    complete(out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"out holds notes.txt, which no run of stnls wrote"):
        RunDirectory.open(out, OTHER, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "out.partial").exists()
    (out / "notes.txt").unlink()
    with begin(out, OTHER, overwrite=True) as run:
        # What comes while the run is under way is kept as well, and so is the work.
        (out / "other").mkdir()
        (run.path / "report.json").write_text(REPORT)
        run.record(0, [1])
        with pytest.raises(UserError, match="other, which no run"):
            run.finish()
    assert (out / "other").is_dir()
    assert (tmp_path / "out.partial").is_dir()


def test_no_run_inside_another(tmp_path: Path) -> None:
    complete(tmp_path / "out")
    with pytest.raises(UserError, match=r"would lie inside .*out, which is a run of stnls itself"):
        RunDirectory.open(tmp_path / "out/inner", PRINT)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the name is too long .*choose another -o"):
        RunDirectory.open(tmp_path / ("x" * 250), PRINT)
