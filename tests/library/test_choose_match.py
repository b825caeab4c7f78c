"""`choose_match` against its definition in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from compare import PROPERTY
from hypothesis import given, settings
from hypothesis import strategies as st
from stnls import StnlsError, _native
from stnls.search import PairedSearch, choose_match

Array = npt.NDArray[np.float64]
AROUND = list(itertools.product((-1, 0, 1), repeat=2))


def reflected(place: float, length: int) -> float:
    """Brought inside 0 .. length - 1 by reflection about the first and last pixel."""
    if length == 1:
        return 0.0
    place = abs(place) % (2 * length - 2)
    return min(place, 2 * length - 2 - place)


def bilinear(image: Array, y: float, x: float) -> Array:
    """Of an image (C, H, W), mirrored beyond its border."""
    _, height, width = image.shape
    y, x = reflected(y, height), reflected(x, width)
    total = np.zeros(len(image))
    rows, columns = ({math.floor(place), math.ceil(place)} for place in (y, x))
    for row, column in itertools.product(rows, columns):
        total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


class Case(NamedTuple):
    """Frames, flow and shortlist of one pair, all float64, and the options."""

    query: Array
    key: Array
    flow: Array
    dists: Array
    offsets: Array
    ps: int
    stride1: float
    charge: float

    def distance(self, i: int, j: int, y: float, x: float) -> float:
        """Of the patch at (i, j) from that at (y, x), infinite outside the frame."""
        _, height, width = self.query.shape
        if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
            return math.inf
        taps = range(-(self.ps // 2), self.ps - self.ps // 2)
        return float(
            sum(
                np.square(
                    bilinear(self.query, i + dy, j + dx) - bilinear(self.key, y + dy, x + dx)
                ).sum()
                for dy, dx in itertools.product(taps, taps)
            )
        )

    def cost(self, i: int, j: int, found: float, offset: tuple[float, float]) -> float:
        away = np.subtract(offset, self.flow[::-1, i, j])
        share = found / (self.query.shape[0] * self.ps**2)
        return float(share + self.charge * np.square(away).sum())

    def near(self, i: int, j: int) -> list[tuple[float, float]]:
        """Offsets of the positions around the flow's place, moved inside the frame."""
        axes = []
        for at, length, by in zip((i, j), self.query.shape[1:], self.flow[::-1, i, j], strict=True):
            anchor = reflected(at + by, length)
            places = [anchor + self.stride1 * n for n in (-1, 0, 1)]
            while places[0] < 0:
                places = [place + self.stride1 for place in places]
            while places[-1] > length - 1:
                places = [place - self.stride1 for place in places]
            axes.append([place - at for place in places])
        return list(itertools.product(*axes))


def lowest_place(values: Array) -> tuple[float, float]:
    """Of the quadratic surface with the differences of 3x3 values, in steps."""
    with np.errstate(invalid="ignore"):
        return _lowest_place(values)


def _lowest_place(values: Array) -> tuple[float, float]:
    gradient = np.array([values[2, 1] - values[0, 1], values[1, 2] - values[1, 0]]) / 2
    bends = np.diff(values, 2, axis=0)[0, 1], np.diff(values, 2, axis=1)[1, 0]
    twist = (values[2, 2] - values[2, 0] - values[0, 2] + values[0, 0]) / 4
    hessian = np.array([[bends[0], twist], [twist, bends[1]]])
    clear = np.isfinite(values).all() and min(bends) > 0
    if clear and np.linalg.det(hessian) > 0.3 * bends[0] * bends[1]:
        place = -np.linalg.solve(hessian, gradient)
        place *= min(1, 0.75 / max(np.abs(place).max(), 1e-300))
        return place[0], place[1]
    each = [
        -g / h if h > 0 and math.isfinite(h) else 0.0 for g, h in zip(gradient, bends, strict=True)
    ]
    return float(np.clip(each[0], -0.5, 0.5)), float(np.clip(each[1], -0.5, 0.5))


