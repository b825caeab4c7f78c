"""Inputs that cannot be aligned: one line, exit code 2, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from outcome import refused

from stnls_cli import UserError, align
from stnls_cli.report import read_report
from stnls_cli.video import write_image

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
    refused(cli("align", path, *QUICK, "-q"), words)
    ended = cli("align", path, *QUICK, "-q", "--frames=4", "-o", "part")
    assert (ended.code, ended.err) == (0, "")


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
        cli("align", small, "--flow=zero"),
        f"{small}: frames of 9x6 are smaller than the patch (--ps 7); "
        "give a smaller --ps or a larger --size",
    )
    # A window larger than the frame is no error: positions are kept inside.
    ended = cli("align", small, "--flow=dis", "--ps=3", "--ws=21", "-q")
    assert (ended.code, ended.err) == (0, "")


def test_from_python_the_same_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder") as caught:
        align(tmp_path / "none.mp4")
    assert caught.value.exit_code == 2
