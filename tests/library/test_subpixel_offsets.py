"""`subpixel_offsets` against its definition in float64."""

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
from stnls.search import PairedSearch, subpixel_offsets

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
    """Frames of one pair and the offsets of a search, all float64, and the options."""

    query: Array
    key: Array
    offsets: Array
    ps: int
    stride1: float

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


def lowest_place(values: Array) -> tuple[float, float]:
    """Of the quadratic surface with the differences of 3x3 values, in steps."""
    with np.errstate(invalid="ignore"):
        return _lowest_place(values)


def _lowest_place(values: Array) -> tuple[float, float]:
    gradient = np.array([values[2, 1] - values[0, 1], values[1, 2] - values[1, 0]]) / 2
    bends = bend_along(values[:, 1]), bend_along(values[1])
    twist = (values[2, 2] - values[2, 0] - values[0, 2] + values[0, 0]) / 4
    hessian = np.array([[bends[0], twist], [twist, bends[1]]])
    clear = np.isfinite(values).all() and min(bends) > 0
    if clear and np.linalg.det(hessian) > 0.3 * bends[0] * bends[1]:
        place = -np.linalg.solve(hessian, gradient)
        place *= min(1, 0.75 / max(np.abs(place).max(), 1e-300))
        place *= part_above_zero(values[1, 1], gradient @ place, place @ hessian @ place)
        return place[0], place[1]
    each = []
    for slope, bend in zip(gradient, bends, strict=True):
        place = 0.0
        if bend > 0:
            place = float(np.clip(-slope / bend, -0.5, 0.5))
            place *= part_above_zero(values[1, 1], slope * place, bend * place**2)
        each.append(place)
    return each[0], each[1]


def bend_along(three: Array) -> float:
    """Second difference, or 0 where it is not above a ten-thousandth of the outer values."""
    bend = float(three[0] + three[2] - 2 * three[1])
    return bend if bend > 1e-4 * (three[0] + three[2]) else 0.0


def part_above_zero(at: float, slope: float, bend: float) -> float:
    """Of the way from 0 to 1 down the parabola at + slope s + bend s²/2: all of it, or, where it
    ends below zero, up to where 1 - (1 - s)² of the fall has used up `at`."""
    fall = -(slope + bend / 2)
    return 1.0 if fall <= at else 1 - math.sqrt(1 - at / fall)


def drawn(
    seed: int, height: int, width: int, ps: int, stride1: float = 1.0, channels: int = 3
) -> Case:
    rng = np.random.default_rng(seed)
    query = rng.uniform(0, 255, (channels, height, width))
    key = 0.7 * np.roll(query, (1, -1), (1, 2)) + 0.3 * rng.uniform(0, 255, query.shape)
    flow = rng.normal(0, 1.5, (2, height, width))
    search = PairedSearch(7, ps, 1, stride0=1, stride1=stride1, charge=60.0)
    _, offsets = search(*(torch.from_numpy(value)[None] for value in (query, key, flow)))
    return Case(query, key, offsets[0, 0, ..., 0, :].numpy(), ps, stride1)


def moved(case: Case, dtype: torch.dtype, device: str) -> Array:
    tensors = (torch.from_numpy(value)[None].to(device, dtype) for value in case[:3])
    found = subpixel_offsets(*tensors, case.ps, case.stride1)[0].double().cpu().numpy()
    return found - case.offsets


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
        (13, 21, 2, 1.0),
        (14, 20, 8, 1.0),
        (16, 19, 11, 1.0),
        (16, 18, 12, 1.0),
        (12, 14, 5, 0.5),
        (8, 9, 7, 1.0),
    ],
)
def test_it_is_as_defined(
    device: str, dtype: torch.dtype, height: int, width: int, ps: int, stride1: float
) -> None:
    """Everywhere, borders included."""
    case = drawn(ps, height, width, ps, stride1)
    by = moved(case, dtype, device)
    for i, j in np.ndindex(height, width):
        at = np.add((i, j), case.offsets[i, j]).clip(0, (height - 1, width - 1))
        values = [
            case.distance(i, j, at[0] + stride1 * dy, at[1] + stride1 * dx) for dy, dx in AROUND
        ]
        expected = lowest_place(np.reshape(values, (3, 3)))
        tolerance = 5e-3 if dtype == torch.float32 else 1e-7
        assert by[i, j] / stride1 == pytest.approx(expected, abs=tolerance)
    assert 0.1 < np.abs(by).max() / stride1 <= 0.75 + 1e-6


def test_a_perfect_match_stays(device: str) -> None:
    frame = torch.from_numpy(drawn(0, 12, 20, 5).query)[None].to(device)
    offsets = torch.zeros(1, 12, 20, 2, dtype=frame.dtype, device=device)
    assert torch.equal(subpixel_offsets(frame, frame, offsets, 5), offsets)
    # One that is all but perfect moves a little.
    other = frame + 0.1 * torch.randn(frame.shape, generator=torch.Generator().manual_seed(0)).to(
        frame
    )
    by = subpixel_offsets(frame, other, offsets, 5)[:, 3:-3, 3:-3].abs()
    assert 0 < by.max() < 1e-3


@settings(PROPERTY, max_examples=20)
@given(st.data())
def test_forms_agree(data: st.DataObject) -> None:
    """The vectors of single precision and the plain form of double, on frames of any size."""
    ps = data.draw(st.integers(1, 12))
    sizes = st.integers(1, 26)
    channels = data.draw(st.sampled_from([1, 3, 5]))  # vectors serve up to four
    seed = data.draw(st.integers(0, 99))
    case = drawn(seed, data.draw(sizes), data.draw(sizes), ps, channels=channels)
    double, single = moved(case, torch.float64, "cpu"), moved(case, torch.float32, "cpu")
    # Where the paraboloid is all but flat, rounding decides whether the axes answer.
    assert np.mean(np.abs(double - single).max(-1) < 2e-2) > 0.9


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
def test_every_instruction_set(use_isa: Callable[[str], None], isa: str) -> None:
    use_isa(isa)
    for ps in range(1, 12):
        case = drawn(ps, 13, 40, ps)
        single, double = (moved(case, dtype, "cpu") for dtype in (torch.float32, torch.float64))
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=2e-2)


