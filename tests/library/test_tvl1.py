"""TV-L1 flow against its definition in float64, and on motion that is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from compare import PROPERTY
from hypothesis import given, settings
from hypothesis import strategies as st
from stnls import StnlsError
from stnls._ops import tvl1_scale
from stnls.flow import tvl1

Array = npt.NDArray[np.float64]


def keys(x: float) -> float:
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def sampled(image: Array, y: float, x: float) -> float:
    """Bicubic, the border repeated."""
    height, width = image.shape
    return sum(
        keys(y - row) * keys(x - column)
        * image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
        for row in range(math.floor(y) - 1, math.floor(y) + 3)
        for column in range(math.floor(x) - 1, math.floor(x) + 3)
    )  # fmt: skip


def central(image: Array, axis: int, reach: int) -> Array:
    """Central differences of the image continued by its border, `reach` of it kept."""
    padded = np.pad(image, reach + 1, mode="edge")
    difference = (np.roll(padded, -1, axis) - np.roll(padded, 1, axis)) / 2
    return difference[1:-1, 1:-1]


def divergence(p: Array) -> Array:
    """Of p (2, H, W) = (across, down): the adjoint of the forward difference."""
    across, down = p
    return (across - np.pad(across, ((0, 0), (1, 0)))[:, :-1]) + (
        down - np.pad(down, ((1, 0), (0, 0)))[:-1]
    )


def slopes(u: Array) -> Array:
    """Forward differences (across, down), 0 at the last column and row."""
    return np.stack((np.diff(u, axis=1, append=u[:, -1:]), np.diff(u, axis=0, append=u[-1:])))


def median(u: Array, size: int) -> Array:
    padded = np.pad(u, size // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    filtered: Array = np.median(windows, axis=(2, 3))
    return filtered


def one_scale(
    frame0: Array,
    frame1: Array,
    flow: Array,
    *,
    tau: float,
    lambda_: float,
    theta: float,
    warps: int,
    outer: int,
    inner: int,
    size: int,
) -> Array:
    """The scheme of the IPOL article, step by step, without an early end."""
    u = flow.copy()
    dual = np.zeros((2, 2, *frame0.shape))
    reach = 8
    padded = np.pad(frame1, reach, mode="edge")
    slope_x, slope_y = central(frame1, 1, reach), central(frame1, 0, reach)
    for _ in range(warps):
        warped, ix, iy = (np.zeros_like(frame0) for _ in range(3))
        for y, x in np.ndindex(frame0.shape):
            at = y + u[1, y, x] + reach, x + u[0, y, x] + reach
            warped[y, x] = sampled(padded, *at)
            ix[y, x], iy[y, x] = sampled(slope_x, *at), sampled(slope_y, *at)
        constant = warped - ix * u[0] - iy * u[1] - frame0
        square = ix**2 + iy**2
        for _ in range(outer):
            if size > 1:
                u = np.stack([median(each, size) for each in u])
            for _ in range(inner):
                rho = constant + ix * u[0] + iy * u[1]
                most = lambda_ * theta
                step = np.where(
                    rho < -most * square, most,
                    np.where(rho > most * square, -most, -rho / np.maximum(square, 1e-300)),
                )  # fmt: skip
                step = np.where(square > 1e-7, step, 0)
                for n, slope in enumerate((ix, iy)):
                    u[n] = u[n] + step * slope + theta * divergence(dual[n])
                for n in range(2):
                    s = slopes(u[n])
                    dual[n] = (dual[n] + tau / theta * s) / (
                        1 + tau / theta * np.sqrt((s**2).sum(0))
                    )
    return u


def smooth(seed: int, height: int, width: int) -> Array:
    """Band-limited noise that wraps around, 0 to 255."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    image = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-60 * (fx**2 + fy**2)), s=noise.shape)
    return np.clip(128 + 50 * image / image.std(), 0, 255)