def drawn(
    seed: int,
    height: int,
    width: int,
    ps: int,
    stride1: float = 1.0,
    charge: float = 60.0,
    channels: int = 3,
) -> Case:
    rng = np.random.default_rng(seed)
    query = rng.uniform(0, 255, (channels, height, width))
    key = 0.7 * np.roll(query, (1, -1), (1, 2)) + 0.3 * rng.uniform(0, 255, query.shape)
    flow = rng.normal(0, 1.5, (2, height, width))
    search = PairedSearch(7, ps, 4, stride0=1, stride1=stride1, itype="float", full_ws=True)
    dists, offsets = search(*(torch.from_numpy(value)[None] for value in (query, key, flow)))
    return Case(query, key, flow, dists[0, 0].numpy(), offsets[0, 0].numpy(), ps, stride1, charge)


def chosen(
    case: Case, dtype: torch.dtype, device: str, **options: Any
) -> tuple[Array, Array, Array]:
    tensors = (torch.from_numpy(value)[None].to(device, dtype) for value in case[:5])
    found = choose_match(*tensors, case.ps, case.stride1, case.charge, **options)
    distance, position, offset = (value[0].double().cpu().numpy() for value in found)
    return distance, position, offset


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("height", "width", "ps", "stride1"),
    [
        (12, 14, 3, 1.0),
        (12, 30, 5, 1.0),
        (13, 17, 7, 1.0),
        (14, 28, 9, 1.0),
        (11, 12, 4, 1.0),
        (11, 13, 1, 1.0),
        (12, 14, 5, 0.5),
        (8, 9, 7, 1.0),
    ],
)
def test_it_is_as_defined(
    device: str, dtype: torch.dtype, height: int, width: int, ps: int, stride1: float
) -> None:
    """Everywhere, borders included: nothing costs less, and the place between positions."""
    case = drawn(ps, height, width, ps, stride1)
    distance, position, offset = chosen(case, dtype, device)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    moved = 0
    for i, j in np.ndindex(height, width):
        here = tuple(position[i, j])
        at = (i + here[0], j + here[1])
        place = tuple(float(np.clip(v, 0, n - 1)) for v, n in zip(at, (height, width), strict=True))
        np.testing.assert_allclose(place, at, atol=1e-5)
        assert distance[i, j] == pytest.approx(case.distance(i, j, *place), rel=tolerance)
        costs = [
            case.cost(i, j, found, tuple(to))
            for found, to in zip(case.dists[i, j], case.offsets[i, j], strict=True)
        ]
        costs += [
            case.cost(i, j, case.distance(i, j, i + to[0], j + to[1]), to) for to in case.near(i, j)
        ]
        least = min(costs)
        moved += least < costs[0]
        assert case.cost(i, j, distance[i, j], here) == pytest.approx(least, rel=10 * tolerance)
        values = [
            case.distance(i, j, place[0] + stride1 * dy, place[1] + stride1 * dx)
            for dy, dx in AROUND
        ]
        expected = lowest_place(np.reshape(values, (3, 3)))
        between = (offset[i, j] - position[i, j]) / stride1
        assert between == pytest.approx(expected, abs=5e-3 if dtype == torch.float32 else 1e-7)
    assert moved > 0.02 * height * width


def test_without_its_parts(device: str) -> None:
    case = drawn(1, 12, 15, 5)
    distance, position, offset = chosen(case, torch.float32, device, between=False)
    np.testing.assert_array_equal(position, offset)
    free = case._replace(charge=0.0)
    distance, position, offset = chosen(free, torch.float32, device)
    np.testing.assert_allclose(distance, case.dists[..., 0], rtol=1e-6)
    np.testing.assert_allclose(position, case.offsets[..., 0, :], rtol=1e-6)
    assert 0.1 < np.abs(offset - position).max() <= 0.75 + 1e-6
    distance, position, _ = chosen(case, torch.float32, device, near=False)
    listed = np.abs(position[..., None, :] - case.offsets).max(-1).min(-1)
    assert listed.max() < 1e-5
    _, anywhere, _ = chosen(case, torch.float32, device)
    assert not np.allclose(anywhere, position)


