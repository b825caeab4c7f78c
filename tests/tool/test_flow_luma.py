"""8-bit luma: OpenCV's grey, after rounding and clipping."""

from __future__ import annotations

import numpy as np
import pytest

from stnls_cli.flow import luma8


def test_equals_opencv_to_within_rounding() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(0).integers(0, 256, (300, 401, 3), dtype=np.uint8)
    difference = luma8(rgb).astype(int) - cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= difference.size // 100


def test_greys_stay_and_weights_are_bt601() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(luma8(ramp)[0], np.arange(256))
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    np.testing.assert_array_equal(luma8(primaries)[0], [76, 150, 29])


def test_real_frames_are_rounded_and_clipped() -> None:
    values = [(-40.0, 0), (0.49, 0), (0.51, 1), (254.6, 255), (300.0, 255), (127.2, 127)]
    frame = np.array([[[v, v, v] for v, _ in values]], dtype=np.float32)
    np.testing.assert_array_equal(luma8(frame)[0], [whole for _, whole in values])


def test_views_of_channels_first_frames() -> None:
    frame = np.random.default_rng(1).uniform(-20, 280, (3, 30, 41)).astype(np.float32)
    view = frame.transpose(1, 2, 0)
    np.testing.assert_array_equal(luma8(view), luma8(np.ascontiguousarray(view)))
    whole = np.clip(np.rint(view), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(luma8(view), luma8(whole))


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (4, 5, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RGB"):
        luma8(np.zeros(shape, dtype=np.uint8))
