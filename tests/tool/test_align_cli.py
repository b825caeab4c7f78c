"""What a person and a pipeline see of `align`: streams, exit codes, help, folders."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from stnls_cli.options import AlignOptions, CommandOptions, option_flags
from stnls_cli.report import read_report

QUICK = ["--flow=zero", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr"]


def test_output_is_empty_and_words_go_to_stderr(cli: Any, clip: Path, tmp_path: Path) -> None:
    ended = cli("align", clip, *QUICK)
    assert (ended.code, ended.out) == (0, "")
    assert "\x1b" not in ended.err
    assert "shifted-nls" in ended.err
    assert ended.lines[-1] == "report: clip.stnls/report.html"
    assert max(map(len, ended.lines)) <= 80
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.stnls"]


def test_quiet(cli: Any, clip: Path) -> None:
    for _ in range(2):
        ended = cli("align", clip, "-q", "--wt=9", "--size=16x16")
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_quiet_process(start: Any, clip: Path) -> None:
    """Nor do libraries say anything while they are imported and end."""
    process = start("align", clip, "--flow=dis", "--quiet")
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 0


def test_json(cli: Any, clip: Path, tmp_path: Path) -> None:
    def strict(text: str) -> Any:
        return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    ended = cli("align", clip, *QUICK, "--json")
    assert "report: " in ended.err
    document = strict(ended.out)
    assert document == json.loads((tmp_path / "clip.stnls/report.json").read_text())
    assert document["schema"] == "stnls-report"
    # The finished run: the stored report, the same bytes.
    again = cli("align", clip, *QUICK, "--json", "-q")
    assert (again.out, again.err) == (ended.out, "")
    other = tmp_path / "öther.mkv"
    shutil.copy(clip, other)
    ended = cli("align", clip, other, *QUICK, "--json", "-q")
    documents = strict(ended.out)
    assert [each["input"]["clip"] for each in documents] == ["clip", "öther"]
    ended = cli("align", tmp_path / "none.mp4", clip, *QUICK, "--json", "-q")
    assert ended.code == 1
    assert [each["input"]["clip"] for each in strict(ended.out)] == ["clip"]


def test_names_that_are_not_utf8(cli: Any, clip: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"b\xffd.mkv"))
    shutil.copy(clip, tmp_path / path)
    ended = cli("align", path, *QUICK, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["input"]["clip"] == "b?d"
    ended = cli("align", Path(os.fsdecode(b"\xfe.mkv")), *QUICK)
    assert (ended.code, len(ended.lines)) == (2, 1)


def test_names_with_dashes_spaces_and_markup(cli: Any, clip: Path, tmp_path: Path) -> None:
    for name in ("-x.mkv", "a b [red]c.mkv", "a:b%05d.mkv"):
        shutil.copy(clip, tmp_path / name)
        ended = cli("align", *QUICK, "--", name)
        assert ended.code == 0
        assert ended.lines[-1] == f"report: {Path(name).stem}.stnls/report.html"
        report = read_report(tmp_path / f"{Path(name).stem}.stnls")
        assert report.input.path == name


@pytest.mark.parametrize("flag", ["--verbose", "--timings"])
def test_times_of_the_stages(cli: Any, clip: Path, flag: str) -> None:
    ended = cli("align", clip, *QUICK, flag)
    assert re.search(r"^ +search +\d+\.\d\d +\d+\.\d % *$", ended.err, re.M)


@pytest.mark.parametrize("colour", [True, False])
def test_bars_on_a_terminal(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what a terminal is to Rich
    monkeypatch.setenv("TERM", "xterm-256color")
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    ended = cli("align", clip, *QUICK, "--flow=farneback")
    for stage in ("decode", "flow", "align"):
        assert re.search(rf"{stage}[^\n]*(6|10)/(6|10)[^\n]*left", strip(ended.err)), stage
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", ended.err)) == colour
    assert ended.err.count("\x1b[?25l") == ended.err.count("\x1b[?25h") > 0
    ended = cli("align", clip, *QUICK, "-q", "-o", "quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def strip(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.slow
def test_a_real_terminal(clip: Path, tmp_path: Path) -> None:
    """Bars come and go on a terminal; standard output stays a clean pipe."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "stnls_cli", "align", str(clip), *QUICK, "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:
        os.close(child)
        seen = b""
        while select.select([parent], [], [], 60)[0]:
            try:
                seen += os.read(parent, 4096)
            except OSError:
                break
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["schema"] == "stnls-report"
        assert process.wait(60) == 0
    os.close(parent)
    assert b"decode" in seen
    assert b"left" in seen


