"""Reading healthy clips: files of many kinds and folders of frames."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from stnls_cli.errors import UserError
from stnls_cli.video import clip_digest, open_clip, write_image
from stnls_cli.video.folder import list_frames

SHORT_GOP = {"x264-params": "keyint=6:bframes=2"}
LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}


def read(path: Path, **options: Any) -> list[Any]:
    with open_clip(path, **options) as clip:
        frames = list(clip)
        assert clip.damage == []
    return frames


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "counted"),
    [
        ("a.mp4", "libx264", "yuv420p", True),
        ("a.mkv", "libx264", "yuv444p", False),
        ("a.ts", "libx264", "yuv420p", False),
        ("a.avi", "mpeg4", "yuv420p", True),
        ("a.mpg", "mpeg2video", "yuv420p", False),
        ("a.mov", "prores_ks", "yuv422p10le", True),
        ("mjpeg.avi", "mjpeg", "yuvj420p", True),
        ("raw.avi", "rawvideo", "bgr24", True),
        ("a.webm", "libvpx-vp9", "yuv420p", False),
        ("ffv1.mkv", "ffv1", "yuv420p10le", False),
    ],
)
def test_every_frame_of_a_healthy_file(
    tmp_path: Path,
    encode: Any,
    textured: Any,
    name: str,
    codec: str,
    pixel_format: str,
    counted: bool,
) -> None:
    scene = textured(20)
    options = SHORT_GOP if codec == "libx264" else {}
    path = encode(tmp_path / name, scene, codec=codec, pixel_format=pixel_format, options=options)
    with open_clip(path) as clip:
        assert (clip.info.width, clip.info.height) == (96, 64)
        assert clip.info.frames_expected == (20 if counted else None)
        assert clip.info.rate == 25
        assert clip.info.pixel_format == pixel_format
        frames = list(clip)
        assert clip.damage == []
    assert [f.index for f in frames] == list(range(20))
    deep = "10" in pixel_format
    assert clip.info.bit_depth == (10 if deep else 8)
    assert all(f.rgb.dtype == (np.float32 if deep else np.uint8) for f in frames)
    steps = np.diff([f.time for f in frames])
    assert np.allclose(steps, 1 / 25, atol=1e-3)
    # The picture is the scene, frame by frame: coding loss is less than one frame's motion.
    for t in (3, 11):
        errors = [np.abs(frames[t].rgb.astype(float) - other).mean() for other in scene]
        assert int(np.argmin(errors)) == t


def test_lossless_rgb_is_exact(tmp_path: Path, encode: Any, textured: Any) -> None:
    scene = textured(5)
    frames = read(encode(tmp_path / "a.mkv", scene, **LOSSLESS))
    assert all(np.array_equal(f.rgb, rgb) for f, rgb in zip(frames, scene, strict=True))


@pytest.mark.parametrize("start", [0, 1, 7, 13, 19])
@pytest.mark.parametrize("count", [None, 1, 4, 100])
def test_start_and_frames_are_exact(
    tmp_path: Path, encode: Any, textured: Any, start: int, count: int | None
) -> None:
    path = encode(tmp_path / "a.mp4", textured(20), options=SHORT_GOP)
    whole = read(path)
    with open_clip(path, start=start, frames=count) as clip:
        part = list(clip)
    wanted = whole[start : None if count is None else start + count]
    assert clip.info.frames_expected == len(wanted)
    assert [f.index for f in part] == [f.index for f in wanted]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(part, wanted, strict=True))


def test_size(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = encode(tmp_path / "a.mkv", textured(2), **LOSSLESS)
    with open_clip(path, size=(48, 32)) as clip:
        info = clip.info
        frames = list(clip)
    assert (info.width, info.height, info.source_width, info.source_height) == (48, 32, 96, 64)
    assert "resized from 96x64 to 48x32 (swscale, bicubic)" in info.notes
    with open_clip(path, size=(96, 64)) as clip:
        assert not any("resized" in note for note in clip.info.notes)
    averaged = read(path)[0].rgb.astype(float).reshape(32, 2, 48, 2, 3).mean((1, 3))
    assert frames[0].rgb.shape == (32, 48, 3)
    assert np.abs(frames[0].rgb - averaged).mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 17), (97, 63)])
def test_odd_sizes(tmp_path: Path, encode: Any, textured: Any, size: tuple[int, int]) -> None:
    width, height = size
    path = encode(
        tmp_path / "a.avi", textured(3, height, width), codec="rawvideo", pixel_format="yuv420p"
    )
    assert [f.rgb.shape for f in read(path)] == [(height, width, 3)] * 3


needs_display_matrix = pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="PyAV before 18 cannot write it"
)


@needs_display_matrix
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("anticlockwise", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [None, (31, 21)])
def test_rotation_and_mirroring(
    tmp_path: Path,
    encode: Any,
    textured: Any,
    anticlockwise: int,
    flip: bool,
    size: tuple[int, int] | None,
) -> None:
    scene = textured(2)
    path = encode(
        tmp_path / "a.mov",
        scene,
        codec="png",
        pixel_format="rgb24",
        setup=lambda stream: stream.set_display_rotation(anticlockwise, hflip=flip),
    )
    shown = np.rot90(scene[1], anticlockwise // 90)
    shown = shown[:, ::-1] if flip else shown
    with open_clip(path, size=size) as clip:
        info, frames = clip.info, list(clip)
    height, width = size[::-1] if size else shown.shape[:2]
    assert (info.width, info.height) == (width, height)
    assert (info.source_width, info.source_height) == (96, 64)
    assert frames[1].rgb.shape == (height, width, 3)
    assert frames[1].rgb.flags.c_contiguous
    if size is None:
        assert np.array_equal(frames[1].rgb, shown)
    assert any("metadata" in note for note in info.notes) == (anticlockwise != 0 or flip)


def test_variable_rate_and_pixel_aspect_are_said(
    tmp_path: Path, encode: Any, textured: Any
) -> None:
    times = [0, 1, 2, 5, 6, 7, 11, 12, 13, 14]
    path = encode(
        tmp_path / "a.mp4",
        textured(10),
        times=times,
        setup=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(4, 3)),
    )
    with open_clip(path) as clip:
        notes, frames = clip.info.notes, list(clip)
    assert np.allclose([f.time for f in frames], np.array(times) / 25)
    assert "pixel aspect 4:3 ignored, pixels taken as square" in notes
    assert any(note.startswith("variable frame rate") for note in notes)


def test_interlaced_and_alpha_are_said(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = encode(tmp_path / "i.mp4", textured(4), options={"x264-params": "tff=1"})
    with open_clip(path) as clip:
        # PyAV before 18 does not tell the field order.
        known = hasattr(av.VideoCodecContext, "field_order")
        order = " (top field first)" if known else ""
        assert f"interlaced{order}: fields are not separated" in clip.info.notes
    path = encode(tmp_path / "a.mkv", textured(4), codec="ffv1", pixel_format="bgra")
    with open_clip(path) as clip:
        assert "alpha dropped" in clip.info.notes
        assert np.array_equal(next(iter(clip)).rgb, textured(4)[0])


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_a_palette_may_have_no_alpha(tmp_path: Path, textured: Any, name: str) -> None:
    frame = Image.fromarray(textured(1)[0]).convert("P")
    path = tmp_path / "frames" / name
    path.parent.mkdir()
    frame.save(path, save_all=True, append_images=[frame]) if name == "a.gif" else frame.save(path)
    with open_clip(path if name == "a.gif" else path.parent) as clip:
        assert "alpha dropped where there is any" in clip.info.notes


@pytest.fixture
def two_streams(tmp_path: Path, textured: Any) -> Path:
    """Stream 0: audio; 1: video 32x16; 2: video 96x64."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as container:
        audio: Any = container.add_stream("pcm_s16le", rate=8000)
        small: Any = container.add_stream("ffv1", rate=25)
        large: Any = container.add_stream("ffv1", rate=25)
        for stream, (width, height) in ((small, (32, 16)), (large, (96, 64))):
            stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        large.disposition = Disposition.default
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(audio.encode(sound))
        for index in range(4):
            for stream in (small, large):
                rgb = textured(4, stream.height, stream.width)[index]
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="bgr0")
                frame.pts = index
                container.mux(stream.encode(frame))
        for stream in (audio, small, large):
            container.mux(stream.encode(None))
    return path