@settings(PROPERTY, max_examples=20)
@given(st.data())
def test_forms_agree(data: st.DataObject) -> None:
    """The vectors of single precision and the plain form of double, on frames of any size."""
    ps = data.draw(st.sampled_from([3, 5, 7, 9]))
    sizes = st.integers(1, 26)
    channels = data.draw(st.sampled_from([1, 3, 5]))  # vectors serve up to four
    seed = data.draw(st.integers(0, 99))
    case = drawn(seed, data.draw(sizes), data.draw(sizes), ps, channels=channels)
    _, position, offset = chosen(case, torch.float64, "cpu")
    _, single, between = chosen(case, torch.float32, "cpu")
    same = np.abs(single - position).max(-1) < 1e-4
    assert same.mean() > 0.9
    assert np.mean(np.abs(between - offset).max(-1)[same] < 2e-2) > 0.9


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
def test_every_instruction_set(use_isa: Callable[[str], None], isa: str) -> None:
    use_isa(isa)
    for ps in (3, 5, 7, 9):
        case = drawn(ps, 13, 40, ps)
        for one, other in zip(
            chosen(case, torch.float32, "cpu"), chosen(case, torch.float64, "cpu"), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-2)


@pytest.mark.usefixtures("threads")
def test_threads_do_not_change_a_bit() -> None:
    case = drawn(3, 40, 33, 5)
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(chosen(case, torch.float32, "cpu"))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_batches_and_a_reference_for_all(device: str) -> None:
    cases = [drawn(seed, 12, 20, 5) for seed in (0, 1)]
    query, key, flow, dists, offsets = (
        torch.from_numpy(np.stack(parts)).to(device, torch.float32)
        for parts in list(zip(*cases, strict=True))[:5]
    )
    shared = query[:1].expand_as(query)
    both = choose_match(shared, key, flow, dists, offsets, 5, charge=60.0)
    for n in range(2):
        alone = choose_match(
            query[:1], *(value[n : n + 1] for value in (key, flow, dists, offsets)), 5, charge=60.0
        )
        assert all(torch.equal(one[n : n + 1], two) for one, two in zip(both, alone, strict=True))
    strange = [value.transpose(1, 2).contiguous().transpose(1, 2) for value in (key, flow, dists)]
    again = choose_match(shared.clone(), *strange, offsets, 5, charge=60.0)
    assert all(torch.equal(one, two) for one, two in zip(both, again, strict=True))
    half = choose_match(*(v.bfloat16() for v in (query, key, flow, dists, offsets)), 5)
    assert [value.dtype for value in half] == [torch.bfloat16] * 3
    none = choose_match(*(v[:0] for v in (query, key, flow, dists, offsets)), 5)
    assert [value.shape for value in none] == [(0, 12, 20), (0, 12, 20, 2), (0, 12, 20, 2)]


def test_places_beyond_all_reason_are_safe(device: str) -> None:
    case = drawn(2, 12, 20, 5)
    case.flow[:, 2, 3], case.flow[0, 5, 9], case.flow[1, 7, 9] = 3e38, math.nan, -math.inf
    case.offsets[4, 4], case.offsets[6, 6] = 1e30, math.nan
    case.dists[8, 8], case.dists[9, 9] = math.inf, math.nan
    distance, position, offset = chosen(case, torch.float32, device)
    assert np.isinf(distance[8, 8])
    np.testing.assert_array_equal(position[8, 8], offset[8, 8])
    plain = drawn(2, 12, 20, 5)
    same = np.abs(position - chosen(plain, torch.float32, device)[1]).max(-1) < 1e-5
    assert (~same).sum() <= 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(2, 8, 9)}, "query"),
        ({"key": torch.zeros(1, 2, 8, 10)}, "key"),
        ({"flow": torch.zeros(1, 3, 8, 9)}, "flow"),
        ({"dists": torch.zeros(1, 9, 8, 4)}, "dists"),
        ({"offsets": torch.zeros(1, 8, 9, 3, 2)}, "offsets"),
        ({"dists": torch.zeros(1, 8, 9, 0), "offsets": torch.zeros(1, 8, 9, 0, 2)}, "K"),
        ({"key": torch.zeros(1, 2, 8, 9, dtype=torch.float64)}, "float64"),
        ({"ps": 0}, "ps must be at least 1, not 0"),
        ({"stride1": 0.0}, "stride1"),
        ({"charge": -1.0}, "charge"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {
        "query": torch.zeros(1, 2, 8, 9),
        "key": torch.zeros(1, 2, 8, 9),
        "flow": torch.zeros(1, 2, 8, 9),
        "dists": torch.zeros(1, 8, 9, 4),
        "offsets": torch.zeros(1, 8, 9, 4, 2),
        "ps": 3,
    }
    with pytest.raises(StnlsError, match=message):
        choose_match(**{**given, **change})  # type: ignore[arg-type]
