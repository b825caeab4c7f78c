"""`align` on each difficult file of the shared footage: it works, or says why not in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stnls_cli.report import read_report

QUICK = ["--flow=zero", "--wt=1", "--ws=3", "--ps=3", "--methods=none,shifted-nls"]
QUICK += ["--metrics=psnr", "--save=none", "-o", "out"]

# name: frames aligned, or the error, with --frames 3
FILES: dict[str, int | str] = {
    "decord_corrupted.mp4": 3,  # damaged later
    "decord_unordered.mov": 3,
    "decord_video_180.mov": 3,
    "decord_video_90.mov": 3,
    "gen.gif": 3,
    "gen_1frame.mp4": "a single frame in the part asked for, so there is no neighbour to align; "
    "two frames or more are needed",
    "gen_audio_only.mp4": "no video stream, only audio",
    "gen_bitflips.mp4": 3,  # damaged later
    "gen_empty.mp4": "the file is empty (0 bytes)",
    "gen_gray16_png": 3,
    "gen_interlaced_tff.mp4": 3,
    "gen_not_a_video.mp4": "not a video that FFmpeg can read (Invalid data found when processing "
    "input); give a video file or a folder of frames",
    "gen_reschange.ts": 3,  # changes later
    "gen_static ünï çødé.mp4": 3,
    "gen_tiny16.mp4": 3,
    "gen_truncated_faststart.mp4": 3,  # ends later
    "gen_truncated_nomoov.mp4": "no index (its moov box is missing): the file is truncated or its "
    "recording never finished, and no frame of it can be read",
    "gen_vfr.mp4": 3,
    "moviepy_-video-with-dash-.mp4": "frames of 1x1 are smaller than the patch (--ps 3); give a "
    "smaller --ps or a larger --size",
    "moviepy_no_duration.webm": 3,
    "moviepy_transparent.webm": 3,
    "torchcodec_av1_video.mkv": 3,
    "torchcodec_h264_10bits.mp4": 3,
    "torchcodec_nasa_13013.mp4": 3,
}
# name: the error for the whole file, frames aligned with --allow-damaged, the first damage
WHOLE = {
    "decord_corrupted.mp4": (
        "damaged in the middle: 28 of 50 frames could be read before the first error",
        49,
        "1 packet could not be decoded, the first after 28 frames",
    ),
    "gen_truncated_faststart.mp4": (
        "truncated: 12 of 30 frames could be read",
        14,
        "1 packet could not be decoded, the first after 12 frames",
    ),
    "gen_bitflips.mp4": (
        "damaged in the middle: frame 4 has errors, 4 of 30 frames could be read before it",
        30,
        "19 frames decoded with concealed errors: 4-5, 7",
    ),
    "gen_reschange.ts": (
        "the size changes mid-stream: frame 8 is 640x360 after 854x480",
        16,
        "8 frames of another size were resized, the first is frame 8: 640x360 after 854x480",
    ),
}


@pytest.fixture(scope="module")
def odd(shared: Path) -> Path:
    folder = shared / "data/odd"
    if not folder.is_dir():
        pytest.skip(f"no footage in {folder}")
    return folder


def test_every_file_is_in_the_table(odd: Path) -> None:
    assert {path.name for path in odd.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_three_frames(cli: Any, tmp_path: Path, odd: Path, name: str) -> None:
    ended = cli("align", odd / name, *QUICK, "--frames=3")
    expected = FILES[name]
    assert ended.out == ""
    if isinstance(expected, str):
        assert ended.code == 2
        assert ended.lines == [f"stnls: {odd / name}: {expected}"]
        assert list(tmp_path.iterdir()) == []
        return
    assert ended.code == 0
    report = read_report(tmp_path / "out")
    assert report.input.frames == expected
    assert len(report.rows) == 2 * 4
    assert all(row.psnr is not None for row in report.rows)
    assert report.input.damage == ()


@pytest.mark.parametrize("name", WHOLE)
def test_whole_damaged_files(cli: Any, tmp_path: Path, odd: Path, name: str) -> None:
    error, frames, damage = WHOLE[name]
    arguments = ["align", odd / name, *QUICK, "--size=32x20", "-q"]
    ended = cli(*arguments)
    assert ended.code == 2
    (line,) = ended.lines
    assert line.startswith(f"stnls: {odd / name}: {error}")
    ended = cli(*arguments, "--allow-damaged")
    assert (ended.code, ended.err) == (0, "")
    report = read_report(tmp_path / "out")
    assert report.input.frames == frames
    assert report.input.damage[0].startswith(damage)
    assert len({row.t for row in report.rows}) == frames
