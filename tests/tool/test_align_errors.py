"""Inputs that cannot be aligned: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from outcome import refused

from stnls_cli import UserError, align, compare
from stnls_cli.outputs import Outputs
from stnls_cli.report import read_report
from stnls_cli.storage import storage_errors
from stnls_cli.video import open_clip, write_image

QUICK = ["--flow=zero", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr"]


def missing(folder: Path, clip: Path) -> Path:
    return folder / "in.mp4"


def empty(folder: Path, clip: Path) -> Path:
    (folder / "in.mp4").touch()
    return folder / "in.mp4"


def text(folder: Path, clip: Path) -> Path:
    (folder / "in.mp4").write_text("no video\n" * 40)
    return folder / "in.mp4"


def empty_folder(folder: Path, clip: Path) -> Path:
    (folder / "in").mkdir()
    return folder / "in"


def unequal_folder(folder: Path, clip: Path) -> Path:
    (folder / "in").mkdir()
    for index, width in enumerate((16, 16, 18)):
        write_image(folder / f"in/{index}.png", np.zeros((16, width, 3), np.uint8))
    return folder / "in"


def device(folder: Path, clip: Path) -> Path:
    return Path("/dev/null")


def audio(folder: Path, clip: Path) -> Path:
    with av.open(str(folder / "in.mka"), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(stream.encode(sound))
    return folder / "in.mka"


def truncated(folder: Path, clip: Path) -> Path:
    data = clip.read_bytes()
    (folder / "in.mkv").write_bytes(data[: len(data) * 2 // 3])
    return folder / "in.mkv"


def below_a_file(folder: Path, clip: Path) -> Path:
    (folder / "in").touch()
    return folder / "in/clip.mkv"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "in.mp4: no such file or folder"),
        (empty, "in.mp4: the file is empty (0 bytes)"),
        (text, "in.mp4: not a video"),
        (empty_folder, "in: a folder without frames"),
        (unequal_folder, "frames of unequal size: 0.png is 16x16, 2.png is 18x16"),
        (device, "/dev/null: neither a file nor a folder"),
        (audio, "no video stream, only audio"),
        (truncated, "frames could be read; --allow-damaged goes on with what decodes"),
        (below_a_file, "no such file or folder"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_inputs(
    cli: Any, clip: Path, tmp_path: Path, make: Callable[[Path, Path], Path], words: str
) -> None:
    path = make(tmp_path, clip)
    before = sorted(tmp_path.rglob("*"))
    refused(cli("align", path, *QUICK, "-q"), words)
    left = [p for p in sorted(tmp_path.rglob("*")) if p not in before]
    # What was aligned before the damage was met stays for --allow-damaged.
    assert left == [] or make is truncated


def test_size_change(cli: Any, tmp_path: Path, encode: Any, textured: Any) -> None:
    path = encode(tmp_path / "in.ts", textured(4, 64, 96))
    small = encode(tmp_path / "small.ts", textured(3, 32, 48))
    path.write_bytes(path.read_bytes() + small.read_bytes())
    words = "the size changes mid-stream: frame 4 is 48x32 after 96x64"
    ended = cli("align", path, *QUICK, "-q")
    refused(ended, words)
    assert (tmp_path / "in.stnls.partial").is_dir()
    # The remedy that the message names works as it stands, without --overwrite.
    assert words + "; take the part before it with --frames 4" in ended.err
    ended = cli("align", path, *QUICK, "-q", "--frames=4")
    assert (ended.code, ended.err) == (0, "")
    assert not (tmp_path / "in.stnls.partial").exists()


def test_allow_damaged_takes_up_the_work(cli: Any, clip: Path, tmp_path: Path, capfd: Any) -> None:
    path = truncated(tmp_path, clip)
    ended = cli("align", path, *QUICK)
    assert ended.code == 2
    assert ended.lines[-1].startswith(f"stnls: {path}: truncated: ")
    ended = cli("align", path, *QUICK, "--allow-damaged")
    assert ended.code == 0
    (damage,) = [line for line in ended.lines if line.startswith("damage: truncated: ")]
    report = read_report(tmp_path / "in.stnls")
    assert report.input.damage == (damage.removeprefix("damage: "),)
    assert report.parameters["allow_damaged"] is True
    # What an undamaged part gives is the same.
    whole = align(clip, tmp_path / "whole", frames=report.input.frames, flow="zero", ws=3, ps=3,
                  wt=1, metrics="psnr")  # fmt: skip
    assert [row.psnr for row in whole.rows] == [row.psnr for row in report.rows]
    # Without the option the finished run is no answer.
    refused(cli("align", path, *QUICK, "-q"), "was made of it with --allow-damaged")
    assert cli("align", path, *QUICK, "-q", "--allow-damaged").code == 0


def test_the_readable_part_of_a_truncated_clip(
    cli: Any, tmp_path: Path, encode: Any, textured: Any
) -> None:
    long = encode(tmp_path / "long.mkv", textured(12, 32, 48), codec="ffv1", pixel_format="bgr0")
    path = truncated(tmp_path, long)
    ended = cli("align", path, *QUICK, "-q")
    (count,) = re.findall(r"(\d+) frames could be read", ended.err)
    assert (tmp_path / "in.stnls.partial/frames.ndjson").is_file()
    assert cli("align", path, *QUICK, "-q", f"--frames={count}").code == 0
    assert read_report(tmp_path / "in.stnls").input.frames == int(count)


def test_no_space_is_no_fault_of_the_input(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run is kept from other parameters, as an interrupted one is."""
    calls = iter(range(1, 100))
    real = Outputs.flush

    def flush(self: Outputs, t: int) -> None:
        if next(calls) == 3:
            with storage_errors(tmp_path):
                raise OSError(28, "No space left on device")
        real(self, t)

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "flush", flush)
        refused(cli("align", clip, *QUICK, "-q"), "No space left on device")
    refused(cli("align", clip, *QUICK, "-q", "--frames=4"), "unfinished run with other parameters")
    assert cli("align", clip, *QUICK, "-q").code == 0