@settings(PROPERTY, max_examples=12)
@given(
    seed=st.integers(0, 2**31),
    height=st.integers(2, 14),
    width=st.integers(2, 40),
    size=st.sampled_from([1, 3, 5]),
    loops=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6)),
    lambda_=st.sampled_from([0.05, 0.15, 1.0]),
)
def test_a_scale_is_the_scheme_of_the_article(
    seed: int, height: int, width: int, size: int, loops: tuple[int, int, int], lambda_: float
) -> None:
    frame0 = smooth(seed, height, width)
    frame1 = np.roll(frame0, (1, -1), (0, 1)) + np.random.default_rng(seed).normal(
        0, 2, frame0.shape
    )
    start = np.random.default_rng(seed + 1).normal(0, 0.7, (2, height, width))
    warps, outer, inner = loops
    common = {"tau": 0.25, "lambda_": lambda_, "theta": 0.3}
    expected = one_scale(
        frame0, frame1, start, **common, warps=warps, outer=outer, inner=inner, size=size
    )
    found = tvl1_scale(
        *(torch.from_numpy(v).float()[None] for v in (frame0, frame1, start)),
        0.25, lambda_, 0.3, 0.0, warps, outer, inner, size,
    )  # fmt: skip
    # Where a slope is near zero a float32 decides otherwise than a float64.
    error = np.abs(found[0].double().numpy() - expected)
    assert np.quantile(error, 0.98) < 2e-3
    assert error.max() < 0.1


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_instruction_set(use_isa: Callable[[str], None], isa: str, size: int) -> None:
    frame0 = smooth(3, 12, 37)
    frame1 = np.roll(frame0, 1, 1)
    start = np.random.default_rng(1).normal(0, 0.5, (2, 12, 37))
    expected = one_scale(
        *(frame0, frame1, start),
        tau=0.25, lambda_=0.15, theta=0.3, warps=1, outer=2, inner=4, size=size,
    )  # fmt: skip
    use_isa(isa)
    tensors = (torch.from_numpy(v).float()[None] for v in (frame0, frame1, start))
    found = tvl1_scale(*tensors, 0.25, 0.15, 0.3, 0.0, 1, 2, 4, size)
    np.testing.assert_allclose(found[0].double().numpy(), expected, atol=2e-3)


@pytest.mark.parametrize(("dx", "dy"), [(3, -2), (-4, 4), (0, 0)])
def test_it_finds_a_shift(dx: int, dy: int) -> None:
    frame0 = smooth(0, 128, 160)
    frame1 = np.roll(frame0, (dy, dx), (0, 1))
    grey = [torch.from_numpy(f).float()[None, None] / 255 for f in (frame0, frame1)]
    flow = tvl1(*grey)
    assert flow.shape == (1, 2, 128, 160)
    error = (flow[0, :, 20:-20, 20:-20] - torch.tensor([dx, dy])[:, None, None]).norm(dim=0)
    assert error.mean() < 0.05
    assert error.max() < 0.3
    colour = tvl1(*(g.expand(-1, 3, -1, -1) for g in grey))
    inner = (..., slice(20, -20), slice(20, -20))
    torch.testing.assert_close(colour[inner], flow[inner], atol=0.05, rtol=0)


def test_an_initial_flow_reaches_further() -> None:
    """On one scale forty pixels are out of reach, but not with a flow to begin with."""
    frame0 = smooth(1, 96, 200)
    grey = [torch.from_numpy(f).float()[None, None] / 255 for f in (frame0, np.roll(frame0, 40, 1))]
    start = torch.zeros(1, 2, 96, 200)
    start[:, 0] = 38.5
    inner = (slice(None), 0, slice(10, -10), slice(50, -50))
    assert (tvl1(*grey, nscales=1)[inner] - 40).abs().mean() > 5
    for nscales in (1, 3):
        assert (tvl1(*grey, start, nscales=nscales)[inner] - 40).abs().mean() < 0.1


@pytest.mark.usefixtures("threads")
def test_a_batch_is_each_pair_by_itself() -> None:
    frames = torch.rand(4, 1, 40, 50)
    one = [tvl1(frames[n : n + 1], frames[n + 1 : n + 2]) for n in range(3)]
    for threads in (1, 3):
        torch.set_num_threads(threads)
        assert torch.equal(tvl1(frames[:3], frames[1:]), torch.cat(one))


