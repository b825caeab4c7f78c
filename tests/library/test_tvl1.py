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
    epsilon: float = 0.0,
) -> Array:
    """The scheme of the IPOL article, step by step; whether a warp may end is asked after its inner
    iterations."""
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
                before = u.copy()
                for n, slope in enumerate((ix, iy)):
                    u[n] = u[n] + step * slope + theta * divergence(dual[n])
                for n in range(2):
                    s = slopes(u[n])
                    dual[n] = (dual[n] + tau / theta * s) / (
                        1 + tau / theta * np.sqrt((s**2).sum(0))
                    )
            if ((u - before) ** 2).sum(0).mean() <= epsilon**2:
                break
    return u


def smooth(seed: int, height: int, width: int) -> Array:
    """Band-limited noise that wraps around, 0 to 255."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    image = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-60 * (fx**2 + fy**2)), s=noise.shape)
    return np.clip(128 + 50 * image / image.std(), 0, 255)


def scene(seed: int, count: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of (count, 1, H, W) frames: the second one is moved, smoothly and by a step."""
    frames = np.stack([smooth(seed + n, height + 16, width + 16) for n in range(count)])
    y, x = np.mgrid[:height, :width].astype(float)
    dx, dy = 2 * np.sin(y / 9) + np.where(x > width / 2, 2.5, -1.0), np.cos(x / 11)
    rows, columns = np.rint(y + dy).astype(int) + 8, np.rint(x + dx).astype(int) + 8
    moved = frames[:, rows, columns] + np.random.default_rng(seed).normal(0, 1, dx.shape)
    still = frames[:, 8:-8, 8:-8]
    return tuple(torch.from_numpy(f).float()[:, None] / 255 for f in (moved, still))  # type: ignore[return-value]


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


@pytest.mark.parametrize("epsilon", [0.04, 0.06])
def test_a_warp_ends_early_and_the_next_one_begins(epsilon: float, device: str) -> None:
    frame0 = smooth(5, 14, 22)
    frame1, start = np.roll(frame0, 1, 1), np.zeros((2, 14, 22))
    settings: dict[str, Any] = {"tau": 0.25, "lambda_": 0.15, "theta": 0.3, "outer": 5, "inner": 5}
    expected, whole, one = (
        one_scale(frame0, frame1, start, **settings, warps=warps, size=3, epsilon=enough)
        for warps, enough in ((3, epsilon), (3, 0.0), (1, epsilon))
    )
    tensors = (torch.from_numpy(v).float()[None].to(device) for v in (frame0, frame1, start))
    found = tvl1_scale(*tensors, 0.25, 0.15, 0.3, epsilon, 3, 5, 5, 3)[0].double().cpu().numpy()
    assert np.abs(found - expected).mean() < 1e-3
    for other in (whole, one):
        assert np.abs(found - other).mean() > 4e-3


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
def test_it_finds_a_shift(dx: int, dy: int, device: str) -> None:
    frame0 = smooth(0, 128, 160)
    frame1 = np.roll(frame0, (dy, dx), (0, 1))
    grey = [torch.from_numpy(f).float().to(device)[None, None] / 255 for f in (frame0, frame1)]
    flow = tvl1(*grey)
    assert flow.shape == (1, 2, 128, 160)
    flow = flow.cpu()
    error = (flow[0, :, 20:-20, 20:-20] - torch.tensor([dx, dy])[:, None, None]).norm(dim=0)
    assert error.mean() < 0.05
    assert error.max() < 0.3
    colour = tvl1(*(g.expand(-1, 3, -1, -1) for g in grey))
    inner = (..., slice(20, -20), slice(20, -20))
    torch.testing.assert_close(colour.cpu()[inner], flow[inner], atol=0.05, rtol=0)


def test_an_initial_flow_reaches_further(device: str) -> None:
    """On one scale forty pixels are out of reach, but not with a flow to begin with."""
    frame0 = smooth(1, 96, 200)
    frames = (frame0, np.roll(frame0, 40, 1))
    grey = [torch.from_numpy(f).float().to(device)[None, None] / 255 for f in frames]
    start = torch.zeros(1, 2, 96, 200, device=device)
    start[:, 0] = 38.5
    inner = (slice(None), 0, slice(10, -10), slice(50, -50))
    assert (tvl1(*grey, nscales=1)[inner] - 40).abs().mean() > 5
    for nscales in (1, 3):
        assert (tvl1(*grey, start, nscales=nscales)[inner] - 40).abs().mean() < 0.1


@pytest.mark.usefixtures("threads")
def test_a_batch_is_each_pair_by_itself() -> None:
    frames = torch.rand(4, 1, 40, 50)
    one = [tvl1(frames[n : n + 1], frames[n + 1 : n + 2]) for n in range(3)]
    for threads in (1, 2, 3, 5, 8):
        torch.set_num_threads(threads)
        assert torch.equal(tvl1(frames[:3], frames[1:]), torch.cat(one))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(16, 40), (61, 33), (130, 20)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_threads_that_share_a_pair_do_what_one_does(shape: tuple[int, int], size: int) -> None:
    frames = scene(4, 2, *shape)
    for epsilon, inner in ((0.01, 30), (0.0, 3)):
        settings = {"epsilon": epsilon, "innerIterations": inner, "medianFiltering": size}
        torch.set_num_threads(1)
        alone = tvl1(*frames, **settings)  # type: ignore[arg-type]
        for threads in (2, 3, 4, 9):
            torch.set_num_threads(threads)
            assert torch.equal(tvl1(*frames, **settings), alone)  # type: ignore[arg-type]