def test_a_folder_with_a_frame_that_does_not_decode(
    cli: Any, tmp_path: Path, textured: Any
) -> None:
    """The others keep their numbers: noise, flow files, t and dt are those of the whole folder."""
    for name in ("whole", "in"):
        (tmp_path / name).mkdir()
        for index, rgb in enumerate(textured(7, 32, 48)):
            write_image(tmp_path / name / f"{index}.png", rgb)
    (tmp_path / "in/3.png").write_bytes(b"no picture")
    common = ["--ws=3", "--ps=3", "--wt=2", "--sigma=9", "--metrics=psnr", "-q"]
    wanted = cli("align", "whole", *common, "--flow=dis", "--save=flow,video", "--json")
    whole = {key(row): row for row in json.loads(wanted.out)["rows"]}
    refused(cli("align", "in", *common), "3.png: not an image that FFmpeg can decode")
    for flow, save in (("dis", "aligned,video"), ("whole.stnls/flow", "aligned")):
        ended = cli(
            "align", "in", *common, f"--flow={flow}", f"--save={save}", "--allow-damaged", "--json",
            "-o", f"out{len(flow)}",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        document = json.loads(ended.out)
        assert document["input"]["frames"] == 6
        assert len(document["input"]["damage"]) == 1
        rows = {key(row): row for row in document["rows"]}
        pairs = {(row["t"], row["dt"]) for row in document["rows"]}
        # Neither the missing frame nor what lies behind it is a neighbour.
        first = {(t, other - t) for t in range(3) for other in range(3) if t != other}
        last = {(t, other - t) for t in (4, 5, 6) for other in (4, 5, 6) if t != other}
        assert pairs == first | last
        assert {k: row["psnr"] for k, row in rows.items()} == {k: whole[k]["psnr"] for k in rows}
        out = tmp_path / f"out{len(flow)}"
        assert sorted(p.stem for p in (out / "aligned/dt+1").iterdir()) == [
            "00000", "00001", "00004", "00005",
        ]  # fmt: skip
    with open_clip(tmp_path / "out3/video/dt+1.mkv") as video:
        assert len(list(video)) == 4


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["t"], row["dt"], row["method"]


def test_a_folder_of_frames_that_are_no_neighbours(cli: Any, tmp_path: Path, textured: Any) -> None:
    (tmp_path / "in").mkdir()
    for index, rgb in enumerate(textured(5, 16, 16)):
        write_image(tmp_path / f"in/{index}.png", rgb)
    for index in (1, 3):
        (tmp_path / f"in/{index}.png").write_bytes(b"no picture")
    ended = cli("align", "in", *QUICK, "-q", "--allow-damaged")
    refused(ended, "in: no two frames in a row could be read")


def test_flow_saved_of_a_damaged_clip_serves_it(cli: Any, clip: Path, tmp_path: Path) -> None:
    path = truncated(tmp_path, clip)
    common = [path, *QUICK, "--allow-damaged", "-q", "--save=flow"]
    assert cli("align", *common).code == 0
    assert cli("align", *common, "--flow=in.stnls/flow", "-o", "again").err == ""
    first, again = read_report(tmp_path / "in.stnls"), read_report(tmp_path / "again")
    assert [row.psnr for row in first.rows] == [row.psnr for row in again.rows]


@pytest.mark.parametrize(
    ("save", "words"),
    [
        ({"forward": (6, 32, 50, 2), "backward": (6, 32, 48, 2)}, "is 50x32, the frames are 48x32"),
        ({"forward": (5, 32, 48, 2), "backward": (5, 32, 48, 2)}, "no flow for frame 5; it has 5"),
        ({"forward": (6, 32, 48, 2)}, "no key 'backward' (t -> t-1); both are needed"),
        (
            {"forward": (6, 32, 48, 2), "backward": (6, 32, 48, 2), "flow": (1,)},
            "unknown key 'flow'",
        ),
    ],
)
def test_flow_files(
    cli: Any,
    tmp_path: Path,
    encode: Any,
    textured: Any,
    save: dict[str, tuple[int, ...]],
    words: str,
) -> None:
    # Its header says how many frames there are, so that flows are counted before any work.
    clip = encode(tmp_path / "in.mp4", textured(6, 32, 48))
    arrays: dict[str, Any] = {key: np.zeros(shape, np.float32) for key, shape in save.items()}
    np.savez(tmp_path / "flow.npz", **arrays)
    refused(cli("align", clip, *QUICK, "--flow=flow.npz"), words)
    (tmp_path / "flow").mkdir()
    refused(cli("align", clip, *QUICK, "--flow=flow"), "flow: no folder 'forward' in it")
    refused(cli("align", clip, *QUICK, "--flow", clip), "flows are read from an .npz file or")
    assert not list(tmp_path.glob("in.stnls*"))


def test_a_single_frame_and_small_frames(
    cli: Any, tmp_path: Path, encode: Any, textured: Any
) -> None:
    one = encode(tmp_path / "one.mkv", textured(1, 16, 16), codec="ffv1", pixel_format="bgr0")
    refused(
        cli("align", one, *QUICK),
        f"{one}: a single frame, so there is no neighbour to align; two frames or more are needed",
    )
    small = encode(tmp_path / "small.mkv", textured(3, 6, 9), codec="ffv1", pixel_format="bgr0")
    refused(
        cli("align", small, "--flow=zero", "--ps=7"),
        f"{small}: frames of 9x6 are smaller than the patch (--ps 7); "
        "give a smaller --ps or a larger --size",
    )
    picture = tmp_path / "frames" / "1.png"
    picture.parent.mkdir()
    for number in (1, 2):
        write_image(picture.with_name(f"{number}.png"), textured(1, 16, 16)[0])
    refused(
        cli("align", picture, *QUICK),
        f"{picture}: a single frame, so there is no neighbour to align; give the folder that holds",
    )
    both = (picture, picture.with_name("2.png"))
    words = f"1 more pictures: give the folder that holds the frames, {picture.parent}, as one"
    refused(cli("align", *both, *QUICK), words)
    with pytest.raises(UserError, match="give the folder that holds the frames"):
        align(both)
    # A window larger than the frame is no error: positions are kept inside.
    ended = cli("align", small, "--flow=dis", "--ps=3", "--ws=21", "-q")
    assert (ended.code, ended.err) == (0, "")


def test_folders_made_for_nothing_are_removed(cli: Any, clip: Path, tmp_path: Path) -> None:
    one, two = (tmp_path / name for name in ("one.mkv", "two.mkv"))
    for bad in (one, two):
        bad.write_bytes(b"no video")
    ended = cli("align", one, two, *QUICK, "-o", tmp_path / "new" / "folder")
    assert ended.code == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    cli("align", one, *QUICK, "-o", tmp_path / "old" / "out")
    assert (tmp_path / "old").is_dir()


def test_functions_keep_their_names(tmp_path: Path) -> None:
    """Also where a package of that name has been used."""
    code = """
import stnls_cli
for function in (stnls_cli.align, stnls_cli.compare, stnls_cli.compute_flow):
    for _ in range(2):
        try:
            getattr(stnls_cli, function.__name__)("none.mp4")
        except stnls_cli.UserError as error:
            print(error)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["none.mp4: no such file or folder"] * 6


def test_from_python_the_same_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no option 'wtt'; did you mean 'wt'"):
        align(tmp_path, wtt=1)
    with pytest.raises(TypeError, match="must be paths or lists of them, not <class 'int'>"):
        align(3)  # type: ignore[call-overload]
    for nothing in (align, compare):
        with pytest.raises(UserError, match="no INPUT: give a video file or a folder of frames"):
            nothing([])
    with pytest.raises(UserError, match="no such file or folder") as caught:
        align(tmp_path / "none.mp4")
    assert caught.value.exit_code == 2


EVERYTHING = "--save=aligned,flow,offsets,distance,video"


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("aligned", "its folder aligned is gone"),
        ("aligned/dt-1", "its folder aligned/dt-1 is gone"),
        ("aligned/dt+1/00002.png", "its file aligned/dt+1/00002.png is gone"),
        ("offsets/dt+1/00000.npz", "its file offsets/dt+1/00000.npz is gone"),
        ("distance/dt-1/0000[34].npz", "its file distance/dt-1/00003.npz and 1 more are gone"),
        ("flow/forward/00004.flo", "its file flow/forward/00004.flo is gone"),
        ("flow/backward/00005.flo", "its file flow/backward/00005.flo is gone"),
        ("video/dt+1.mkv", "its file video/dt+1.mkv is gone"),
    ],
)
def test_a_finished_run_that_lost_its_frames(
    cli: Any, tmp_path: Path, clip: Path, gone: str, told: str
) -> None:
    command = ("align", clip, *QUICK, "-q", EVERYTHING)
    assert cli(*command).code == 0
    assert cli(*command).code == 0
    out = tmp_path / "clip.stnls"
    lost = sorted(out.glob(gone))
    for path in lost:
        path.rename(tmp_path / path.name)
    refused(cli(*command), f"clip.stnls is complete, but {told}; make it again with --overwrite")
    with pytest.raises(UserError, match="make it again with --overwrite"):
        align(clip, out, flow="zero", ws=3, ps=3, wt=1, metrics="psnr", save=EVERYTHING[7:])
    assert cli(*command, "--overwrite").code == 0
    assert all(path.exists() for path in lost)


def test_a_finished_run_that_lost_its_pages(cli: Any, tmp_path: Path, clip: Path) -> None:
    command = ("align", clip, *QUICK, "-q", "--save=none")
    assert cli(*command).code == 0
    page, table = (tmp_path / "clip.stnls" / name for name in ("report.html", "report.csv"))
    before = page.read_text(), table.read_text()
    page.unlink()
    refused(cli(*command), "its file report.html is gone; `stnls report clip.stnls` writes it")
    table.unlink()
    refused(cli(*command), "its file report.html and 1 more are gone; `stnls report clip.stnls`")
    assert cli("report", "clip.stnls", "-q").code == 0
    assert (page.read_text(), table.read_text()) == before
    assert cli(*command).code == 0


def test_a_finished_run_that_lost_its_report(cli: Any, tmp_path: Path, clip: Path) -> None:
    command = ("align", clip, *QUICK, "-q")
    assert cli(*command).code == 0
    out = tmp_path / "clip.stnls"
    (out / "report.json").unlink()
    refused(cli(*command), "clip.stnls is a run whose report.json is gone; make it again with --")
    (out / "notes.txt").touch()
    refused(cli(*command, "--overwrite"), "holds notes.txt, which no run of stnls wrote")
    (out / "notes.txt").unlink()
    assert cli(*command, "--overwrite").code == 0
    assert len(read_report(out).rows) == 40


@pytest.mark.parametrize("command", ["align", "compare", "flow"])
@pytest.mark.parametrize("address", ["https://example.com/a.mp4", "file:///tmp/none.mp4"])
def test_addresses_are_not_read(cli: Any, command: str, address: str) -> None:
    refused(cli(command, address), f"stnls: {address}: addresses of the network are not read")


def test_a_folder_that_holds_clips(cli: Any, clip: Path, tmp_path: Path) -> None:
    def told() -> str:
        ended = cli("align", "clips", *QUICK)
        refused(ended, "clips: a folder without frames, but with ")
        return str(ended.lines[0]).partition("but with ")[2]

    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(clip, clips / "a.mkv")
    assert told() == "a video: name it: clips/a.mkv"
    for name in ("b.mkv", ".hidden.mkv", "c.MP4"):
        shutil.copy(clip, clips / name)
    (clips / "notes.txt").touch()
    (clips / "empty").mkdir()
    assert told() == "3 videos: name them, for example clips/*.mkv"
    for name in ("x", "y"):
        (clips / name).mkdir()
        write_image(clips / name / "0.png", np.zeros((8, 8, 3), np.uint8))
    told_of_both = "3 videos and 2 folders of frames: name them, for example clips/*.mkv clips/*/"
    assert told() == told_of_both
    for video in clips.glob("*.*"):
        video.unlink()
    assert told() == "2 folders of frames: name them, for example clips/*/"
    shutil.rmtree(clips / "y")
    assert told() == "a folder of frames: name it: clips/x"
