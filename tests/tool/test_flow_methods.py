"""Each flow method: finds a known motion, keeps to its settings, survives odd sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stnls_cli.flow import FLOW_METHODS, luma8, read_flo
from stnls_cli.flow.opencv import opencv_single_threaded

cv2 = pytest.importorskip("cv2")
COMPUTED = [name for name in FLOW_METHODS if name != "zero"]


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Band-limited noise that wraps around, (H, W) uint8."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    smooth = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-60 * (fx**2 + fy**2)), s=noise.shape)
    return np.clip(np.rint(128 + 50 * smooth / smooth.std()), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", COMPUTED)
def test_finds_a_shift(name: str) -> None:
    dx, dy = 3, -2
    gray0 = texture(96, 128)
    gray1 = np.roll(gray0, (dy, dx), axis=(0, 1))
    flow = FLOW_METHODS[name].compute(gray0, gray1)
    assert flow.shape == (96, 128, 2)
    assert flow.dtype == np.float32
    interior = flow[12:-12, 12:-12]
    error = np.linalg.norm(interior - np.float32([dx, dy]), axis=2)
    assert error.mean() < 0.3
    assert np.percentile(error, 99) < 0.3


def test_zero_is_zero_and_needs_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    method = FLOW_METHODS["zero"]
    gray = texture(40, 50)
    flow = method.compute(gray, np.roll(gray, 4, axis=1))
    assert flow.shape == (40, 50, 2)
    assert not flow.any()
    assert method.parameters == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tvl1", {"nscales": 6, "scaleStep": 0.5, "lambda_": 0.15, "warps": 5, "epsilon": 0.01}),
        ("tvl1-fast", {"nscales": 6, "scaleStep": 0.5, "warps": 3, "outerIterations": 1}),
        (
            "tvl1-opencv",
            {"scales_number": 6, "scale_step": 0.5, "lambda": 0.15, "warpings_number": 5},
        ),
        ("tvl1-paper", {"scales_number": 5, "scale_step": 0.8, "tau": 0.25, "epsilon": 0.01}),
        (
            "dis",
            {
                "finest_scale": 0,
                "patch_stride": 3,
                "gradient_descent_iterations": 50,
                "variational_refinement_iterations": 10,
                "patch_size": 8,
            },
        ),
        ("dis-medium", {"finest_scale": 1, "gradient_descent_iterations": 25}),
        ("deepflow", {"downscale_factor": 0.95, "sor_iterations": 25}),
        (
            "farneback",
            {
                "pyr_scale": 0.5,
                "num_levels": 5,
                "win_size": 13,
                "num_iters": 10,
                "poly_n": 5,
                "poly_sigma": 1.1,
            },
        ),
    ],
)
def test_parameters_are_reported(name: str, expected: dict[str, float]) -> None:
    parameters = FLOW_METHODS[name].parameters
    assert {key: parameters.get(key) for key in expected} == expected
    assert len(parameters) >= 8
    assert all(isinstance(value, (int, float, bool, str)) for value in parameters.values())


def test_tvl1_paper_is_opencv_s_default() -> None:
    untouched = cv2.optflow.DualTVL1OpticalFlow_create()
    gray0 = texture(48, 64)
    gray1 = np.roll(gray0, 1, axis=1)
    with opencv_single_threaded():
        expected = untouched.calc(gray0, gray1, None)
    np.testing.assert_array_equal(FLOW_METHODS["tvl1-paper"].compute(gray0, gray1), expected)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (15, 40), (31, 33), (5, 150), (150, 5)])
@pytest.mark.parametrize("name", COMPUTED)
def test_small_frames(name: str, shape: tuple[int, int]) -> None:
    gray = texture(64, 160)[: shape[0], : shape[1]]
    if shape[0] > gray.shape[0]:
        gray = texture(160, 64)[: shape[0], : shape[1]]
    assert gray.shape == shape
    flow = FLOW_METHODS[name].compute(gray, gray)
    assert flow.shape == (*shape, 2)
    # Not quite zero: Farneback moves a little at the borders, even between equal frames.
    assert np.abs(flow).max() < 0.3


@pytest.mark.parametrize("name", ["tvl1", "dis"])
def test_a_small_frame_between_changes_nothing(name: str) -> None:
    """A TV-L1 object would keep the small frame's short pyramid."""
    gray0 = texture(72, 88)
    gray1 = np.roll(gray0, 2, axis=1)
    first = FLOW_METHODS[name].compute(gray0, gray1)
    FLOW_METHODS[name].compute(gray0[:16, :16], gray1[:16, :16])
    np.testing.assert_array_equal(FLOW_METHODS[name].compute(gray0, gray1), first)


def test_strided_frames_are_taken() -> None:
    gray = texture(96, 128)
    strided = FLOW_METHODS["dis"].compute(gray[::2, ::2], gray[::2, ::2])
    assert strided.shape == (48, 64, 2)


@pytest.mark.parametrize("name", ["zero", "dis"])
def test_wrong_frames_are_refused(name: str) -> None:
    gray = texture(40, 40)
    method = FLOW_METHODS[name]
    with pytest.raises(ValueError, match=r"differ in size: \(40, 40\) and \(40, 39\)"):
        method.compute(gray, gray[:, :39])
    with pytest.raises(ValueError, match="uint8"):
        method.compute(gray.astype(np.float32), gray.astype(np.float32))


def test_opencv_gets_its_threads_back() -> None:
    before = cv2.getNumThreads()
    with opencv_single_threaded():
        assert cv2.getNumThreads() == 1
        with opencv_single_threaded():
            pass
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


@pytest.mark.slow
def test_dis_on_middlebury(shared: Path) -> None:
    """End-point error on four pairs with ground truth; 0.372 px when this was written."""
    pairs = sorted((shared / "data" / "middlebury").iterdir())
    assert len(pairs) == 4
    errors = []
    for pair in pairs:
        gray = [
            luma8(cv2.imread(str(pair / name))[..., ::-1])
            for name in ("frame10.png", "frame11.png")
        ]
        error = np.linalg.norm(
            FLOW_METHODS["dis"].compute(*gray) - read_flo(pair / "flow10.flo"), axis=2
        )
        errors.append(float(np.nanmean(error)))
    assert np.mean(errors) == pytest.approx(0.372, abs=0.01)
