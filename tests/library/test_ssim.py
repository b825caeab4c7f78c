"""`stnls.metrics.ssim` against its definition in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from stnls import StnlsError, _native
from stnls.metrics import ssim

Array = npt.NDArray[np.float64]


def defined(reference: Array, frame: Array, peak: float) -> float:
    """The formula, window by window, with the window as a table of 11 x 11 weights."""
    along = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    weights = np.outer(along, along) / along.sum() ** 2
    axes = (1, 2)

    def mean(values: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(values, (11, 11), axis=axes)
        found: Array = (windows * weights).sum((-2, -1))
        return found

    x, y = mean(frame), mean(reference)
    variances = mean(frame**2) - x**2 + mean(reference**2) - y**2
    covariance = mean(frame * reference) - x * y
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    scores = (2 * x * y + c1) * (2 * covariance + c2)
    return float((scores / ((x**2 + y**2 + c1) * (variances + c2))).mean())


def pictures(count: int, channels: int, height: int, width: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(height * width)
    reference = rng.uniform(0, 255, (channels, height, width))
    spread = np.array([0.5, 5.0, 40.0, 120.0])[:count, None, None, None]
    frames = np.clip(reference + spread * rng.normal(size=(count, *reference.shape)), 0, 255)
    return reference.astype(np.float32).astype(float), frames.astype(np.float32).astype(float)


def measured(reference: Array, frames: Array, device: str = "cpu", **options: Any) -> list[float]:
    tensors = (torch.from_numpy(value).float().to(device) for value in (reference, frames))
    found = ssim(*tensors, **options)
    assert found.dtype == torch.float64
    values: list[float] = found.cpu().tolist()
    return values


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    [(3, 11, 11), (1, 11, 40), (3, 40, 12), (2, 27, 43), (3, 26, 42), (3, 60, 75), (1, 43, 90)],
)
def test_it_is_as_defined(device: str, channels: int, height: int, width: int) -> None:
    reference, frames = pictures(4, channels, height, width)
    expected = [defined(reference, frame, 255.0) for frame in frames]
    assert measured(reference, frames, device) == pytest.approx(expected, abs=2e-6)
    unit = measured(reference / 255, frames / 255, device, peak=1.0)
    assert unit == pytest.approx(expected, abs=2e-6)
    same = measured(reference, reference[None], device)
    assert same == pytest.approx([1.0], abs=1e-6)


@pytest.mark.parametrize("level", [0.0, 3.0, 128.0, 255.0])
def test_nearly_flat_frames(device: str, level: float) -> None:
    noise = 0.5 * np.random.default_rng(0).normal(size=(3, 40, 50))
    reference = np.clip(level + noise, 0, 255)
    frame = np.clip(reference + noise[:, ::-1], 0, 255)
    expected = defined(reference, frame, 255.0)
    assert measured(reference, frame[None], device) == pytest.approx([expected], abs=1e-4)


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
def test_every_instruction_set(use_isa: Callable[[str], None], isa: str) -> None:
    use_isa(isa)
    for width in (11, 13, 26, 47):
        reference, frames = pictures(2, 3, 30, width)
        expected = [defined(reference, frame, 255.0) for frame in frames]
        assert measured(reference, frames) == pytest.approx(expected, abs=2e-6)


@pytest.mark.usefixtures("threads")
def test_threads_do_not_change_a_bit() -> None:
    reference, frames = pictures(3, 3, 70, 50)
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(measured(reference, frames))
    assert found[0] == found[1] == found[2]


def test_layouts_and_batches(device: str) -> None:
    reference, frames = (torch.from_numpy(v).float().to(device) for v in pictures(3, 3, 20, 30))
    whole = ssim(reference, frames)
    strange = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(ssim(reference, strange), whole)
    for n in range(3):
        assert torch.equal(ssim(reference, frames[n : n + 1]), whole[n : n + 1])
    assert torch.equal(ssim(reference.double(), frames.double()), whole)
    several = torch.stack((reference, frames[0]))
    crossed = ssim(several, torch.cat((frames, frames[:1])))
    for n, found in enumerate(crossed):
        assert torch.equal(ssim(several[n % 2], frames[n % 3, None])[0], found)
    assert ssim(reference, frames[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": torch.zeros(12, 12)}, "reference"),
        ({"frames": torch.zeros(3, 12, 12)}, "frames"),
        ({"frames": torch.zeros(2, 3, 12, 13)}, "shape"),
        ({"frames": torch.zeros(2, 3, 12, 12, dtype=torch.uint8)}, "floating-point"),
        ({"peak": 0.0}, "peak"),
        ({"reference": torch.zeros(3, 3, 12, 12)}, "as many for each reference: 2 frames, 3 ref"),
        ({"reference": torch.zeros(0, 3, 12, 12)}, "as many for each reference"),
        ({"reference": torch.zeros(3, 10, 40), "frames": torch.zeros(1, 3, 10, 40)}, "11 x 11"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"reference": torch.zeros(3, 12, 12), "frames": torch.zeros(2, 3, 12, 12)}
    with pytest.raises(StnlsError, match=message):
        ssim(**{**given, **change})  # type: ignore[arg-type]


def test_it_has_no_gradient() -> None:
    frames = torch.zeros(1, 3, 12, 12, requires_grad=True)
    with pytest.raises(StnlsError, match="ssim has no gradient: give it detached frames"):
        ssim(torch.zeros(3, 12, 12), frames).sum().backward()
