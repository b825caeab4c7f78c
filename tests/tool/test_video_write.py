"""Frames out: what is read back is what was written, and nothing is left half-written."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stnls_cli.errors import UserError
from stnls_cli.video import VideoWriter, open_clip, read_image, write_image

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))
bytes_rgb = shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape))
clips = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.just(3)).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape)
)
quick = settings(max_examples=40, deadline=None)


@given(bytes_rgb)
@quick
def test_png_round_trip(rgb: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        write_image(path, rgb, "png")
        back = read_image(path)
        assert back.dtype == np.uint8
        assert np.array_equal(back, rgb)
        assert os.listdir(folder) == ["a.png"]


@given(shapes.flatmap(lambda shape: hnp.arrays(np.uint16, shape)))
@quick
def test_png16_round_trip(codes: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        rgb = codes.astype(np.float32) / np.float32(257)
        write_image(path, rgb, "png16")
        back = read_image(path)
        assert back.dtype == np.float32
        assert np.array_equal(np.rint(back * 257), codes)


@given(shapes.flatmap(lambda s: hnp.arrays(np.float32, s, elements=st.floats(-99, 399, width=32))))
@quick
def test_npy_round_trip_and_png_rounding(rgb: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_image(Path(folder, "a.npy"), rgb, "npy")
        assert np.array_equal(read_image(Path(folder, "a.npy")), rgb)
        write_image(Path(folder, "a.png"), rgb, "png")
        assert np.array_equal(read_image(Path(folder, "a.png")), np.rint(np.clip(rgb, 0, 255)))


@given(clips)
@quick
def test_video_round_trip(frames: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mkv")
        with VideoWriter(path, frames.shape[2], frames.shape[1], Fraction(30000, 1001)) as writer:
            for rgb in frames:
                writer.write(rgb)
        assert os.listdir(folder) == ["a.mkv"]
        with open_clip(path) as clip:
            assert abs(clip.info.rate - Fraction(30000, 1001)) < Fraction(1, 100)
            back = [frame.rgb for frame in clip]
            assert clip.damage == []
        assert np.array_equal(np.stack(back), frames)


def test_video_16_bit_round_trip(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << 16, (3, 20, 33, 3))
    with VideoWriter(tmp_path / "a.mkv", 33, 20, bits=16) as writer:
        for frame in codes:
            writer.write((frame / 257).astype(np.float32))
    with open_clip(tmp_path / "a.mkv") as clip:
        back = np.stack([frame.rgb for frame in clip])
    assert np.array_equal(np.rint(back * 257), codes)


def test_wrong_arguments(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match="png, png16, npy"):
        write_image(tmp_path / "a.gif", rgb, "gif")
    with pytest.raises(ValueError, match=r"\(4, 6\).*expected"):
        write_image(tmp_path / "a.png", rgb[..., 0])
    with (
        pytest.raises(ValueError, match=r"\(4, 6, 3\).*expected"),
        VideoWriter(tmp_path / "a.mkv", 7, 4) as writer,
    ):
        writer.write(rgb)
    assert list(tmp_path.iterdir()) == []


def test_video_left_by_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mkv", 6, 4) as writer:
            writer.write(np.zeros((4, 6, 3), np.uint8))
            assert [p.name.startswith(".a.") for p in tmp_path.iterdir()] == [True]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(b"old")
    with VideoWriter(path, 6, 4) as writer:
        writer.write(np.zeros((4, 6, 3), np.uint8))
        assert path.read_bytes() == b"old"
    assert path.read_bytes() != b"old"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing behind `size` bytes of any file fails, as on a full disk (errno EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("format", ["png", "png16", "npy"])
def test_no_space_for_an_image(tmp_path: Path, format: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with file_size_limit(2000), pytest.raises(OSError, match=r"File too large|\d+ requested"):
        write_image(tmp_path / "a.png", rgb, format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frames", [1, 40])
def test_no_space_for_a_video(tmp_path: Path, frames: int) -> None:
    rng = np.random.default_rng(0)

    def write() -> None:
        with VideoWriter(tmp_path / "a.mkv", 64, 64) as writer:
            for _ in range(frames):
                writer.write(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))

    with file_size_limit(2000), pytest.raises(OSError, match=r"a\.mkv"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    rgb = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(PermissionError):
        write_image(tmp_path / "a.png", rgb)
    with pytest.raises(PermissionError):
        VideoWriter(tmp_path / "a.mkv", 6, 4)
    tmp_path.chmod(0o700)


def test_no_such_folder(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(FileNotFoundError):
        write_image(tmp_path / "none" / "a.png", rgb)
    with pytest.raises(FileNotFoundError):
        VideoWriter(tmp_path / "none" / "a.mkv", 6, 4)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 6)))
    with pytest.raises(UserError, match=r"a.npy: shape \(4, 6\)"):
        read_image(path)
    path.write_bytes(b"no array")
    with pytest.raises(UserError, match=r"a\.npy: not a readable \.npy file"):
        read_image(path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png: not an image that FFmpeg can decode"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"none\.png: cannot be read: No such file"):
        read_image(tmp_path / "none.png")


def test_images_of_many_threads_sizes_and_depths(tmp_path: Path) -> None:
    """Every thread keeps an encoder, which takes the next size and depth too."""
    rng = np.random.default_rng(0)
    sizes = [(17, 40), (17, 40), (1, 1), (64, 33)]
    images = [rng.integers(0, 256, (*sizes[n // 2 % 4], 3)).astype(np.float32) for n in range(64)]

    def write(n: int) -> Path:
        path = tmp_path / f"{n}.png"
        write_image(path, images[n], "png16" if n % 2 else "png")
        return path

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(write, range(len(images))))
    for path, image in zip(paths, images, strict=True):
        np.testing.assert_array_equal(read_image(path), image)