def test_epsilon_ends_early_without_much_harm(device: str) -> None:
    frame0 = smooth(2, 64, 80)
    frames = (frame0, np.roll(frame0, 2, 1))
    grey = [torch.from_numpy(f).float().to(device)[None, None] / 255 for f in frames]
    full, early = tvl1(*grey, epsilon=0.0), tvl1(*grey, epsilon=0.01)
    assert not torch.equal(full, early)
    assert (full - early).norm(dim=1).mean() < 0.05


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (5, 7), (16, 16), (31, 33)])
def test_frames_of_every_size(shape: tuple[int, int], device: str) -> None:
    frame = torch.rand(1, 1, *shape, device=device)
    flow = tvl1(frame, frame)
    assert flow.shape == (1, 2, *shape)
    assert flow.abs().max() < 1e-3
    assert tvl1(frame[:0], frame[:0]).shape == (0, 2, *shape)


def test_larger_frames_are_a_larger_lambda(device: str) -> None:
    frames = [frame.to(device) for frame in scene(9, 2, 61, 80)]
    found, expected = tvl1(*(2 * frame for frame in frames)), tvl1(*frames, lambda_=0.3)
    assert (found - expected).norm(dim=1).mean() < 1e-3
    assert (found - tvl1(*frames)).norm(dim=1).mean() > 0.01


def test_values_that_are_no_numbers_are_safe(device: str) -> None:
    frames = torch.rand(2, 1, 30, 40, device=device)
    for bad, where in itertools.product((math.nan, math.inf, 1e38), (0, 1)):
        broken = frames.clone()
        broken[where, 0, 5:9, 7:12] = bad
        assert tvl1(broken[:1], broken[1:]).shape == (1, 2, 30, 40)
        # Other pairs of a batch do not notice.
        both = tvl1(torch.cat((broken[:1], frames[:1])), torch.cat((broken[1:], frames[1:])))
        torch.testing.assert_close(both[1:], tvl1(frames[:1], frames[1:]), rtol=0, atol=1e-3)
    start = torch.full((1, 2, 30, 40), math.nan, device=device)
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
        ({"medianFiltering": 5.0}, "medianFiltering must be an int, not 5.0"),
        ({"medianFiltering": True}, "medianFiltering must be an int, not True"),
        ({"warps": 1.5}, "warps"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"frame0": torch.zeros(1, 1, 20, 20), "frame1": torch.zeros(1, 1, 20, 20)}
    with pytest.raises(StnlsError, match=message):
        tvl1(**{**given, **change})


SIZES = [(1, 1), (5, 129), (16, 16), (17, 300), (31, 33), (61, 131), (200, 40), (300, 257)]


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize(
    "loops", [(1, 1, 1, 1), (1, 1, 7, 5), (2, 2, 4, 3), (1, 2, 30, 5), (1, 1, 64, 1)], ids=str
)
def test_a_scale_on_a_gpu_is_that_of_the_cpu(
    shape: tuple[int, int], loops: tuple[int, int, int, int]
) -> None:
    frames = [255 * frame[:, 0] for frame in scene(1, 3, *shape)]
    start = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(2))
    settings = (0.25, 0.15, 0.3, 0.0, *loops)
    expected = tvl1_scale(*frames, start, *settings)
    found = tvl1_scale(*(x.cuda() for x in (*frames, start)), *settings).cpu()
    error = (found - expected).abs().flatten()
    assert error.quantile(0.999) < 1e-4
    assert error.max() < 0.05


@pytest.mark.gpu
@pytest.mark.parametrize("epsilon", [0.0, 0.01])
@pytest.mark.parametrize("shape", [(16, 16), (97, 131), (240, 427)], ids=str)
def test_flow_on_a_gpu_is_that_of_the_cpu(shape: tuple[int, int], epsilon: float) -> None:
    frames = scene(3, 2, *shape)
    for start in (None, torch.full((2, 2, *shape), 1.5)):
        expected = tvl1(*frames, start, epsilon=epsilon)
        there = None if start is None else start.cuda()
        found = tvl1(*(frame.cuda() for frame in frames), there, epsilon=epsilon)
        assert found.is_cuda
        error = (found.cpu() - expected).norm(dim=1)
        assert error.median() < 2e-3
        assert error.mean() < 2e-2


@pytest.mark.gpu
def test_a_batch_on_a_gpu_is_each_pair_by_itself() -> None:
    """Also where some pairs end early; and the same bits in every run."""
    frame0, frame1 = (frame.cuda() for frame in scene(5, 5, 120, 214))
    frame1[1:3] = frame0[1:3]
    found = tvl1(frame0, frame1)
    for n in range(5):
        torch.testing.assert_close(
            tvl1(frame0[n : n + 1], frame1[n : n + 1]), found[n : n + 1], rtol=0, atol=1e-3
        )
    assert torch.equal(tvl1(frame0, frame1), found)
    assert found[1:3].abs().max() < 1e-3