def test_epsilon_ends_early_without_much_harm() -> None:
    frame0 = smooth(2, 64, 80)
    grey = [torch.from_numpy(f).float()[None, None] / 255 for f in (frame0, np.roll(frame0, 2, 1))]
    full, early = tvl1(*grey, epsilon=0.0), tvl1(*grey, epsilon=0.01)
    assert not torch.equal(full, early)
    assert (full - early).norm(dim=1).mean() < 0.05


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (5, 7), (16, 16), (31, 33)])
def test_frames_of_every_size(shape: tuple[int, int]) -> None:
    frame = torch.rand(1, 1, *shape)
    flow = tvl1(frame, frame)
    assert flow.shape == (1, 2, *shape)
    assert flow.abs().max() < 1e-3
    assert tvl1(frame[:0], frame[:0]).shape == (0, 2, *shape)


def test_values_that_are_no_numbers_are_safe() -> None:
    frames = torch.rand(2, 1, 30, 40)
    for bad, where in itertools.product((math.nan, math.inf, 1e38), (0, 1)):
        broken = frames.clone()
        broken[where, 0, 5:9, 7:12] = bad
        assert tvl1(broken[:1], broken[1:]).shape == (1, 2, 30, 40)
    start = torch.full((1, 2, 30, 40), math.nan)
    assert tvl1(frames[:1], frames[1:], start).shape == (1, 2, 30, 40)
    assert tvl1(frames[:1], frames[1:], start.fill_(1e30)).shape == (1, 2, 30, 40)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame1": torch.zeros(1, 1, 20, 21)}, "shape"),
        ({"frame0": torch.zeros(20, 20)}, "frame0"),
        ({"frame0": torch.zeros(1, 2, 20, 20), "frame1": torch.zeros(1, 2, 20, 20)}, "channels"),
        ({"frame0": torch.zeros(1, 1, 20, 20, dtype=torch.uint8)}, "floating-point"),
        ({"initial_flow": torch.zeros(1, 3, 20, 20)}, "initial_flow"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"lambda_": -1.0}, "lambda_ must be above 0"),
        ({"epsilon": math.nan}, "epsilon must be finite"),
        ({"nscales": 0}, "nscales must be at least 1, not 0"),
        ({"scaleStep": 1.0}, "scaleStep must lie between 0 and 1, not 1"),
        ({"medianFiltering": 4}, "medianFiltering must be one of 1, 3, 5, not 4"),
        ({"warps": 1.5}, "warps"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"frame0": torch.zeros(1, 1, 20, 20), "frame1": torch.zeros(1, 1, 20, 20)}
    with pytest.raises(StnlsError, match=message):
        tvl1(**{**given, **change})


@pytest.mark.gpu
def test_frames_on_a_gpu_are_refused() -> None:
    frame = torch.zeros(1, 1, 20, 20, device="cuda")
    with pytest.raises(StnlsError, match=r"move the frames with .cpu\(\)"):
        tvl1(frame, frame)


def test_it_has_no_gradient() -> None:
    frame = torch.rand(1, 1, 20, 20, requires_grad=True)
    assert not tvl1(frame, frame).requires_grad


def read_truth(path: Path) -> torch.Tensor:
    """Middlebury's .flo: (2, H, W), NaN where unknown."""
    data = path.read_bytes()
    width, height = np.frombuffer(data, "<i4", 2, 4)
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).copy()
    flow[np.abs(flow) > 1e9] = np.nan
    return torch.from_numpy(flow).permute(2, 0, 1)


@pytest.mark.slow
def test_middlebury_beside_opencv(shared: Path) -> None:
    """Mean end-point error over four pairs at most OpenCV's plus 0.01 px."""
    cv2 = pytest.importorskip("cv2")
    folder = shared / "data/middlebury"
    if not folder.is_dir():
        pytest.skip(f"no footage in {folder}")
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    theirs.setScalesNumber(6)
    theirs.setScaleStep(0.5)
    errors = []
    for scene in sorted(folder.iterdir()):
        if not scene.is_dir():
            continue
        grey = [cv2.imread(str(scene / f"frame1{n}.png"), cv2.IMREAD_GRAYSCALE) for n in (0, 1)]
        truth = read_truth(scene / "flow10.flo")
        known = truth.isfinite().all(0)
        ours = tvl1(*(torch.from_numpy(g)[None, None].float() / 255 for g in grey))[0]
        other = torch.from_numpy(theirs.calc(*grey, None)).permute(2, 0, 1)
        errors.append([float((f - truth)[:, known].norm(dim=0).mean()) for f in (ours, other)])
    mine, opencv = np.mean(errors, axis=0)
    assert mine <= opencv + 0.01
