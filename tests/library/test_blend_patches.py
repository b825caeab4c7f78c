"""`blend_patches` against its definition in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from compare import PROPERTY
from hypothesis import given, settings
from hypothesis import strategies as st
from stnls import StnlsError
from stnls.agg import blend_patches

Array = npt.NDArray[np.float64]


def reflected(place: int, length: int) -> int:
    """A pixel brought inside 0 .. length - 1 by reflection about the first and last one."""
    if length == 1:
        return 0
    place = abs(place) % (2 * length - 2)
    return min(place, 2 * length - 2 - place)


def keys(x: float) -> float:
    """The cubic convolution kernel of Keys 1981, with the slope of PyTorch and OpenCV."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def bicubic(image: Array, y: float, x: float) -> Array:
    """Of an image (C, H, W)."""
    _, height, width = image.shape
    total = np.zeros(len(image))
    for row in range(math.floor(y) - 1, math.floor(y) + 3):
        for column in range(math.floor(x) - 1, math.floor(x) + 3):
            pixel = image[:, reflected(row, height), reflected(column, width)]
            total += keys(y - row) * keys(x - column) * pixel
    return total


def defined(frame: Array, offset: Array, weight: Array, ps: int) -> Array:
    """The formula of the docstring, a pixel at a time."""
    height, width = weight.shape
    total, weights = np.zeros_like(frame), np.zeros_like(weight)
    taps = range(-(ps // 2), ps - ps // 2)
    for i, j in np.ndindex(height, width):
        for dy, dx in itertools.product(taps, taps):
            if 0 <= i + dy < height and 0 <= j + dx < width:
                y, x = i + offset[i, j, 0] + dy, j + offset[i, j, 1] + dx
                total[:, i + dy, j + dx] += weight[i, j] * bicubic(frame, y, x)
                weights[i + dy, j + dx] += weight[i, j]
    blended: Array = total / weights
    return blended


def problem(
    seed: int, channels: int, height: int, width: int, reach: float
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    frame = rng.uniform(0, 255, (channels, height, width))
    offset = rng.normal(0, reach, (height, width, 2))
    whole = rng.random((height, width)) < 0.3
    offset[whole] = np.rint(offset[whole])
    return frame, offset, rng.uniform(0.1, 2, (height, width))


def blended(values: tuple[Array, Array, Array], ps: int, dtype: Any, device: str) -> Array:
    frame, offset, weight = (torch.from_numpy(v).to(device, dtype)[None] for v in values)
    found: Array = blend_patches(frame, offset, weight, ps)[0].double().cpu().numpy()
    return found


@settings(PROPERTY, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 34)),
    ps=st.integers(1, 11),
    reach=st.sampled_from([0.0, 1.5, 6.0, 90.0]),
)
def test_it_is_what_it_says(
    device: str, seed: int, size: tuple[int, int, int], ps: int, reach: float
) -> None:
    values = problem(seed, *size, reach)
    expected = defined(*values, ps)
    np.testing.assert_allclose(blended(values, ps, torch.float64, device), expected, atol=1e-9)
    # Fractions of a place in float32: an offset of 300 has 1.5e-5 pixels, an edge 255 levels.
    found = blended(values, ps, torch.float32, device)
    np.testing.assert_allclose(found, expected, atol=2e-3 if reach < 50 else 2e-2)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("ps", range(1, 13))
def test_every_instruction_set(use_isa: Callable[[str], None], isa: str, ps: int) -> None:
    """Wide enough for the fast path; more rows than a band."""
    use_isa(isa)
    values = problem(ps, 2, 70, 45, 2.0)
    torch.testing.assert_close(
        torch.from_numpy(blended(values, ps, torch.float32, "cpu")),
        torch.from_numpy(blended(values, ps, torch.float64, "cpu")),
        rtol=0,
        atol=2e-3,
    )


@pytest.mark.usefixtures("threads")
def test_the_threads_do_not_change_it() -> None:
    values = problem(0, 3, 150, 40, 3.0)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(blended(values, 5, torch.float32, "cpu"))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("ps", [2, 3, 5, 7, 9])
@pytest.mark.parametrize("reach", [0.7, 40.0])
def test_frames_of_many_strips(device: str, ps: int, reach: float) -> None:
    """On a GPU those of three channels are cut along both axes."""
    for height, width in ((97, 71), (33, 200), (64, 26)):
        values = problem(ps, 3, height, width, reach)
        torch.testing.assert_close(
            torch.from_numpy(blended(values, ps, torch.float32, device)),
            torch.from_numpy(blended(values, ps, torch.float64, device)),
            rtol=0,
            atol=5e-3,
        )


@pytest.mark.parametrize("channels", [2, 3])
def test_batches_types_and_layouts(device: str, channels: int) -> None:
    pairs = [problem(seed, channels, 9, 12, 2.0) for seed in (0, 1)]
    frame, offset, weight = (
        torch.from_numpy(np.stack(parts)).to(device, torch.float32)
        for parts in zip(*pairs, strict=True)
    )
    both = blend_patches(frame, offset, weight, 3)
    for n in range(2):
        one = blend_patches(frame[n : n + 1], offset[n : n + 1], weight[n : n + 1], 3)
        assert torch.equal(both[n : n + 1], one)
    strange = frame.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(blend_patches(strange, offset, weight, 3), both)
    half = blend_patches(*(value.bfloat16() for value in (frame, offset, weight)), 3)
    assert half.dtype == torch.bfloat16
    rounded = (value.bfloat16().float() for value in (frame, offset, weight))
    torch.testing.assert_close(half, blend_patches(*rounded, 3).bfloat16())
    # Places of a search in half precision are float32, or integers.
    for places in (offset, offset.round().int()):
        half = blend_patches(frame.bfloat16(), places, weight, 3)
        wide = blend_patches(frame.bfloat16().float(), places.float(), weight, 3)
        assert torch.equal(half, wide.bfloat16())
    assert blend_patches(frame[:0], offset[:0], weight[:0], 3).shape == (0, channels, 9, 12)


@pytest.mark.parametrize("channels", [1, 3])
def test_places_beyond_all_reason_are_safe(device: str, channels: int) -> None:
    frame, offset, weight = (
        torch.ones(1, channels, 8, 30),
        torch.zeros(1, 8, 30, 2),
        torch.ones(1, 8, 30),
    )
    offset[0, 2, 3], offset[0, 5, 20, 0] = 3e38, -1e12
    found = blend_patches(frame.to(device), offset.to(device), weight.to(device), 3).cpu()
    torch.testing.assert_close(found, torch.ones_like(frame))
    offset[0, 2, 3, 0], offset[0, 5, 20, 1] = math.nan, math.inf
    found = blend_patches(frame.to(device), offset.to(device), weight.to(device), 3).cpu()
    lost = torch.zeros_like(frame, dtype=torch.bool)
    lost[..., 1:4, 2:5] = lost[..., 4:7, 19:22] = True
    assert torch.equal(found.isnan(), lost)


@pytest.mark.parametrize("ps", [1, 3, 7, 9, 10])
def test_a_pixel_that_is_no_number_is_lost_for_its_patches_alone(device: str, ps: int) -> None:
    frame, offset = torch.ones(1, 2, 40, 60), torch.zeros(1, 40, 60, 2)
    frame[0, 1, 20, 30] = math.nan
    found = blend_patches(*(x.to(device) for x in (frame, offset, torch.ones(1, 40, 60))), ps).cpu()
    # Of whole offsets, the pixels that are read: one before and two after the sample.
    lost = torch.zeros_like(frame, dtype=torch.bool)
    lost[0, 1, 18:22, 28:32] = True
    assert torch.equal(found.isnan(), lost)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": torch.zeros(1, 8, 9)}, "video"),
        ({"offset": torch.zeros(1, 8, 9, 3)}, "offset"),
        ({"weight": torch.zeros(1, 9, 8)}, "weight"),
        ({"weight": torch.zeros(1, 8, 9, dtype=torch.float64)}, "float64"),
        (
            {"offset": torch.zeros(1, 8, 9, 2, dtype=torch.float64)},
            "offset and video must have one dtype, not torch.float64",
        ),
        ({"video": torch.zeros(1, 2, 8, 9, dtype=torch.int32)}, "video must hold floating-point"),
        ({"ps": 0}, "ps must be at least 1, not 0"),
        ({"ps": 2.5}, "ps"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {
        "video": torch.zeros(1, 2, 8, 9),
        "offset": torch.zeros(1, 8, 9, 2),
        "weight": torch.ones(1, 8, 9),
        "ps": 3,
    }
    with pytest.raises(StnlsError, match=message):
        blend_patches(**{**given, **change})  # type: ignore[arg-type]


def test_it_has_no_gradient() -> None:
    video = torch.zeros(1, 1, 8, 9, requires_grad=True)
    out = blend_patches(video, torch.zeros(1, 8, 9, 2), torch.ones(1, 8, 9), 3)
    with pytest.raises(StnlsError, match="blend_patches has no gradient"):
        out.sum().backward()