@pytest.mark.gpu
def test_a_graph_and_other_streams() -> None:
    frames = [frame.cuda() for frame in scene(6, 2, 61, 131)]
    expected = tvl1(*frames)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        busy = torch.randn(2000, 2000, device="cuda")
        late = [frame + 0 * (busy @ busy)[0, 0] for frame in frames]
        found = tvl1(*late)
    stream.synchronize()
    assert torch.equal(found, expected)

    held = [torch.zeros_like(frame) for frame in frames]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = tvl1(*held)
    for frame, into in zip(frames, held, strict=True):
        into.copy_(frame)
    graph.replay()
    assert torch.equal(captured, expected)


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu() -> None:
    frames = [frame.cuda() for frame in scene(6, 2, 61, 131)]
    colour = [frame.expand(-1, 3, -1, -1) for frame in frames]
    tvl1(*colour)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        tvl1(*colour)
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_frames_of_any_layout(device: str) -> None:
    frames = [frame.to(device) for frame in scene(7, 3, 40, 50)]
    expected = tvl1(*frames)
    for change in (
        lambda frame: frame.transpose(2, 3).contiguous().transpose(2, 3),
        lambda frame: frame.repeat(2, 1, 1, 1)[::2] if len(frame) == 1 else frame.flip(0).flip(0),
        lambda frame: torch.nn.functional.pad(frame, (1, 2, 3, 4))[..., 3:-4, 1:-2],
        lambda frame: frame.double(),
    ):
        assert torch.equal(tvl1(*(change(frame) for frame in frames)), expected)  # type: ignore[no-untyped-call]
    start = torch.randn(3, 40, 50, 2, device=device).permute(0, 3, 1, 2)
    assert torch.equal(tvl1(*frames, start), tvl1(*frames, start.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, device: str) -> None:
    frames = [frame.to(device, dtype) for frame in scene(7, 1, 40, 50)]
    start = torch.randn(1, 2, 40, 50, device=device).to(dtype)
    found = tvl1(*frames, start)
    assert found.dtype == torch.float32
    assert torch.equal(found, tvl1(*(frame.float() for frame in frames), start.float()))


def test_a_scale_passes_opcheck(device: str) -> None:
    frames = [255 * frame[:, 0].to(device) for frame in scene(8, 2, 20, 30)]
    start = torch.zeros(2, 2, 20, 30, device=device)
    torch.library.opcheck(
        torch.ops.stnls.tvl1_scale.default, (*frames, start, 0.25, 0.15, 0.3, 0.01, 1, 2, 3, 5)
    )


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


OPENCV_ERROR = 0.406
"""Mean end-point error, in pixels, of OpenCV's TV-L1 with the same settings on the four pairs."""


def middlebury(shared: Path) -> list[Path]:
    folder = shared / "data/middlebury"
    scenes = sorted(path.parent for path in folder.glob("*/flow10.flo"))
    if not scenes:
        pytest.skip(f"no footage in {folder}")
    assert len(scenes) == 4
    return scenes


def end_point_error(flow: torch.Tensor, scene: Path) -> float:
    """Mean over the pixels whose motion is known; flow is (2, H, W)."""
    truth = read_truth(scene / "flow10.flo")
    return float((flow - truth)[:, truth.isfinite().all(0)].norm(dim=0).mean())


def test_middlebury(shared: Path, device: str) -> None:
    """Within 0.01 px of what OpenCV reaches."""
    io = pytest.importorskip("skimage.io")
    errors = []
    for scene in middlebury(shared):
        images = (torch.from_numpy(io.imread(scene / f"frame1{n}.png")) for n in (0, 1))
        frames = (image.to(device).permute(2, 0, 1)[None].float() / 255 for image in images)
        errors.append(end_point_error(tvl1(*frames)[0].cpu(), scene))
    assert np.mean(errors) <= OPENCV_ERROR + 0.01


@pytest.mark.slow
def test_middlebury_beside_opencv(shared: Path, device: str) -> None:
    """The same, with OpenCV's error measured: at most this plus 0.01 px."""
    cv2 = pytest.importorskip("cv2")
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    theirs.setScalesNumber(6)
    theirs.setScaleStep(0.5)
    errors = []
    for scene in middlebury(shared):
        grey = [cv2.imread(str(scene / f"frame1{n}.png"), cv2.IMREAD_GRAYSCALE) for n in (0, 1)]
        there = (torch.from_numpy(g).to(device)[None, None].float() / 255 for g in grey)
        ours = tvl1(*there)[0].cpu()
        other = torch.from_numpy(theirs.calc(*grey, None)).permute(2, 0, 1)
        errors.append([end_point_error(flow, scene) for flow in (ours, other)])
    mine, opencv = np.mean(errors, axis=0)
    assert mine <= opencv + 0.01
    assert opencv == pytest.approx(OPENCV_ERROR, abs=0.005)
