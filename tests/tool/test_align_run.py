"""What `align` takes: files, folders, parts of clips, and the neighbours at their ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import stnls_cli
from stnls_cli import UserError, align
from stnls_cli.flow import open_flow_source
from stnls_cli.timings import Timings
from stnls_cli.video import open_clip, write_image
from stnls_cli.window import TemporalWindow

QUICK: dict[str, Any] = {
    "flow": "zero",
    "ws": 3,
    "ps": 3,
    "wt": 1,
    "methods": "none,shifted-nls",
    "metrics": "psnr",
}


def pairs(report: Any) -> list[tuple[int, int]]:
    return sorted({(row.t, row.dt) for row in report.rows})


def test_every_pair_inside_the_clip(tmp_path: Path, clip: Path) -> None:
    report = align(clip, tmp_path / "out", **{**QUICK, "wt": 2})
    expected = [(t, dt) for t in range(6) for dt in (-2, -1, 1, 2) if 0 <= t + dt < 6]
    assert pairs(report) == expected
    assert len(report.rows) == 2 * len(expected)
    assert report.input.frames == 6
    assert report.input.notes == ()
    images = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.rglob("*.png"))
    assert images == sorted(f"aligned/dt{dt:+d}/{t:05d}.png" for t, dt in expected)


@pytest.mark.parametrize("wt", [3, 5, 9])
def test_a_clip_shorter_than_the_window_works_and_says_so(
    tmp_path: Path, clip: Path, cli: Any, wt: int
) -> None:
    options = ["--flow=zero", "--ws=3", "--ps=3", "--metrics=psnr", f"--wt={wt}", "-o", "out"]
    ended = cli("align", clip, *options)
    assert ended.code == 0
    words = f"6 frames are fewer than 2*wt+1 = {2 * wt + 1}: every frame has fewer neighbours"
    assert f"clip.mkv: {words}" in ended.lines
    report = stnls_cli.report.read_report(tmp_path / "out")
    assert report.input.notes == (words,)
    assert pairs(report) == [
        (t, dt) for t in range(6) for dt in range(-wt, wt + 1) if dt and 0 <= t + dt < 6
    ]


@pytest.mark.parametrize("given", [{}, {"methods": "none"}, {"threads": 1}])
@pytest.mark.parametrize(("frames", "wt"), [(3, 2), (4, 2), (5, 2), (6, 2), (5, 3)])
def test_only_a_shorter_clip_is_called_so(
    tmp_path: Path, clip: Path, given: dict[str, Any], frames: int, wt: int
) -> None:
    """However few frames are read before the first is aligned."""
    options = {"flow": "zero", "ws": 3, "ps": 3, "metrics": "psnr", "save": "none", **given}
    report = align(clip, tmp_path / "out", frames=frames, wt=wt, **options)
    said = [note for note in report.input.notes if "fewer" in note]
    assert bool(said) == (frames < 2 * wt + 1)


def test_start_and_frames_count_in_the_source(tmp_path: Path, clip: Path) -> None:
    report = align(clip, tmp_path / "part", start=2, frames=3, **QUICK)
    assert pairs(report) == [(2, 1), (3, -1), (3, 1), (4, -1)]
    assert report.input.frames == 3
    whole = align(clip, tmp_path / "whole", **QUICK)
    there = {(row.t, row.dt, row.method): row.psnr for row in whole.rows}
    assert {(row.t, row.dt, row.method): row.psnr for row in report.rows}.items() <= there.items()
    name = "aligned/dt+1/00003.png"
    assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    more = align(clip, tmp_path / "more", start=4, frames=99, **QUICK)
    assert pairs(more) == [(4, 1), (5, -1)]


def test_the_same_noise_wherever_a_run_starts(tmp_path: Path, clip: Path) -> None:
    noisy = {**QUICK, "wt": 2, "flow": "dis", "sigma": 15, "seed": 4, "format": "npy"}
    whole = align(clip, tmp_path / "whole", **noisy)
    part = align(clip, tmp_path / "part", start=2, **noisy)
    there = {(row.t, row.dt, row.method): row for row in whole.rows}
    assert len(part.rows) == 2 * 10
    assert all(there[row.t, row.dt, row.method] == row for row in part.rows)
    for path in (tmp_path / "part").rglob("*.npy"):
        same = tmp_path / "whole" / path.relative_to(tmp_path / "part")
        assert path.read_bytes() == same.read_bytes()
    other = align(clip, tmp_path / "other", **{**noisy, "seed": 5})
    clean = align(clip, tmp_path / "clean", **{**noisy, "sigma": 0})
    unseeded = align(clip, tmp_path / "unseeded", **{**noisy, "sigma": 0, "seed": 9})

    def scores(report: Any) -> list[float]:
        return [row.psnr for row in report.rows]

    assert scores(clean) == scores(unseeded)
    assert len({tuple(scores(report)) for report in (whole, other, clean)}) == 3
    # No alignment, no noise: measured on the clean frames.
    none = [[row.psnr for row in r.rows if row.method == "none"] for r in (whole, other, clean)]
    assert none[0] == none[1] == none[2]


def test_size(tmp_path: Path, clip: Path) -> None:
    report = align(clip, tmp_path / "out", size="31X17", **QUICK)
    record = report.input
    assert (record.width, record.height) == (31, 17)
    assert (record.source_width, record.source_height) == (48, 32)
    assert record.notes == ("resized from 48x32 to 31x17 (swscale, bicubic)",)
    with open_clip(tmp_path / "out/aligned/dt+1") as images:
        assert (images.info.width, images.info.height) == (31, 17)
    again = align(clip, tmp_path / "out", size="31x17", **QUICK)
    assert again == report


def test_folder_of_frames_is_the_video(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "shot.v1"
    folder.mkdir()
    with open_clip(clip) as frames:
        for frame in frames:
            write_image(folder / f"{frame.index + 7}.png", frame.rgb)
    video = align(clip, tmp_path / "video", **QUICK)
    report = align(folder, tmp_path / "folder", **QUICK)
    assert [row.psnr for row in report.rows] == [row.psnr for row in video.rows]
    assert report.input.clip == "shot.v1"
    assert report.input.rate is None


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size", "depth", "note"),
    [
        ("libx264", "yuv420p", (32, 48), 8, "colour range unspecified"),
        ("ffv1", "gray", (31, 33), 8, ""),
        ("ffv1", "gray16le", (31, 33), 16, ""),
        ("libx264", "yuv420p10le", (32, 48), 10, "colour matrix unspecified"),
        ("ffv1", "bgra", (17, 19), 8, "alpha dropped"),
        ("ffv1", "yuv444p", (16, 33), 8, "colour range unspecified"),
    ],
)
def test_kinds_of_pixels(
    tmp_path: Path,
    textured: Any,
    encode: Any,
    codec: str,
    pixel_format: str,
    size: tuple[int, int],
    depth: int,
    note: str,
) -> None:
    path = encode(tmp_path / "in.mkv", textured(3, *size), codec=codec, pixel_format=pixel_format)
    report = align(path, tmp_path / "out", **{**QUICK, "flow": "dis", "save": "aligned,video"})
    assert report.input.bit_depth == depth
    assert (report.input.height, report.input.width) == size
    assert any(note in line for line in report.input.notes) or not note
    assert len(report.rows) == 8
    with open_clip(tmp_path / "out/video/dt-1.mkv") as video:
        assert video.info.bit_depth == (8 if depth == 8 else 16)
        assert len(list(video)) == 2


def test_variable_rate_and_several_streams(
    tmp_path: Path, textured: Any, encode: Any, cli: Any
) -> None:
    import av

    path = encode(tmp_path / "vfr.mp4", textured(5, 32, 48), times=[0, 1, 9, 10, 14])
    report = align(path, tmp_path / "vfr", **QUICK)
    assert any(note.startswith("variable frame rate") for note in report.input.notes)
    assert report.input.frames == 5

    two = tmp_path / "two.mkv"
    with av.open(str(two), "w") as container:
        streams: list[Any] = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream, (height, width) in zip(streams, ((16, 24), (32, 48)), strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        for images in zip(textured(3, 16, 24), textured(3, 32, 48), strict=True):
            for stream, rgb in zip(streams, images, strict=True):
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="bgr0")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    quick = ["--flow=zero", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr", "--save=none"]
    ended = cli("align", two, *quick)
    assert "two.mkv: video stream 0 (ffv1 24x16) of several; not read: 1 (ffv1 48x32)" in ended.err
    ended = cli("align", two, *quick, "--stream", "1", "-o", "other")
    assert ended.code == 0
    assert stnls_cli.report.read_report(tmp_path / "other").input.width == 48


def test_rotation_is_applied(tmp_path: Path, shared: Path) -> None:
    path = shared / "data/odd/decord_video_90.mov"
    report = align(path, tmp_path / "out", size="24x40", **QUICK)
    assert any("rotated by 90 degrees clockwise" in note for note in report.input.notes)
    assert (report.input.source_width, report.input.source_height) == (568, 320)
    assert (report.input.width, report.input.height) == (24, 40)


def test_memory_holds_the_window_alone(clip: Path, tmp_path: Path, textured: Any) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    for index, rgb in enumerate(textured(40, 16, 16)):
        write_image(folder / f"{index:03d}.png", rgb)
    wt, ahead = 2, 3
    with (
        open_clip(folder) as frames,
        open_flow_source("farneback", height=16, width=16, threads=2) as source,
    ):
        window = TemporalWindow(
            frames,
            source,
            wt=wt,
            sigma=1.0,
            seed=0,
            device=torch.device("cpu"),
            ahead=ahead,
            done={3, 4, 20, 21, 22, 23, 24, 25},
            timings=Timings(torch.device("cpu")),
            on_frame=lambda: None,
            on_flow=lambda: None,
        )
        seen = []
        for t in window:
            seen.append(t)
            neighbours = window.neighbours(t)
            for dt in neighbours:
                assert window.picture(t + dt).clean.shape == (3, 16, 16)
                assert len(window.steps(t, dt)) == abs(dt)
            assert window.held <= 2 * wt + 1 + ahead
            assert len(window._seen) <= 1
            assert len(window._flows) + len(window._futures) <= 3 * wt + 2 * ahead
        assert seen == [t for t in range(40) if t not in (3, 4, 20, 21, 22, 23, 24, 25)]
        assert window.runs == [range(40)]


def test_the_whole_window_is_held_but_no_more(clip: Path) -> None:
    """The bound of the test above is reached: all of a short clip when the window covers it."""
    with open_clip(clip) as frames:
        window = TemporalWindow(
            frames,
            None,
            wt=2,
            sigma=0,
            seed=0,
            device=torch.device("cpu"),
            ahead=0,
            done=(),
            timings=Timings(torch.device("cpu")),
            on_frame=lambda: None,
            on_flow=lambda: None,
        )
        assert [(t, window.held) for t in window] == [
            (0, 5),
            (1, 5),
            (2, 5),
            (3, 5),
            (4, 4),
            (5, 3),
        ]


def test_from_python(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = align(str(clip), **QUICK)
    assert isinstance(one, stnls_cli.report.Report)
    assert (tmp_path / "clip.stnls/report.json").is_file()
    other = tmp_path / "other.mkv"
    shutil.copy(clip, other)
    several = align([clip, other], tmp_path / "all", **QUICK)
    assert [report.input.clip for report in several] == ["clip", "other"]
    assert (tmp_path / "all/other.stnls/report.json").is_file()
    each = align((clip, other), ["x", Path("y")], **QUICK)
    assert [report.rows for report in each] == [report.rows for report in several]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "all", "clip.stnls", "other.mkv", "x", "y",
    ]  # fmt: skip
    assert align([clip], "z", **QUICK)[0].rows == one.rows
    # The name stays the function's when the modules behind it are loaded.
    assert stnls_cli.align is align


def test_from_python_errors(tmp_path: Path, clip: Path, capfd: Any) -> None:
    with pytest.raises(UserError, match="--ws must be odd"):
        align(clip, tmp_path / "out", ws=4)
    with pytest.raises(UserError, match="no such file"):
        align([tmp_path / "none.mp4", clip], tmp_path / "out", **QUICK)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError, match="no option 'wss'; did you mean 'ws'"):
        align(clip, wss=3)
    for wrong in ({"ws": "9"}, {"ws": 9.0}, {"ws": True}, {"sigma": None}, {"save": [1]}):
        (name,) = wrong
        with pytest.raises(TypeError, match=f"^{name} must be "):
            align(clip, tmp_path / "out", **wrong)
    assert capfd.readouterr() == ("", "")


def test_from_python_numpy_numbers_and_paths(tmp_path: Path, clip: Path) -> None:
    flows = tmp_path / "flow.npz"
    zeros = np.zeros((6, 32, 48, 2), np.float32)
    np.savez(flows, forward=zeros, backward=zeros)
    options = {**QUICK, "ws": np.int64(3), "sigma": np.float32(2), "flow": flows}
    report = align(clip, tmp_path / "out", **options)
    assert (report.rows[1].ws, report.rows[1].sigma, report.rows[1].flow) == (3, 2.0, "flow.npz")