@pytest.mark.usefixtures("threads")
def test_threads_do_not_change_a_bit() -> None:
    case = drawn(3, 40, 33, 5)
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(moved(case, torch.float32, "cpu"))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_batches_and_a_reference_for_all(device: str) -> None:
    cases = [drawn(seed, 12, 20, 5) for seed in (0, 1)]
    query, key, offsets = (
        torch.from_numpy(np.stack(parts)).to(device, torch.float32)
        for parts in list(zip(*cases, strict=True))[:3]
    )
    shared = query[:1].expand_as(query)
    both = subpixel_offsets(shared, key, offsets, 5)
    for n in range(2):
        alone = subpixel_offsets(query[:1], key[n : n + 1], offsets[n : n + 1], 5)
        assert torch.equal(both[n : n + 1], alone)
    strange = [value.transpose(1, 2).contiguous().transpose(1, 2) for value in (key, offsets)]
    assert torch.equal(both, subpixel_offsets(shared.clone(), *strange, 5))
    assert subpixel_offsets(query[:0], key[:0], offsets[:0], 5).shape == (0, 12, 20, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("itype", ["float", "int"])
def test_matches_of_a_search_in_half_precision(itype: str, dtype: torch.dtype, device: str) -> None:
    case = drawn(0, 12, 20, 5)
    query, key = (torch.from_numpy(v)[None].to(device, dtype) for v in (case.query, case.key))
    flow = torch.full((1, 2, 12, 20), 0.3, device=device, dtype=dtype)
    _, inds = PairedSearch(5, 5, 1, stride0=1, itype=itype)(query, key, flow)
    offsets = inds[:, 0, :, :, 0]
    assert offsets.dtype == (torch.int32 if itype == "int" else torch.float32)
    found = subpixel_offsets(query, key, offsets, 5)
    assert found.dtype == torch.float32
    assert torch.equal(found, subpixel_offsets(query.float(), key.float(), offsets.float(), 5))
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(subpixel_offsets(query, key, offsets, 5), found)


def test_places_beyond_all_reason_are_safe(device: str) -> None:
    case, plain = drawn(2, 12, 20, 5), drawn(2, 12, 20, 5)
    strange = {(2, 3): 3e38, (4, 4): 1e30, (5, 9): math.nan, (6, 6): -math.inf, (7, 7): -1e8}
    for at, value in strange.items():
        case.offsets[at] = value
    tensors = (torch.from_numpy(value)[None].to(device, torch.float32) for value in case[:3])
    found = subpixel_offsets(*tensors, 5)[0].cpu().numpy()
    for at, value in strange.items():
        np.testing.assert_allclose(found[at], value, rtol=1e-6)
    usual = [at for at in np.ndindex(12, 20) if at not in strange]
    expected = moved(plain, torch.float32, device) + plain.offsets
    np.testing.assert_array_equal([found[at] for at in usual], [expected[at] for at in usual])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(2, 8, 9)}, "query"),
        ({"key": torch.zeros(1, 2, 8, 10)}, "key"),
        ({"offsets": torch.zeros(1, 8, 9, 1, 2)}, "offsets"),
        ({"offsets": torch.zeros(1, 9, 8, 2)}, "offsets"),
        ({"key": torch.zeros(1, 2, 8, 9, dtype=torch.float64)}, "float64"),
        (
            {"offsets": torch.zeros(1, 8, 9, 2, dtype=torch.float64)},
            "offsets and query must have one dtype, not torch.float64",
        ),
        ({"offsets": torch.zeros(1, 8, 9, 2, dtype=torch.bool)}, "offsets must hold real numbers"),
        ({"ps": 0}, "ps must be at least 1, not 0"),
        ({"stride1": 0.0}, "stride1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given = {
        "query": torch.zeros(1, 2, 8, 9),
        "key": torch.zeros(1, 2, 8, 9),
        "offsets": torch.zeros(1, 8, 9, 2),
        "ps": 3,
    }
    with pytest.raises(StnlsError, match=message):
        subpixel_offsets(**{**given, **change})  # type: ignore[arg-type]


@given(
    st.tuples(*[st.floats(0.5, 3)] * 2),
    st.floats(-0.4, 0.4),
    st.tuples(*[st.floats(-0.7, 0.7)] * 2),
)
def test_lowest_place_of_a_paraboloid(
    bends: tuple[float, float], twist: float, place: tuple[float, float]
) -> None:
    """The definition that the kernels are compared with."""
    y, x = np.mgrid[-1:2, -1:2] - np.array(place)[:, None, None]
    twist *= math.sqrt(bends[0] * bends[1])
    values = 0.5 * bends[0] * y**2 + 0.5 * bends[1] * x**2 + twist * y * x + 7
    np.testing.assert_allclose(lowest_place(values), place, atol=1e-9)


def test_it_has_no_gradient() -> None:
    frame = torch.zeros(1, 2, 8, 9, requires_grad=True)
    moved = subpixel_offsets(frame, torch.zeros(1, 2, 8, 9), torch.zeros(1, 8, 9, 2), 3)
    with pytest.raises(StnlsError, match="subpixel_offsets has no gradient: give it detached"):
        moved.sum().backward()
