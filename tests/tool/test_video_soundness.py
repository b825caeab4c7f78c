"""Damage inside a container, of which FFmpeg says nothing; and odd but sound containers."""

from __future__ import annotations

import functools
import re
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from outcome import refused

from stnls_cli.errors import UserError
from stnls_cli.report import read_report
from stnls_cli.video import open_clip
from stnls_cli.video.soundness import sound_until

FRAMES = 60
SHORT_GOP = {"x264-params": "keyint=10:bframes=3:qp=20", "g": "10"}
# name: codec, pixel format, options of the container
KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "a.mkv": ("libx264", "yuv420p", {}),
    "a.webm": ("libvpx-vp9", "yuv420p", {}),
    "a.ts": ("libx264", "yuv420p", {}),
    "a.m2ts": ("libx264", "yuv420p", {}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {}),
    "a.flv": ("libx264", "yuv420p", {}),
    "a.avi": ("mpeg4", "yuv420p", {}),
    "a.mp4": ("libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "no_sums.mkv": ("libx264", "yuv420p", {"write_crc32": "0"}),
    "live.mkv": ("libx264", "yuv420p", {"live": "1"}),
    "small_clusters.mkv": ("libx264", "yuv420p", {"cluster_time_limit": "40"}),
    "index_first.mkv": ("libx264", "yuv420p", {"reserve_index_space": "50000"}),
    "constant_rate.ts": ("libx264", "yuv420p", {"muxrate": "3000000"}),
}
AUDIO = {"a.webm": "libopus", "a.m2ts": "ac3", "mpeg2.ts": "mp2", "a.avi": "mp2"}


def make(
    folder: Path, name: str, *, sound: bool = True, times: list[int] | None = None, videos: int = 1
) -> Path:
    """Frames with fine texture, so that a hole of 4 KiB is a few of them; `times` in 1/25 s."""
    codec, pixel_format, options = KINDS[name]
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (30, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    path = folder / name
    with av.open(str(path), "w", options=options) as container:
        streams: list[Any] = []
        for _ in range(videos):
            stream: Any = container.add_stream(codec, rate=25, options=SHORT_GOP)
            stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
            stream.codec_context.time_base = Fraction(1, 25)
            streams.append(stream)
        audio: Any = container.add_stream(AUDIO.get(name, "aac"), rate=48000) if sound else None
        for i in range(FRAMES):
            for stream in streams:
                pixels = scene[i : i + 64, 2 * i : 2 * i + 96]
                pixels = pixels + rng.integers(0, 30, pixels.shape, dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pixel_format)
                frame.pts, frame.time_base = times[i] if times else i, Fraction(1, 25)
                container.mux(stream.encode(frame))
            if audio is not None:
                noise = rng.standard_normal((2, 1920)).astype(np.float32) / 10
                heard = av.AudioFrame.from_ndarray(noise, "fltp", "stereo")
                heard.sample_rate, heard.pts, heard.time_base = 48000, 1920 * i, Fraction(1, 48000)
                container.mux(audio.encode(heard))
        for stream in [*streams, *([audio] if audio is not None else [])]:
            container.mux(stream.encode(None))
    return path


@functools.cache
def bytes_of(name: str) -> bytes:
    """A clip as above, made once."""
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder), name).read_bytes()


def pixels_of(path: Path, **options: Any) -> tuple[list[Any], str]:
    """Frames up to the error, and the error."""
    frames: list[Any] = []
    try:
        with open_clip(path, **options) as clip:
            for frame in clip:
                frames.append(frame.rgb)
    except UserError as error:
        return frames, str(error)
    return frames, ""


def damaged(path: Path, place: float, *, cut: bool = False, length: int = 4096) -> Path:
    """A copy with `length` bytes zeroed, or taken out."""
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + length] = b"" if cut else bytes(length)
    other = path.with_name(f"damaged_{path.name}")
    other.write_bytes(data)
    return other


def format_of(path: Path) -> tuple[str, int]:
    with av.open(str(path)) as container:
        return container.format.name, container.streams.video[0].id


