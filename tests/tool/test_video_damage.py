"""Input that is missing, wrong or damaged: one line each, and what decodes on request."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stnls_cli.errors import UserError
from stnls_cli.video import open_clip, write_image
from stnls_cli.video.damage import DamageLog, ranges

SHORT_GOP = {"x264-params": "keyint=6:bframes=2"}
FASTSTART = {"movflags": "faststart"}
GO_ON = "--allow-damaged goes on with what decodes"


def message(path: Path, **options: Any) -> tuple[int, str]:
    """Frames read before the error, and its text."""
    count = 0

    def read() -> None:
        nonlocal count
        with open_clip(path, **options) as clip:
            for _ in clip:
                count += 1

    with pytest.raises(UserError) as caught:
        read()
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return count, text


def salvage(path: Path, left_out: int | None = None, **options: Any) -> tuple[list[Any], list[str]]:
    with open_clip(path, allow_damaged=True, **options) as clip:
        frames = list(clip)
        count = len(frames) + (left_out is not None)
        assert [f.index for f in frames] == [i for i in range(count) if i != left_out]
        return frames, clip.damage


def cut(path: Path, size: float) -> Path:
    """The first part of a file: a share of its bytes, or that many when above 1."""
    data = path.read_bytes()
    shorter = path.with_name(f"cut_{path.name}")
    shorter.write_bytes(data[: int(size if size > 1 else size * len(data))])
    return shorter


def test_nothing_there(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    assert message(path) == (0, f"{path}: no such file or folder")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert message(empty) == (0, f"{empty}: the file is empty (0 bytes)")
    device = Path("/dev/null")
    assert message(device) == (0, "/dev/null: neither a file nor a folder")


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a.avi"])
def test_not_a_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("only words, many of them\n" * 50)
    assert message(path)[1].startswith(f"{path}: not a video")


def test_bad_options(tmp_path: Path) -> None:
    assert message(tmp_path, start=-1)[1] == "--start -1: must be 0 or more"
    assert message(tmp_path, frames=0)[1] == "--frames 0: must be 1 or more"
    assert message(tmp_path, size=(0, 5))[1] == "--size 0x5: must be 1x1 or more"
    assert "a folder of frames has no streams" in message(tmp_path, stream=0)[1]


def test_audio_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(stream.encode(sound))
    assert message(path) == (0, f"{path}: no video stream, only audio")


@pytest.mark.parametrize("start", [10, 11, 500])
def test_start_beyond_the_end(tmp_path: Path, encode: Any, textured: Any, start: int) -> None:
    path = encode(tmp_path / "a.mp4", textured(10))
    assert message(path, start=start) == (
        0,
        f"{path}: --start {start} is beyond the end: the clip has 10 frames, counted from 0",
    )


def test_no_index(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = cut(encode(tmp_path / "a.mp4", textured(10)), 0.5)
    assert message(path) == (
        0,
        f"{path}: no index (its moov box is missing): the file is truncated or its recording "
        "never finished, and no frame of it can be read",
    )


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "promised"),
    [
        ("a.mp4", "libx264", "yuv420p", 24),
        ("frag.mp4", "libx264", "yuv420p", None),
        ("a.mkv", "libx264", "yuv420p", None),
        ("a.ts", "libx264", "yuv420p", None),
        ("a.webm", "libvpx-vp9", "yuv420p", None),
        ("live.webm", "libvpx", "yuv420p", None),
        ("a.y4m", "wrapped_avframe", "yuv422p", None),
        ("a.mpg", "mpeg2video", "yuv420p", None),
        ("a.avi", "mjpeg", "yuvj420p", 24),
        ("raw.avi", "rawvideo", "bgr24", 24),
        ("a.nut", "ffv1", "bgr0", None),
        ("a.flv", "flv", "yuv420p", None),
        ("a.gif", "gif", "rgb8", None),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_truncated(
    tmp_path: Path,
    encode: Any,
    textured: Any,
    name: str,
    codec: str,
    pixel_format: str,
    promised: int | None,
    share: float,
) -> None:
    whole = encode(
        tmp_path / name,
        textured(24),
        codec=codec,
        pixel_format=pixel_format,
        options=SHORT_GOP if codec == "libx264" else {},
        container_options={"movflags": "frag_keyframe+empty_moov"}
        if name == "frag.mp4"
        else FASTSTART
        if name.endswith("mp4")
        else {"live": "1"}
        if name == "live.webm"
        else {},
    )
    # Within a packet: between two of them a transport stream looks whole, and its length differs
    # from one encoding to the next.
    path = cut(whole, int(share * whole.stat().st_size) // 188 * 188 + 94)
    count, text = message(path)
    assert 1 <= count < 24
    of = f" of {promised}" if promised else ""
    wanted = [f"{path}: truncated: {count}{of} frames could be read; {GO_ON}"]
    if name == "a.ts":
        # Without an index: whether FFmpeg still gives the cut frame, concealed, or none at all
        # depends on how its threads meet.
        before = f"{count} frames could be read before it"
        wanted.append(f"{path}: damaged: frame {count} has errors, {before}; {GO_ON}")
    assert text in wanted
    frames, damage = salvage(path)
    assert count <= len(frames) < 24
    assert damage
    # Up to the break the frames are those of the whole file.
    with open_clip(whole) as clip:
        for frame, good, _ in zip(frames, clip, range(count - 1), strict=False):
            assert np.array_equal(frame.rgb, good.rgb)
    # A part that lies before the break is no error.
    with open_clip(path, frames=count - 1) as clip:
        assert len(list(clip)) == count - 1
        assert clip.damage == []


def test_cut_before_the_first_frame(tmp_path: Path, encode: Any, textured: Any) -> None:
    whole = encode(tmp_path / "a.mkv", textured(4), codec="ffv1", pixel_format="bgr0")
    path = cut(whole, 700)
    assert message(path) == (0, f"{path}: truncated: no frame could be read")
    assert message(path, allow_damaged=True)[1] == f"{path}: truncated: no frame could be read"
    whole = encode(tmp_path / "a.mp4", textured(4), container_options=FASTSTART)
    path = cut(whole, 300)
    assert message(path)[1].startswith(f"{path}: truncated: 300 of ")


def test_avi_that_lost_only_its_index_is_whole(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = cut(encode(tmp_path / "a.avi", textured(24), codec="mpeg4"), 0.98)
    with open_clip(path) as clip:
        assert len(list(clip)) == 24
        assert clip.damage == []


def test_edit_list_is_no_truncation(tmp_path: Path, encode: Any, textured: Any) -> None:
    source = encode(tmp_path / "a.mp4", textured(24), options=SHORT_GOP)
    path = tmp_path / "trimmed.mp4"
    with (
        av.open(str(source)) as whole,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as trimmed,
    ):
        stream = whole.streams.video[0]
        out = trimmed.add_stream_from_template(stream)
        hidden = int(Fraction(5, 25) / stream.time_base)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts -= hidden
                packet.dts -= hidden
                packet.stream = out
                trimmed.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 24
    with open_clip(path) as clip, open_clip(source, start=5) as wanted:
        assert clip.info.frames_expected == 19
        frames = list(clip)
        assert len(frames) == 19
        assert clip.damage == []
        assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, wanted, strict=True))


def packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def test_concealed_errors(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = encode(tmp_path / "a.avi", textured(12), codec="mpeg4", options={"g": "4"})
    place, size = packet_places(path)[5]
    data = bytearray(path.read_bytes())
    data[place + size // 2 : place + size // 2 + 40] = b"\xff" * 40
    path.write_bytes(data)
    count, text = message(path)
    assert count == 5
    assert text == (
        f"{path}: damaged in the middle: frame 5 has errors, 5 of 12 frames could be read before "
        f"it; {GO_ON}"
    )
    frames, damage = salvage(path)
    assert len(frames) == 12
    bad = [f.index for f in frames if f.corrupt]
    assert 5 in bad
    noun = "frame" if len(bad) == 1 else "frames"
    assert damage == [f"{len(bad)} {noun} decoded with concealed errors: {ranges(bad)}"]
    # What comes before the damage can be had without the option.
    with open_clip(path, frames=5) as clip:
        assert len(list(clip)) == 5


@pytest.mark.parametrize(("bad", "where"), [(0, "at the start"), (5, "in the middle")])
def test_undecodable_packet(
    tmp_path: Path, encode: Any, textured: Any, bad: int, where: str
) -> None:
    path = encode(tmp_path / "a.mov", textured(12), codec="png", pixel_format="rgb24")
    place, size = packet_places(path)[bad]
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    words = f"damaged {where}: {bad} of 12 frames could be read before the first error; {GO_ON}"
    assert message(path) == (bad, f"{path}: {words}")
    frames, damage = salvage(path)
    assert len(frames) == 11
    assert damage == [f"1 packet could not be decoded, the first after {bad} frames"]
    # Frames keep their own times: the hole stays visible.
    assert frames[bad].time == pytest.approx((bad + 1) / 25)


def test_size_change(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = encode(tmp_path / "large.ts", textured(4))
    small = encode(tmp_path / "small.ts", textured(3, 32, 48))
    path.write_bytes(path.read_bytes() + small.read_bytes())
    assert message(path) == (
        4,
        f"{path}: the size changes mid-stream: frame 4 is 48x32 after 96x64; "
        "take the part before it with --frames 4",
    )
    frames, damage = salvage(path)
    assert [f.rgb.shape for f in frames] == [(64, 96, 3)] * 7
    assert damage == [
        "3 frames of another size were resized, the first is frame 4: 48x32 after 96x64"
    ]
    with open_clip(path, frames=4) as clip:
        assert len(list(clip)) == 4


def test_folders(tmp_path: Path, textured: Any) -> None:
    assert message(tmp_path)[1].startswith(f"{tmp_path}: a folder without frames (looked for .bmp")
    scene = textured(4)
    for index, rgb in enumerate(scene):
        write_image(tmp_path / f"{index}.png", rgb)
    assert message(tmp_path, start=4) == (
        0,
        f"{tmp_path}: --start 4 is beyond the end: the folder has 4 frames, counted from 0",
    )
    write_image(tmp_path / "3.png", scene[3][:32])
    assert message(tmp_path) == (
        0,
        f"{tmp_path}: frames of unequal size: 0.png is 96x64, 3.png is 96x32",
    )
    with open_clip(tmp_path, frames=3) as clip:
        assert len(list(clip)) == 3
    (tmp_path / "3.png").rename(tmp_path / "3.bmp")
    assert message(tmp_path) == (
        0,
        f"{tmp_path}: frames of several kinds (1 bmp, 3 png): keep one kind in the folder",
    )


@pytest.mark.parametrize("bad", [0, 1])
def test_folder_with_a_broken_frame(tmp_path: Path, textured: Any, bad: int) -> None:
    for index, rgb in enumerate(textured(3)):
        write_image(tmp_path / f"{index}.png", rgb)
    path = tmp_path / f"{bad}.png"
    path.write_bytes(b"no picture")
    text = f"{path}: not an image that FFmpeg can decode"
    assert message(tmp_path) == (bad, f"{text}; --allow-damaged leaves it out")
    frames, damage = salvage(tmp_path, left_out=bad)
    assert len(frames) == 2
    assert damage == [f"left out: {text}"]


@pytest.mark.parametrize(("codec", "suffix"), [("png", "png"), ("mjpeg", "jpg")])
def test_folder_with_a_truncated_image(
    tmp_path: Path, textured: Any, codec: str, suffix: str
) -> None:
    for index, rgb in enumerate(textured(2)):
        context: Any = av.CodecContext.create(codec, "w")
        context.height, context.width = rgb.shape[:2]
        context.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        context.time_base = Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=context.pix_fmt)
        packets = [*context.encode(frame), *context.encode(None)]
        data = b"".join(bytes(p) for p in packets)
        (tmp_path / f"{index}.{suffix}").write_bytes(data if index == 0 else data[: len(data) // 2])
    count, text = message(tmp_path)
    assert count == 1
    assert text.startswith(f"{tmp_path / f'1.{suffix}'}: ")
    assert len(salvage(tmp_path)[0]) == 1


def test_ffmpeg_says_nothing_itself(tmp_path: Path, encode: Any, textured: Any) -> None:
    path = encode(tmp_path / "a.mp4", textured(12), container_options=FASTSTART)
    program = (
        "import sys; from stnls_cli.video import open_clip\n"
        "print(len(list(open_clip(sys.argv[1], allow_damaged=True))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(cut(path, 0.7))],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 1 <= int(done.stdout) < 12


def test_damage_log() -> None:
    assert DamageLog().lines() == []
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert ranges(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10, 12, 14 and 12 more"
