from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stnls_cli.errors import UserError
from stnls_cli.metrics import (
    ALIGN_METRICS,
    METRICS,
    compare_frames,
    mae,
    mean_score,
    measure_flow,
    out_of_frame,
    parse_metrics,
    psnr,
    ssim,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


def textured(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    return (smooth + 8 * torch.randn(3, height, width, generator=generator)).clamp(0, 255)


def scikit_ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=0,
        )
    )


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1e-3, 1.0, 255.0]),
)
def test_psnr_and_mae_are_those_of_float64(
    height: int, width: int, seed: int, spread: float
) -> None:
    generator = np.random.default_rng(seed)
    a = generator.uniform(0, 255, (3, height, width)).astype(np.float32)
    b = (a + generator.uniform(-spread, spread, a.shape)).astype(np.float32)
    difference = a.astype(np.float64) - b
    error = np.mean(difference**2)
    ours = psnr(torch.from_numpy(a), torch.from_numpy(b))
    if error == 0:
        assert ours == math.inf
    else:
        assert ours == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)
    assert mae(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(
        np.abs(difference).mean(), rel=1e-5, abs=1e-9
    )


def test_sums_do_not_lose_small_errors_of_a_large_frame() -> None:
    a = torch.zeros(3, 600, 800)
    b = torch.full_like(a, 0.1)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 0.01), abs=1e-6)
    assert mae(a, b) == pytest.approx(0.1, rel=1e-7)


def test_identical_frames() -> None:
    a = textured(20, 30)
    assert psnr(a, a.clone()) == math.inf
    assert mae(a, a.clone()) == 0
    assert ssim(a, a.clone()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("device", DEVICES)
# 170 and more rows take the banded path on a CPU, at heights that do and do not divide by it.
@pytest.mark.parametrize(
    ("height", "width"),
    [(11, 11), (11, 40), (40, 12), (64, 48), (164, 30), (170, 33), (180, 21), (217, 64)],
)
def test_ssim_agrees_with_scikit_image(device: str, height: int, width: int) -> None:
    a, b = textured(height, width, 1), textured(height, width, 2)
    near = (a + 10 * torch.randn(a.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 255)
    for other in (b, near):
        ours = ssim(a.to(device), other.to(device))
        assert ours == pytest.approx(scikit_ssim(a, other), abs=2e-5)


@pytest.mark.parametrize("level", [0.0, 3.0, 128.0, 250.0, 255.0])
def test_ssim_of_nearly_flat_frames(level: float) -> None:
    noise = torch.randn(3, 170, 40, generator=torch.Generator().manual_seed(5))
    a = (torch.full((3, 170, 40), level) + 0.5 * noise).clamp(0, 255)
    b = (a + 0.5 * noise.flip(1)).clamp(0, 255)
    assert ssim(a, b) == pytest.approx(scikit_ssim(a, b), abs=1e-4)


def test_ssim_on_real_footage(shared: Path) -> None:
    from skimage.io import imread

    folder = shared / "data" / "davis480p" / "train" / "bmx-trees"
    a, b = (
        torch.from_numpy(imread(path)).permute(2, 0, 1).float()
        for path in sorted(folder.glob("*.jpg"))[:2]
    )
    assert ssim(a, b) == pytest.approx(scikit_ssim(a, b), abs=1e-5)


def test_ssim_takes_views_that_are_not_contiguous() -> None:
    a, b = textured(180, 30, 1), textured(180, 30, 2)
    interleaved = a.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert ssim(interleaved, b) == ssim(a, b)


@pytest.mark.parametrize(("height", "width"), [(10, 50), (50, 10), (1, 1)])
def test_ssim_of_frames_smaller_than_its_window_is_none(height: int, width: int) -> None:
    frame = torch.zeros(3, height, width)
    assert ssim(frame, frame) is None


@pytest.mark.parametrize("device", DEVICES)
def test_out_of_frame_is_exact_at_the_border(device: str) -> None:
    flow = torch.zeros(2, 4, 5, device=device)
    assert out_of_frame(flow) == 0
    flow[0, 0, 4] = 1e-6  # right of the last column
    flow[0, 1, 0] = -1e-6
    flow[1, 3, 2] = 1e-6
    flow[1, 0, 2] = -1e-6
    flow[0, 2, 0] = 4  # exactly on the last column: inside
    flow[1, 2, 1] = -2  # exactly on the first row: inside
    assert out_of_frame(flow) == 4 / 20


def test_out_of_frame_leaves_out_flow_that_is_not_finite() -> None:
    flow = torch.zeros(2, 2, 2)
    flow[0, 0, 0] = math.nan
    flow[0, 0, 1] = math.inf
    flow[1, 1, 0] = -math.inf
    flow[0, 1, 1] = 1e30
    assert out_of_frame(flow) == 1 / 4


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(ALIGN_METRICS)), min_size=1))
def test_parse_metrics_keeps_the_order_of_the_registry(names: list[str]) -> None:
    chosen = parse_metrics(" , ".join(names))
    assert chosen == tuple(name for name in METRICS if name in names)


@pytest.mark.parametrize(
    ("text", "expected"), [("psnr,lpips", "unknown metric 'lpips'"), ("", "none"), (",", "none")]
)
def test_unknown_metrics_are_named(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        parse_metrics(text)
    assert "psnr, ssim, mae, out_of_frame" in str(caught.value)


def test_selection_computes_what_was_asked_for() -> None:
    a, b = textured(12, 12, 1), textured(12, 12, 2)
    assert compare_frames(("mae", "out_of_frame"), a, b) == {"mae": mae(a, b)}
    assert measure_flow(("mae", "out_of_frame"), torch.ones(2, 3, 3)) == {"out_of_frame": 5 / 9}
    assert compare_frames(("psnr", "ssim"), a, b).keys() == {"psnr", "ssim"}


def test_means_count_identical_frames_as_100_db() -> None:
    assert mean_score("psnr", [math.inf, 30.0]) == 65
    assert mean_score("psnr_visible", [None, 30.0, 31.0]) == 30.5
    # Nearly identical is not more.
    assert mean_score("psnr", [328.0, 30.0]) == 65
    assert mean_score("mae", [150.0, 130.0]) == 140
    assert mean_score("psnr", [None]) is None
    assert mean_score("psnr", []) is None


@pytest.mark.parametrize("function", [psnr, mae, ssim])
def test_frames_that_cannot_be_compared(function) -> None:
    with pytest.raises(ValueError, match=r"\(3, 4, 5\), \(3, 4, 6\)"):
        function(torch.zeros(3, 4, 5), torch.zeros(3, 4, 6))
    with pytest.raises(ValueError, match="uint8"):
        function(torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(3, 4, 5))


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, stnls_cli.metrics, stnls_cli.warp, stnls_cli.report, stnls_cli.rundir\n"
        "print(sorted({'torch', 'numpy', 'kornia', 'cv2', 'av', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