@pytest.mark.parametrize("sound", [True, False], ids=["audio", "silent"])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_sound_is_accepted(tmp_path: Path, name: str, sound: bool) -> None:
    path = make(tmp_path, name, sound=sound)
    assert sound_until(path, *format_of(path)) is None
    with open_clip(path) as clip:
        assert len(list(clip)) == FRAMES
        assert clip.damage == []


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.ts", "a.flv", "a.mp4"])
@pytest.mark.parametrize(
    "times",
    [[i + (500 if i > 30 else 0) for i in range(FRAMES)], [i + i * i // 5 for i in range(FRAMES)]],
    ids=["pause", "variable"],
)
def test_times_with_gaps_are_no_damage(tmp_path: Path, name: str, times: list[int]) -> None:
    with open_clip(make(tmp_path, name, times=times)) as clip:
        assert len(list(clip)) == FRAMES
        assert clip.damage == []


def test_several_streams_and_joined_files(tmp_path: Path) -> None:
    two = make(tmp_path, "a.mkv", videos=2)
    for stream in (0, 1):
        with open_clip(two, stream=stream) as clip:
            assert len(list(clip)) == FRAMES
    # Counters and times begin again in the second half, as in recordings put end to end.
    one = make(tmp_path, "a.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * one.read_bytes())
    assert sound_until(joined, *format_of(joined)) is None


@pytest.mark.parametrize("cut", [False, True], ids=["zeroed", "taken out"])
@pytest.mark.parametrize("place", [0.3, 0.77])
@pytest.mark.parametrize("name", KINDS)
def test_damage_in_the_middle(tmp_path: Path, name: str, place: float, cut: bool) -> None:
    whole = tmp_path / name
    whole.write_bytes(bytes_of(name))
    path = damaged(whole, place, cut=cut)
    wanted, _ = pixels_of(whole)
    got, error = pixels_of(path)
    assert re.match(rf"{path}: (truncated|damaged).*\b{len(got)}( of 60)? frames? could be", error)
    assert error.endswith("; --allow-damaged goes on with what decodes")
    assert len(got) < FRAMES
    assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=False))
    if name != "a.mp4" and place > 0.5:  # of an MP4 a whole fragment is given up
        assert len(got) > FRAMES // 3
    # What can be read can be had, without the option too.
    if got:
        part, error = pixels_of(path, frames=len(got))
        assert (len(part), error) == (len(got), "")
    with open_clip(path, allow_damaged=True) as clip:
        assert len(list(clip)) >= len(got)
        assert clip.damage


def test_the_report_says_where(tmp_path: Path, cli: Any) -> None:
    path = damaged(make(tmp_path, "a.mkv"), 0.5)
    quick = ["--flow=zero", "--ws=1", "--ps=1", "--wt=1", "--metrics=psnr", "--save=none"]
    ended = cli("align", path, *quick, "-q", "-o", "out")
    refused(ended, "damaged in the middle: ")
    assert cli("align", path, *quick, "-q", "-o", "out", "--allow-damaged").code == 0
    (line,) = read_report(tmp_path / "out").input.damage[-1:]
    assert line.startswith("the container is damaged at byte ")
    assert "frames may be missing or wrong" in line


def test_one_wrong_byte_where_there_are_checksums(tmp_path: Path) -> None:
    whole = make(tmp_path, "a.mkv")
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "byte.mkv"
    path.write_bytes(data)
    assert "damaged in the middle" in pixels_of(path)[1]


def test_damage_behind_the_last_frame_of_a_counted_clip(tmp_path: Path) -> None:
    whole = make(tmp_path, "a.avi", sound=False)
    data = bytearray(whole.read_bytes())
    index = data.rindex(b"idx1")
    data[index : index + 200] = bytes(200)
    path = tmp_path / "index.avi"
    path.write_bytes(data)
    assert len(pixels_of(path)[0]) >= FRAMES - 1


def packets(path: Path) -> np.ndarray[Any, Any]:
    return np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 188).copy()


def test_packets_of_a_transport_stream(tmp_path: Path) -> None:
    """Repeated and announced packets are allowed, lost and bad ones are not."""
    path = make(tmp_path, "a.ts")
    pid = format_of(path)[1]
    whole = packets(path)
    pids = (whole[:, 1] & 0x1F).astype(int) << 8 | whole[:, 2]
    inner = np.flatnonzero((pids == pid) & (whole[:, 1] & 0x40 == 0) & (whole[:, 3] & 0x30 == 0x10))
    some = int(inner[len(inner) // 2])
    begins = np.flatnonzero((pids == pid) & (whole[:, 1] & 0x40 != 0))
    unit = int(begins[begins < some][-1]) * 188

    def found(rows: np.ndarray[Any, Any]) -> int | None:
        other = tmp_path / "other.ts"
        other.write_bytes(rows.tobytes())
        return sound_until(other, "mpegts", pid)

    assert found(np.insert(whole, some, whole[some], axis=0)) is None
    assert found(np.delete(whole, some, axis=0)) == unit
    wrong = whole.copy()
    wrong[some, 1] |= 0x80
    assert found(wrong) == unit
    # The adaptation field may say that the count begins anew.
    reset = np.delete(whole, some, axis=0)
    reset[some:, 3][pids[some + 1 :] == pid] ^= 8
    assert found(reset) == unit
    following = int(np.flatnonzero(pids[some + 1 :] == pid)[0]) + some
    reset[following, 3] |= 0x20
    reset[following, 4:6] = (1, 0x80)
    assert found(reset) is None
