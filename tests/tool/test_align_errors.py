"""Every bad input: one line on standard error, its exit code, and nothing left behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stnls_cli import UserError, align
from stnls_cli.report import read_report
from stnls_cli.video import write_image

QUICK = ["--flow=zero", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr"]


def refused(ended: Any, words: str, code: int = 2) -> None:
    """One line, with these words."""
    assert ended.code == code
    assert ended.out == ""
    assert len(ended.lines) == 1, ended.err
    assert ended.err.startswith("stnls: ")
    assert words in ended.err
    assert "Traceback" not in ended.err


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


def test_cuda_asked_for_and_absent(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from stnls import _native

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = "--device cuda: no CUDA device is available to PyTorch"
    refused(cli("align", clip, *QUICK, "--device=cuda"), words)
    # Said once, before any work, whatever the number of inputs.
    refused(cli("align", clip, tmp_path / "none.mp4", *QUICK, "--device=cuda"), words)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(_native, "find_library", lambda name: None)
    refused(cli("align", clip, *QUICK, "--device=cuda"), "built without its CUDA kernels")
    monkeypatch.setattr(_native, "find_library", lambda name: Path("libstnls_cuda.so"))
    refused(cli("align", clip, *QUICK, "--device=cuda:1"), "there are 1 CUDA devices")


@pytest.mark.parametrize("flow", ["tvl1", "deepflow"])
def test_wrong_opencv_wheel(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    import cv2

    for name in ("DualTVL1OpticalFlow_create", "createOptFlow_DeepFlow"):
        monkeypatch.delattr(cv2.optflow, name)
    ended = cli("align", clip, clip.parent, *QUICK, f"--flow={flow}")
    refused(ended, "which this OpenCV lacks")
    assert "-m pip uninstall -y opencv" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_without_pyav(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    refused(cli("align", clip, *QUICK), "PyAV (the module av) cannot be imported")
    folder = unequal_folder_of_one_size(tmp_path)
    refused(cli("align", folder, *QUICK), "-m pip install --force-reinstall av")


def unequal_folder_of_one_size(folder: Path) -> Path:
    """A folder whose file is no image: without PyAV it is not looked at."""
    (folder / "in").mkdir()
    (folder / "in/0.png").write_bytes(b"png")
    return folder / "in"


def test_without_opencv(clip: Path, tmp_path: Path, start: Any) -> None:
    """No flow and flow files need no OpenCV; a method says what is missing."""
    flows = tmp_path / "flow.npz"
    zeros = np.zeros((6, 32, 48, 2), np.float32)
    np.savez(flows, forward=zeros, backward=zeros)
    before = f"""
import sys
sys.modules["cv2"] = None
import stnls_cli
for flow in ("zero", {str(flows)!r}):
    stnls_cli.align({str(clip)!r}, f"out/{{len(flow)}}", flow=flow, ws=3, ps=3, wt=1)
"""
    process = start("align", clip, "--flow=dis", before=before)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, ""), err
    assert len(err.splitlines()) == 1
    assert err.startswith("stnls: OpenCV (the module cv2) is not installed; run: ")
    scores = [
        [row.psnr for row in read_report(folder).rows] for folder in (tmp_path / "out").iterdir()
    ]
    assert len(scores) == 2
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("file/out", "cannot write"),
        ("file", "file is a file, not a folder; choose another -o"),
        ("mine", "mine holds files that are no run of stnls; choose another -o"),
        ("/proc/none/out", "cannot write /proc/none/out.partial"),
        (".", "cannot be an output folder; choose another -o"),
    ],
)
def test_outputs_that_cannot_be(
    cli: Any, clip: Path, tmp_path: Path, output: str, words: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    refused(cli("align", clip, *QUICK, "-o", output), words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(cli: Any, clip: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    refused(cli("align", clip, *QUICK, "-o", locked / "out"), "Permission denied")
    unreadable = tmp_path / "in.mkv"
    shutil.copy(clip, unreadable)
    unreadable.chmod(0)
    refused(cli("align", unreadable, *QUICK), "cannot be read: Permission denied")


def test_unreadable_file(
    cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As above, also for root: the system call is made to fail."""
    real = Path.open

    def denied(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == clip:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", denied)
    refused(cli("align", clip, *QUICK), f"{clip}: cannot be read: Permission denied")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", ["aligned", "flow", "offsets", "video"])
def test_no_space(cli: Any, tmp_path: Path, save: str) -> None:
    """Files may not grow beyond 20 000 bytes: images, flows, offsets and videos are larger."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        write_image(folder / f"{index}.png", rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        ended = cli("align", folder, *QUICK, "--methods=shifted-nls", "-k9", f"--save={save}", "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    refused(ended, "cannot write ")
    assert "File too large" in ended.err
    # With space again the same command goes on to the end.
    ended = cli("align", folder, *QUICK, "--methods=shifted-nls", "-k9", f"--save={save}", "-q")
    assert (ended.code, ended.err) == (0, "")


def test_some_of_several(cli: Any, clip: Path, tmp_path: Path) -> None:
    ended = cli("align", tmp_path / "none.mp4", clip, *QUICK, "-q")
    assert ended.code == 1
    assert ended.lines == [
        f"stnls: {tmp_path}/none.mp4: no such file or folder",
        "stnls: 1 of 2 inputs failed",
    ]
    assert (tmp_path / "clip.stnls/report.json").is_file()
    ended = cli("align", tmp_path / "a.mp4", tmp_path / "b.mp4", *QUICK, "--json")
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 3)


def test_an_unexpected_error_is_one_line_too(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stnls_cli.matching

    other = tmp_path / "other.mkv"
    shutil.copy(clip, other)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("division by zero\nand more")

    monkeypatch.setattr(stnls_cli.matching.PairedSearch, "forward", broken)
    ended = cli("align", clip, *QUICK, "-q")
    refused(ended, "unexpected ZeroDivisionError: division by zero (a fault of stnls", code=1)
    # It ends one input, not all of them.
    ended = cli("align", clip, other, *QUICK, "-q")
    assert (ended.code, len(ended.lines)) == (2, 3)
    monkeypatch.setenv("STNLS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        align(clip, tmp_path / "out", flow="zero", ws=3, ps=3, wt=1)
    from stnls_cli.app import main

    with pytest.raises(ZeroDivisionError):
        main(["align", str(clip), *QUICK, "-q"])


def test_out_of_memory(cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import stnls_cli.matching

    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(stnls_cli.matching.PairedSearch, "forward", broken)
    refused(cli("align", clip, *QUICK, "-q"), "out of memory; a smaller --size needs less", code=1)


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
