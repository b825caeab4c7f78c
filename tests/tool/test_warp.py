from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stnls_cli.warp import warp


def reference(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The definition, in float64: clamp the position into the frame, then interpolate."""
    _, height, width = image.shape
    image = image.astype(np.float64)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x = np.clip(x + flow[0].astype(np.float64), 0, width - 1)
    y = np.clip(y + flow[1].astype(np.float64), 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    a, b = x - x0, y - y0
    top = image[:, y0, x0] * (1 - a) + image[:, y0, x1] * a
    bottom = image[:, y1, x0] * (1 - a) + image[:, y1, x1] * a
    return top * (1 - b) + bottom * b


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    reach=st.sampled_from([0.5, 3.0, 20.0, 1e6]),
)
def test_warp_is_its_definition(
    height: int, width: int, channels: int, seed: int, reach: float
) -> None:
    generator = np.random.default_rng(seed)
    image = generator.uniform(0, 255, (channels, height, width)).astype(np.float32)
    flow = generator.uniform(-reach, reach, (2, height, width)).astype(np.float32)
    ours = warp(torch.from_numpy(image), torch.from_numpy(flow)).numpy()
    np.testing.assert_allclose(ours, reference(image, flow), atol=1e-3)


def test_warp_stays_accurate_on_wide_frames() -> None:
    generator = np.random.default_rng(0)
    # Black and white pixels side by side: an error of position shows in full.
    image = (255.0 * generator.integers(0, 2, (3, 8, 4096))).astype(np.float32)
    flow = generator.normal(0, 5, (2, 8, 4096)).astype(np.float32)
    ours = warp(torch.from_numpy(image), torch.from_numpy(flow)).numpy()
    assert np.abs(ours - reference(image, flow)).max() < 1e-3


def test_whole_pixels_are_moved_unchanged() -> None:
    image = torch.rand(3, 6, 7) * 255
    flow = torch.zeros(2, 6, 7)
    assert torch.equal(warp(image, flow), image)
    flow[0], flow[1] = 2, -1
    moved = warp(image, flow)
    assert torch.equal(moved[:, 1:, :5], image[:, :-1, 2:])
    assert torch.equal(moved[:, 0, :5], image[:, 0, 2:])
    assert torch.equal(moved[:, 1:, 6], image[:, :-1, 6])


def test_flow_that_is_not_finite_keeps_the_pixel() -> None:
    image = torch.arange(12.0).reshape(1, 3, 4)
    flow = torch.ones(2, 3, 4)
    flow[0, 0, 0] = math.nan
    flow[1, 1, 1] = math.inf
    flow[0, 2, 2] = -math.inf
    result = warp(image, flow)
    assert [float(result[0, i, i]) for i in range(3)] == [float(image[0, i, i]) for i in range(3)]
    assert float(result[0, 0, 1]) == float(image[0, 1, 2])


def test_huge_flow_reaches_the_border_only() -> None:
    image = torch.arange(12.0).reshape(1, 3, 4)
    flow = torch.zeros(2, 3, 4)
    flow[0], flow[1] = 3e38, -3e38
    assert torch.equal(warp(image, flow), torch.full_like(image, 3.0))


def test_flow_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), got \(2, 4, 3\)"):
        warp(torch.zeros(3, 3, 4), torch.zeros(2, 4, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_warp_is_the_same_on_cuda() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 60, 854, generator=generator) * 255
    flow = torch.randn(2, 60, 854, generator=generator) * 6
    there = warp(image.cuda(), flow.cuda()).cpu()
    torch.testing.assert_close(there, warp(image, flow), atol=1e-3, rtol=0)