def test_a_closed_pipe_is_quiet(start: Any, clip: Path, tmp_path: Path) -> None:
    process = start("align", clip, *QUICK, "--json", "-q", "--wt=5")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    assert (tmp_path / "clip.stnls/report.html").is_file()


@pytest.mark.parametrize("command", [["--help"], ["align", "--help"], ["bench", "-h"]])
def test_help_into_a_closed_pipe_is_quiet(start: Any, command: list[str]) -> None:
    process = start(*command)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_nobody_reads_the_words(start: Any, clip: Path, tmp_path: Path) -> None:
    """The work goes on where standard error is closed."""
    process = start("align", clip, *QUICK, "--frames=99", "--verbose")
    process.stderr.close()
    assert process.stdout.read() == ""
    assert process.wait(60) == 0
    assert (tmp_path / "clip.stnls/report.html").is_file()


def test_standard_output_that_is_full(start: Any, clip: Path, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    with open("/dev/full", "w") as full:
        for command in (["align", clip, *QUICK, "--json", "-q"], ["doctor"], ["--version"]):
            process = subprocess.Popen(
                [sys.executable, "-m", "stnls_cli", *map(str, command)],
                cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((root, *sys.path))},
            )  # fmt: skip
            _, err = process.communicate(timeout=120)
            assert err == "stnls: cannot write to standard output: No space left on device\n"
            assert process.returncode == 2
    # The run itself is complete.
    assert (tmp_path / "clip.stnls/report.html").is_file()


def test_fewer_frames_than_asked_for(cli: Any, clip: Path, tmp_path: Path) -> None:
    ended = cli("align", clip, *QUICK, "--start=2", "--frames=100")
    assert ended.code == 0
    assert "clip.mkv: --frames 100: only 4 were there" in ended.lines
    assert "--frames 100: only 4 were there" in read_report(tmp_path / "clip.stnls").input.notes
    ended = cli("align", clip, *QUICK, "--start=2", "--frames=4", "-o", "exact")
    assert "only" not in ended.err


def test_finished_and_other_parameters(cli: Any, clip: Path, tmp_path: Path) -> None:
    assert cli("align", clip, *QUICK).code == 0
    report = tmp_path / "clip.stnls/report.json"
    before = report.stat().st_mtime_ns
    ended = cli("align", clip, *QUICK)
    assert ended.code == 0
    assert ended.lines == ["clip.stnls is complete already, with the same input and parameters"]
    # What changes no result is no difference.
    assert cli("align", clip, *QUICK, "--threads=1", "--allow-damaged").code == 0
    assert report.stat().st_mtime_ns == before
    ended = cli("align", clip, *QUICK, "--ws=5", "--sigma=2")
    assert ended.code == 2
    assert ended.lines == [
        "stnls: clip.stnls holds a finished run with other parameters (sigma 0.0, now 2.0; ws 3, "
        "now 5); replace it with --overwrite or choose another -o"
    ]
    ended = cli("align", clip, *QUICK, "--flow=farneback", "--wt=2", "--methods=flow,nls,none")
    assert "flow.name zero, now farneback" in ended.err
    assert report.stat().st_mtime_ns == before
    assert cli("align", clip, *QUICK, "--ws=5", "--overwrite").code == 0
    assert read_report(report).parameters["ws"] == 5
    assert cli("align", clip, *QUICK, "--ws=5").code == 0
    other = tmp_path / "other.mkv"
    shutil.copy(clip, other)
    with other.open("ab") as file:
        file.write(bytes(8))
    ended = cli("align", other, *QUICK, "--ws=5", "-o", "clip.stnls")
    assert ended.code == 2
    assert "(input sha256:" in ended.err


