"""`stnls.metrics.mean_errors` against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stnls import StnlsError, _native
from stnls.metrics import mean_errors
from torch import Tensor


def pictures(count: int, *shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).uniform(0, 255, (count, *shape))
    return torch.from_numpy(values).float()


def defined(references: Tensor, frames: Tensor) -> tuple[list[float], list[float]]:
    absolute, squared = [], []
    for n, frame in enumerate(frames.numpy()):
        # A difference of float32 numbers, as of two tensors.
        difference = (frame - references[n % len(references)].numpy()).astype(np.float64)
        absolute.append(float(np.abs(difference).mean()))
        squared.append(float((difference**2).mean()))
    return absolute, squared


def measured(reference: Tensor, frames: Tensor, device: str = "cpu") -> tuple[Any, Any]:
    absolute, squared = mean_errors(reference.to(device), frames.to(device))
    assert absolute.dtype == squared.dtype == torch.float64
    return absolute.tolist(), squared.tolist()


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    # One part, exactly one, one number more, some parts; rows that are no multiple of a vector.
    [(1, 1, 1), (3, 5, 7), (1, 128, 128), (1, 113, 145), (3, 100, 131)],
)
@pytest.mark.parametrize("references", [1, 2])
def test_it_is_as_defined(
    device: str, channels: int, height: int, width: int, references: int
) -> None:
    reference = pictures(references, channels, height, width)
    frames = pictures(4, channels, height, width, seed=1)
    frames[2] = reference[0]
    found, expected = measured(reference, frames, device), defined(reference, frames)
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    assert found[1] == pytest.approx(expected[1], rel=1e-13)
    assert found[0][2] == found[1][2] == 0.0
    if references == 1:
        assert measured(reference[0], frames, device) == found


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    references=st.integers(1, 3),
    times=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_any_size(shape: tuple[int, int, int], references: int, times: int, seed: int) -> None:
    reference = pictures(references, *shape, seed=seed)
    frames = pictures(references * times, *shape, seed=seed + 1)
    found, expected = measured(reference, frames), defined(reference, frames)
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    assert found[1] == pytest.approx(expected[1], rel=1e-13)


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
@pytest.mark.usefixtures("threads")
def test_the_same_for_every_instruction_set_and_number_of_threads(
    use_isa: Callable[[str], None], isa: str
) -> None:
    reference, frames = pictures(1, 3, 90, 121), pictures(3, 3, 90, 121, seed=1)
    expected = measured(reference, frames)
    use_isa(isa)
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert measured(reference, frames) == expected


def test_sums_of_whole_numbers_are_exact(device: str) -> None:
    reference, frames = pictures(1, 3, 90, 121).round(), pictures(3, 3, 90, 121, seed=1).round()
    sums = torch.ops.stnls.error_sums(reference.to(device), frames.to(device)).sum(1).cpu()
    difference = (frames - reference).double().flatten(1)
    assert torch.equal(sums[:, 0], difference.abs().sum(1))
    assert torch.equal(sums[:, 1], difference.square().sum(1))


def test_what_is_not_finite(device: str) -> None:
    frames = pictures(3, 1, 20, 30)
    frames[0, 0, 3, 4], frames[1, 0, 3, 4] = torch.nan, torch.inf
    absolute, squared = measured(pictures(1, 1, 20, 30, seed=1), frames, device)
    assert np.isnan([absolute[0], squared[0]]).all()
    assert absolute[1] == squared[1] == np.inf
    assert np.isfinite([absolute[2], squared[2]]).all()


def test_layouts_and_dtypes(device: str) -> None:
    reference, frames = pictures(1, 3, 20, 30).to(device), pictures(3, 3, 20, 30, seed=1).to(device)
    whole = mean_errors(reference, frames)
    strange = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for other in (strange, frames.double()):
        found = mean_errors(reference.to(other.dtype), other)
        assert torch.equal(found[0], whole[0])
        assert torch.equal(found[1], whole[1])
    halves = mean_errors(reference.half(), frames.half())
    assert torch.equal(halves[1], mean_errors(reference.half().float(), frames.half().float())[1])
    assert [value.shape for value in mean_errors(reference, frames[:0])] == [(0,), (0,)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": torch.zeros(12, 12)}, "reference"),
        ({"frames": torch.zeros(3, 12, 12)}, "frames"),
        ({"frames": torch.zeros(2, 3, 12, 13)}, "shape"),
        ({"frames": torch.zeros(2, 3, 12, 12, dtype=torch.uint8)}, "floating-point"),
        ({"reference": torch.zeros(3, 3, 12, 12)}, "as many for each reference: 2 frames, 3 ref"),
        ({"reference": torch.zeros(3, 0, 4), "frames": torch.zeros(2, 3, 0, 4)}, "one row"),
        ({"reference": torch.zeros(0, 4, 4), "frames": torch.zeros(2, 0, 4, 4)}, "channel"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"reference": torch.zeros(3, 12, 12), "frames": torch.zeros(2, 3, 12, 12)}
    with pytest.raises(StnlsError, match=message):
        mean_errors(**{**given, **change})


def test_it_has_no_gradient() -> None:
    frames = torch.zeros(1, 3, 12, 12, requires_grad=True)
    with pytest.raises(StnlsError, match="mean_errors has no gradient: give it detached frames"):
        mean_errors(torch.zeros(3, 12, 12), frames)[0].sum().backward()
