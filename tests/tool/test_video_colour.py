"""Pixel values: every kind of pixel format against arithmetic done here in float64."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from stnls_cli.video.colour import ColourRule, layout_of, rule_of, to_rgb
from stnls_cli.video.orient import NAMES, Orientation, from_matrix

KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
W, H = 64, 48


def filled(pixel_format: str, bits: int, low: float, high: float) -> Any:
    """A frame of random flat 16-pixel squares, and its planes at full resolution.

    `low`, `high`: share of the code range to draw from.
    """
    rng = np.random.default_rng(5)
    frame = av.VideoFrame(W, H, pixel_format)
    dtype = "u1" if bits <= 8 else ">u2" if pixel_format.endswith("be") else "<u2"
    planes = []
    for target in frame.planes:
        top = 2**bits - 1
        codes = rng.integers(int(low * top), int(high * top) + 1, (H // 16, W // 16))
        full = np.kron(codes, np.ones((16, 16), int))
        samples = full[:: H // target.height, :: W // target.width]
        rows = np.zeros((target.height, target.line_size // np.dtype(dtype).itemsize), dtype)
        rows[:, : target.width] = samples
        target.update(rows.tobytes())
        planes.append(full.astype(float))
    return frame, planes


def middles(values: Any) -> Any:
    """Pixels in the middle of the flat squares, where chroma interpolation changes nothing."""
    return np.asarray(values, float)[8::16, 8::16]


def expected_rgb(planes: Any, bits: int, matrix: int, full: bool) -> Any:
    y, u, v = planes
    unit = 2 ** (bits - 8)
    if full:
        y = y / (2**bits - 1)
        u, v = ((c - 128 * unit) / (2**bits - 1) for c in (u, v))
    else:
        y = (y - 16 * unit) / (219 * unit)
        u, v = ((c - 128 * unit) / (224 * unit) for c in (u, v))
    kr, kb = KR_KB[matrix]
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 1) * 255


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
@pytest.mark.parametrize(
    ("pixel_format", "bits"),
    [
        ("yuv420p", 8),
        ("yuv422p", 8),
        ("yuv444p", 8),
        ("yuv420p10le", 10),
        ("yuv444p10le", 10),
        ("yuv422p12le", 12),
        ("yuv444p16le", 16),
    ],
)
def test_yuv(pixel_format: str, bits: int, matrix: int, full: bool) -> None:
    frame, planes = filled(pixel_format, bits, 0.06, 0.94)
    frame.colorspace = matrix
    rgb = to_rgb(frame, ColourRule(matrix, full, ()), VideoReformatter())
    error = np.abs(middles(rgb) - middles(expected_rgb(planes, bits, matrix, full))).max()
    if bits == 8:
        assert rgb.dtype == np.uint8
        assert error < 0.52  # rounding to whole levels is 0.5 of it
    else:
        assert rgb.dtype == np.float32
        assert error < 0.01


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray16be", "gray16le"])
@pytest.mark.parametrize("full", [False, True])
def test_grey(pixel_format: str, full: bool) -> None:
    bits = layout_of(av.VideoFormat(pixel_format)).bits
    frame, (codes,) = filled(pixel_format, bits, 0, 1)
    rgb = to_rgb(frame, ColourRule(5, full, ()), VideoReformatter())
    unit = 2 ** (bits - 8)
    grey = codes / (2**bits - 1) if full else (codes - 16 * unit) / (219 * unit)
    grey = np.clip(grey, 0, 1) * 255
    assert rgb.shape == (H, W, 3)
    assert np.abs(rgb - grey[..., None]).max() < (0.501 if bits == 8 else 1e-4)
    assert (rgb == rgb[..., :1]).all()


@pytest.mark.parametrize("pixel_format", ["gbrp", "gbrp10le", "gbrp12le", "gbrp16le", "gbrp16be"])
def test_planar_rgb(pixel_format: str) -> None:
    bits = layout_of(av.VideoFormat(pixel_format)).bits
    frame, (green, blue, red) = filled(pixel_format, bits, 0, 1)
    rgb = to_rgb(frame, rule_of(frame), VideoReformatter())
    wanted = np.stack([red, green, blue], axis=-1) * (255 / (2**bits - 1))
    assert np.abs(rgb - wanted).max() < (1e-9 if bits == 8 else 1e-4)


def test_deep_keeps_more_than_8_bits() -> None:
    frame, _ = filled("yuv444p10le", 10, 0.06, 0.94)
    rgb = to_rgb(frame, ColourRule(1, False, ()), VideoReformatter())
    assert np.abs(rgb - np.rint(rgb)).max() > 0.2


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "gray16be", "gray", "gbrp10le"])
def test_resized_flat_frame_keeps_its_values(pixel_format: str) -> None:
    bits = layout_of(av.VideoFormat(pixel_format)).bits
    frame, _ = filled(pixel_format, bits, 0.5, 0.5)
    rule = ColourRule(5, False, ())
    plain = to_rgb(frame, rule, VideoReformatter())
    resized = to_rgb(frame, rule, VideoReformatter(), (31, 77))
    assert resized.shape == (77, 31, 3)
    assert np.abs(resized.astype(float) - plain[0, 0]).max() < (1.01 if bits == 8 else 0.3)


def test_rules_for_what_is_not_tagged() -> None:
    small, large = av.VideoFrame(64, 48, "yuv420p"), av.VideoFrame(64, 720, "yuv420p")
    assert (rule_of(small).matrix, rule_of(large).matrix) == (5, 1)
    assert not rule_of(small).full
    assert rule_of(small).notes == (
        "colour range unspecified: limited assumed",
        "colour matrix unspecified: BT.601 assumed (under 720 rows)",
    )
    assert rule_of(av.VideoFrame(64, 48, "yuvj420p")).full
    assert rule_of(av.VideoFrame(64, 48, "gbrp")) == ColourRule(5, True, ())
    limited = av.VideoFrame(64, 48, "gbrp")
    limited.color_range = 1
    assert rule_of(limited) == ColourRule(5, True, ("limited range of RGB taken as full",))
    assert rule_of(av.VideoFrame(64, 48, "gray")).full
    assert not rule_of(av.VideoFrame(64, 48, "gray"), "hevc").full


def test_tags_win() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.colorspace, frame.color_range = 1, 2
    assert rule_of(frame) == ColourRule(1, True, ())
    frame.colorspace = 8  # YCgCo
    assert rule_of(frame).notes == (
        "colour matrix number 8 unsupported: BT.601 assumed (under 720 rows)",
    )


ONE = 1 << 16


@pytest.mark.parametrize("key", sorted(NAMES))
def test_orientation_moves_pixels_as_the_matrix_says(key: tuple[bool, bool, bool]) -> None:
    stored = np.arange(3 * 5 * 3).reshape(3, 5, 3)
    transpose, flip_x, flip_y = key
    x_step, y_step = (-1 if flip_x else 1), (-1 if flip_y else 1)
    a, b, c, d = (0, y_step, x_step, 0) if transpose else (x_step, 0, 0, y_step)
    # A rotation that was written with rounding errors is the same rotation.
    a, b, c, d = (v * ONE + 3 for v in (a, b, c, d))
    orientation = from_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
    assert (orientation.transpose, orientation.flip_x, orientation.flip_y) == key
    shown = orientation.apply(stored)
    width, height = orientation.displayed(5, 3)
    assert shown.shape == (height, width, 3)
    for q in range(3):
        for p in range(5):
            x, y = (round((a * p + c * q) / ONE), round((b * p + d * q) / ONE))
            column = x if x_step > 0 else x + width - 1
            row = y if y_step > 0 else y + height - 1
            assert (shown[row, column] == stored[q, p]).all()


def test_odd_rotations_are_left_alone_and_said() -> None:
    assert from_matrix((ONE, ONE // 2, 0, -ONE // 2, ONE, 0, 0, 0, 1 << 30)) == Orientation(
        note="rotation that is no multiple of 90 degrees ignored"
    )
    assert from_matrix((0,) * 9) == Orientation(note="display matrix is degenerate, ignored")