def test_best_stream_is_named_and_another_can_be_taken(two_streams: Path) -> None:
    with open_clip(two_streams) as clip:
        assert (clip.info.stream, clip.info.width) == (2, 96)
        assert "video stream 2 (ffv1 96x64) of several; not read: 1 (ffv1 32x16)" in clip.info.notes
        assert len(list(clip)) == 4
    with open_clip(two_streams, stream=1) as clip:
        assert (clip.info.stream, clip.info.width) == (1, 32)
        assert [f.rgb.shape for f in clip] == [(16, 32, 3)] * 4


@pytest.mark.parametrize(("number", "wrong"), [(0, "is audio, not video"), (7, "does not exist")])
def test_stream_that_is_no_video(two_streams: Path, number: int, wrong: str) -> None:
    with pytest.raises(UserError) as caught:
        open_clip(two_streams, stream=number)
    assert str(caught.value) == (
        f"{two_streams}: stream {number} {wrong}; video streams: 1 (ffv1 32x16), 2 (ffv1 96x64)"
    )


def test_a_clip_is_read_once(tmp_path: Path, encode: Any, textured: Any) -> None:
    clip = open_clip(encode(tmp_path / "a.mkv", textured(2), **LOSSLESS))
    assert len(list(clip)) == 2
    with pytest.raises(RuntimeError, match="read once"):
        iter(clip)
    clip.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path, encode: Any, textured: Any) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    path = encode(tmp_path / "a.avi", textured(12, 480, 640) * 15, codec="mpeg4")
    # Frames must go when they are let go of, not when the garbage collector finds them.
    gc.disable()
    try:
        with open_clip(path) as clip:
            sizes = [resident() for frame in clip if frame.index >= 30]
    finally:
        gc.enable()
    assert len(sizes) == 150
    assert sizes[-1] - sizes[0] < 10 << 20  # 150 decoded frames are 66 MiB