def test_folders_of_several(cli: Any, clip: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        shutil.copy(clip, folder / "in.mkv")
    pair = [a / "in.mkv", b / "in.mkv"]

    def runs() -> list[str]:
        found = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.rglob("report.json")}
        for folder in tmp_path.iterdir():
            if folder not in (a, b):
                shutil.rmtree(folder)
        return sorted(found)

    ended = cli("align", *pair, *QUICK)
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert ended.lines[0].endswith(
        "in.mkv would both be written to in.stnls: tell them apart with one -o for each input"
    )
    assert cli("align", *pair, *QUICK, "-o", "all").code == 2
    assert cli("align", *pair, *QUICK, "-o", "x", "-o", "a/../x").code == 2
    assert cli("align", *pair, *QUICK, "-o", "x", "-o", "y", "-o", "z").lines == [
        "stnls: 3 -o for 2 inputs: give none, one, or one for each input"
    ]
    assert cli("align", pair[0], *QUICK, "-o", "x", "-o", "y").lines == [
        "stnls: 2 -o for 1 input: give none or one"
    ]
    assert cli("align", pair[0], pair[0], *QUICK).code == 2
    assert runs() == []
    assert cli("align", *pair, *QUICK, "-o", "x", "-o", "sub/y").code == 0
    assert runs() == ["sub/y", "x"]
    shutil.copy(clip, a / "other.mkv")
    assert cli("align", a / "in.mkv", a / "other.mkv", *QUICK, "--output", "all").code == 0
    assert runs() == ["all/in.stnls", "all/other.stnls"]
    assert cli("align", a / "in.mkv", *QUICK, "-o", "one").code == 0
    assert runs() == ["one"]
    # A link has its own name.
    (a / "link.mkv").symlink_to(clip)
    assert cli("align", "a/link.mkv", *QUICK).code == 0
    assert runs() == ["link.stnls"]


def test_help_fits_80_columns_and_has_every_option(cli: Any) -> None:
    ended = cli("align", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", ended.out).split())
    for entry in (*fields(AlignOptions), *fields(CommandOptions)):
        for flag in option_flags(entry):
            assert re.search(rf"{flag}\b", words), flag
        assert entry.metadata["help"].split()[0] in words
        assert len(entry.metadata["help"]) > 10
    assert "Usage: stnls align [OPTIONS]" in words
    assert "INPUT" in words
    for ended in (cli("--help"), cli("-h")):
        assert ended.code == 0
        assert "align" in ended.out


def test_help_and_version_need_no_torch(start: Any) -> None:
    before = "import sys\nfor name in ('torch', 'numpy', 'av', 'cv2'): sys.modules[name] = None"
    process = start("align", "--help", before=before)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "--ws" in out


def test_version(cli: Any) -> None:
    ended = cli("--version")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"stnls \d+\.\d+\.\d+\S*\n", ended.out)


IMPORTING = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
from stnls_cli.entry import main
main()
"""


@pytest.mark.parametrize("name", ["typer", "stnls_cli.commands.align", "torch", "av"])
def test_interrupted_while_it_starts(name: str, clip: Path, tmp_path: Path) -> None:
    """Extension modules turn an interrupt into errors of their own."""
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTING.format(name=name), "align", str(clip), *QUICK],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert err == "stnls: interrupted; the same command goes on where it stopped\n"
    assert process.returncode == 130