def test_names_with_colons_spaces_and_percent(tmp_path: Path, encode: Any, textured: Any) -> None:
    source = encode(tmp_path / "a.mkv", textured(2), **LOSSLESS)
    for name in ("a:b.mkv", "http: x.mkv", "-dash %03d ü.mkv"):
        path = source.rename(tmp_path / name)
        assert len(read(path)) == 2
        source = path


Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, textured: Any) -> Folder:
    def make(names: list[str], format: str = "png") -> Path:
        home = tmp_path / "frames"
        home.mkdir(exist_ok=True)
        for name, rgb in zip(names, textured(len(names)), strict=True):
            write_image(home / name, rgb, format)
        return home

    return make


def test_folder_in_natural_order(folder: Folder, textured: Any) -> None:
    names = [f"f{i}.png" for i in range(12)]
    home = folder(names)
    (home / "notes.txt").write_text("not a frame")
    (home / ".hidden.png").write_bytes(b"not a frame either")
    assert [f.name for f in list_frames(home)] == names
    with open_clip(home, start=1, frames=10) as clip:
        info, frames = clip.info, list(clip)
    assert (info.stem, info.rate, info.stream, info.frames_expected) == ("frames", None, None, 10)
    assert [f.index for f in frames] == list(range(1, 11))
    assert [f.time for f in frames] == [None] * 10
    assert all(np.array_equal(f.rgb, rgb) for f, rgb in zip(frames, textured(12)[1:], strict=False))


def test_folder_of_16_bit_frames(folder: Folder) -> None:
    with open_clip(folder(["0.png", "1.png"], "png16")) as clip:
        assert (clip.info.bit_depth, clip.info.pixel_format) == (16, "rgb48be")
        assert all(f.rgb.dtype == np.float32 for f in clip)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        ("bmp", "bmp", "bgr24"),
        ("tif", "tiff", "rgb24"),
        ("ppm", "ppm", "rgb24"),
        ("webp", "libwebp", "bgra"),
        ("pgm", "pgm", "gray"),
        ("jpg", "mjpeg", "yuvj444p"),
    ],
)
def test_kinds_of_images(
    tmp_path: Path, textured: Any, suffix: str, codec: str, pixel_format: str
) -> None:
    scene = textured(2)
    for index, rgb in enumerate(scene):
        context: Any = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt = 96, 64, pixel_format
        context.time_base = Fraction(1, 25)
        if codec == "libwebp":
            context.options = {"lossless": "1"}
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
            format=pixel_format, dst_color_range=2
        )
        packets = [*context.encode(frame), *context.encode(None)]
        (tmp_path / f"{index}.{suffix}").write_bytes(b"".join(bytes(p) for p in packets))
    frames = read(tmp_path)
    assert len(frames) == 2
    for frame, rgb in zip(frames, scene, strict=True):
        wanted = rgb.astype(float) @ [0.299, 0.587, 0.114] if suffix == "pgm" else rgb
        got = frame.rgb[..., 0] if suffix == "pgm" else frame.rgb
        assert np.abs(got.astype(float) - wanted).mean() < (4 if suffix in ("jpg", "pgm") else 1e-9)


def test_digest(tmp_path: Path, folder: Folder) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert clip_digest(file) == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    home = folder(["0.png", "1.png"])
    before = clip_digest(home)
    (home / "readme.txt").write_text("does not count")
    assert clip_digest(home) == before
    (home / "1.png").rename(home / "2.png")
    assert clip_digest(home) != before
