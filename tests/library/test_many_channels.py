"""Patch sums and searches of many channels on the CPU, whose pixels are packed, against double
precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stnls
import torch
from compare import assert_same_bits, noise
from stnls import _native
from torch import Tensor

OPTIONS: list[dict[str, Any]] = [
    {"ps": 1},
    {"ps": 3},
    {"ps": 4, "stride0": 2},
    {"ps": 5, "dilation": 2},
    {"ps": 3, "reflect_bounds": False},
    {"ps": 3, "use_adj": True},
]


def problem(channels: int, stride0: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Two heads of so many channels; some entries are empty, some leave the frame."""
    grid = (-(-14 // stride0), -(-19 // stride0))
    video, weights = noise(2, 3, 2 * channels, 14, 19), noise(2, 2, 3, *grid, 4, seed=1)
    inds = 6 * noise(2, 2, 3, *grid, 4, 3, seed=2)
    inds[..., 0] = inds[..., 0].round().clamp(-1, 1)
    inds[..., 0, 1, 1:] = -1e8
    return video, weights, inds


def with_gradients(
    values: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype, itype: str, options: dict[str, Any]
) -> list[Tensor]:
    """The sum, and the gradients of the video and the weights."""
    video, weights, inds = (x.detach().to(dtype, copy=True) for x in values)
    leaves = video.requires_grad_(), weights.requires_grad_()
    out = stnls.agg.WeightedPatchSum(**{"stride0": 1, **options}, itype=itype)(*leaves, inds)
    (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).reshape(out.shape)).sum().backward()
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("channels", [4, 8, 13, 20, 30, 41])
def test_sums_and_gradients(
    use_isa: Callable[[str], None], isa: str, itype: str, channels: int
) -> None:
    use_isa(isa)
    for options in OPTIONS:
        values = problem(channels, options.get("stride0", 1))
        found = with_gradients(values, torch.float32, itype, options)
        expected = with_gradients(values, torch.float64, itype, options)
        assert len(found) == len(expected) == 3
        for one, other in zip(found, expected, strict=True):
            size = other.abs().max().item()
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-6 * size)


@pytest.mark.parametrize("name", ["NonLocalGather", "NonLocalGatherAdd"])
def test_stacks(name: str) -> None:
    video, weights, inds = problem(9)
    inds = inds.nan_to_num().clamp(-20, 20)
    operator = getattr(stnls.agg, name)
    operator = operator(3, 1, 1) if name == "NonLocalGatherAdd" else operator(3, 1)
    single, double = (
        operator(video.to(dtype), weights.to(dtype), inds.to(dtype))
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("itype", ["int", "float"])
def test_threads_do_not_change_a_bit(itype: str) -> None:
    values = problem(10)
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(tuple(with_gradients(values, torch.float32, itype, {"ps": 3})))
    assert_same_bits(*found)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("itype", ["int", "float"])
def test_some_heads_at_a_time(itype: str) -> None:
    """A thread has room for four of these six heads at once, five threads for all."""
    video, weights = noise(2, 1, 3 * 16, 64, 61), noise(2, 3, 1, 32, 31, 1, seed=1)
    inds = (72 * noise(2, 3, 1, 32, 31, 1, 3, seed=2)).round() / 8  # exact in both
    values = video, weights, inds
    options = {"ps": 3, "stride0": 2}
    found = []
    for count in (1, 5):
        torch.set_num_threads(count)
        found.append(tuple(with_gradients(values, torch.float32, itype, options)))
    assert_same_bits(*found)
    expected = with_gradients(values, torch.float64, itype, options)
    for one, other in zip(found[0], expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("size", [(1, 19), (14, 1), (1, 1)])
def test_frames_of_one_row_or_column(size: tuple[int, int], itype: str) -> None:
    video, weights = noise(1, 2, 9, *size), noise(1, 1, 2, *size, 4, seed=1)
    values = video, weights, 6 * noise(1, 1, 2, *size, 4, 3, seed=2)
    for reflect_bounds in (True, False):
        options = {"ps": 3, "reflect_bounds": reflect_bounds}
        found = with_gradients(values, torch.float32, itype, options)
        expected = with_gradients(values, torch.float64, itype, options)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("itype", ["int", "float"])
def test_what_is_no_number_stays_where_it_is(itype: str) -> None:
    """Also not in the channels that fill up vectors, which are left out of every sum."""
    video, weights, inds = problem(5)
    video[:, :, ::2, 3, 4] = torch.nan
    video[:, :, 7, 9, 11] = torch.inf
    weights[..., 5, 5, 2] = torch.nan
    inds = inds.round()
    found = with_gradients((video, weights, inds), torch.float32, itype, {"ps": 3})
    expected = with_gradients((video, weights, inds), torch.float64, itype, {"ps": 3})
    for one, other in zip(found, expected, strict=True):
        assert 0 < other.isfinite().sum() < other.numel()
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-5, equal_nan=True)


SEARCHES: list[dict[str, Any]] = [
    {"ps": 1},
    {"ps": 3},
    {"ps": 4, "stride0": 2},
    {"ps": 3, "dilation": 2, "dist_type": "prod"},
    {"ps": 3, "reflect_bounds": False},
    {"ps": 3, "off_Hq": 2, "topk_mode": "each", "k": 2},
]


def search_gradients(
    dtype: torch.dtype,
    channels: int,
    itype: str,
    options: dict[str, Any],
    counts: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Offsets; distances, and the gradients of both videos by those distances that count."""
    given = {"k": 5, "stride0": 1, **options}
    size, stride0 = (15, 22), given["stride0"]
    grid = tuple(-(-length // stride0) for length in size)
    videos = [
        noise(2, 3, 2 * channels, *size, seed=seed).to(dtype).requires_grad_() for seed in (1, 2)
    ]
    flows = 2 * noise(2, 3, 2, 2, *grid, seed=3).to(dtype)
    ps, k = given.pop("ps"), given.pop("k")
    search = stnls.search.NonLocalSearch(5, 1, ps, k, nheads=2, itype=itype, **given)
    dists, inds = search(*videos, flows)
    keep = torch.isfinite(dists) if counts is None else torch.isfinite(dists) & counts
    found = torch.where(keep, dists, torch.zeros_like(dists))
    (
        found * torch.linspace(-1, 1, found.numel(), dtype=dtype).reshape(found.shape)
    ).sum().backward()
    return inds.double(), [found.detach(), *(x.grad for x in videos if x.grad is not None)]


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("channels", [4, 13, 20, 41])
def test_gradients_of_searches(
    use_isa: Callable[[str], None], isa: str, itype: str, channels: int
) -> None:
    use_isa(isa)
    for options in SEARCHES:
        singles, doubles = (
            search_gradients(dtype, channels, itype, options)[0]
            for dtype in (torch.float32, torch.float64)
        )
        # Two matches that are as good as equal may change places.
        same = ((singles - doubles).abs() < 1e-4).all(-1)
        assert same.float().mean() > 0.999
        _, found = search_gradients(torch.float32, channels, itype, options, same)
        _, expected = search_gradients(torch.float64, channels, itype, options, same)
        assert len(found) == len(expected) == 3
        for one, other in zip(found, expected, strict=True):
            size = other.abs().max().item()
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * size)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("itype", ["int", "float"])
def test_threads_do_not_change_a_bit_of_the_gradients_of_a_search(itype: str) -> None:
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(tuple(search_gradients(torch.float32, 10, itype, {"ps": 3})[1]))
    assert_same_bits(*found)


def gradients_of_every_candidate(
    videos: tuple[Tensor, Tensor],
    dtype: torch.dtype,
    options: dict[str, Any],
    *,
    weights: Tensor | None = None,
    wanted: tuple[bool, bool] = (True, True),
) -> list[Tensor | None]:
    """The gradients of query and key by all distances of a search, of which none is a choice."""
    leaves = [x.to(dtype, copy=True).requires_grad_(w) for x, w in zip(videos, wanted, strict=True)]
    search = stnls.search.NonLocalSearch(3, 0, k=-1, **options)
    grid = search.options.grid(videos[1])
    # Multiples of an eighth: positions are exact in both precisions.
    flows = (16 * noise(videos[0].shape[0], videos[0].shape[1], 1, 2, *grid, seed=3)).round() / 8
    dists, _ = search(*leaves, flows.to(dtype))
    if weights is None:
        weights = noise(*dists.shape, seed=4)
    dists.backward(weights.to(dtype))
    return [x.grad for x in leaves]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("itype", ["int", "float"])
def test_query_of_another_size_and_some_heads_at_a_time(itype: str) -> None:
    """A thread has room for four of these six heads of the query and all of the key, five threads
    for all of both."""
    videos = noise(2, 1, 3 * 16, 64, 61, seed=1), noise(2, 1, 3 * 16, 32, 31, seed=2)
    options = {"ps": 1, "nheads": 3, "strideQ": 2, "itype": itype}
    found: list[list[Tensor]] = []
    for count in (1, 5):
        torch.set_num_threads(count)
        grads = gradients_of_every_candidate(videos, torch.float32, options)
        found.append([x for x in grads if x is not None])
    assert_same_bits(*found)
    expected = gradients_of_every_candidate(videos, torch.float64, options)
    for one, other in zip(found[0], expected, strict=True):
        assert other is not None
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("dist_type", ["l2", "prod"])
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("size", [(1, 19), (14, 1), (1, 1)])
def test_searches_of_one_row_or_column(
    size: tuple[int, int], itype: str, dist_type: str, wanted: tuple[bool, bool]
) -> None:
    videos = noise(1, 2, 9, *size, seed=1), noise(1, 2, 9, *size, seed=2)
    for reflect_bounds in (True, False):
        options = {
            "ps": 3,
            "reflect_bounds": reflect_bounds,
            "dist_type": dist_type,
            "itype": itype,
        }
        found, expected = (
            gradients_of_every_candidate(videos, dtype, options, wanted=wanted)
            for dtype in (torch.float32, torch.float64)
        )
        for one, other, want in zip(found, expected, wanted, strict=True):
            assert (one is not None) == (other is not None) == want
            if one is not None and other is not None:
                torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("itype", ["int", "float"])
def test_a_gradient_that_is_no_number_stays_where_it_is(itype: str) -> None:
    videos = noise(1, 2, 9, 14, 19, seed=1), noise(1, 2, 9, 14, 19, seed=2)
    weights = noise(1, 1, 2, 14, 19, 9, seed=4)
    weights[0, 0, 0, 3, 4, 4] = torch.nan
    weights[0, 0, 1, 12, 9, 2] = torch.inf
    options = {"ps": 3, "itype": itype}
    found, expected = (
        gradients_of_every_candidate(videos, dtype, options, weights=weights)
        for dtype in (torch.float32, torch.float64)
    )
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        assert 0 < other.isfinite().sum() < other.numel()
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4, equal_nan=True)


def infinite_gradient_of_search(channels: int, place: float) -> Tensor:
    """The gradient of the key: the query in the corner is compared with the place below it."""
    query, key = noise(1, 1, channels, 12, 6, seed=1), noise(1, 1, channels, 12, 6, seed=2)
    flows = torch.zeros(1, 1, 1, 2, 12, 6)
    flows[..., 1, 0, 0] = place
    search = stnls.search.NonLocalSearch(1, 0, ps=3, k=1)
    dists, inds = search(query, key.requires_grad_(), flows)
    assert inds[0, 0, 0, 0, 0, 0, 1] == place
    weights = torch.ones_like(dists)
    weights[0, 0, 0, 0, 0, 0] = torch.inf
    dists.backward(weights)
    assert key.grad is not None
    return key.grad


def infinite_gradient_of_sum(channels: int, place: float) -> Tensor:
    """The gradient of the video: the same query's patch comes from the place below it."""
    video = noise(1, 1, channels, 12, 6).requires_grad_()
    inds, weights = torch.zeros(1, 1, 1, 12, 6, 4, 3), torch.ones(1, 1, 1, 12, 6, 4)
    inds[0, 0, 0, 0, 0, 0, 1], weights[0, 0, 0, 0, 0, 0] = place, torch.inf
    stnls.agg.WeightedPatchSum(ps=3, stride0=1)(video, weights, inds).sum().backward()
    assert video.grad is not None
    return video.grad


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("channels", [2, 32])
@pytest.mark.parametrize("gradient", [infinite_gradient_of_search, infinite_gradient_of_sum])
def test_threads_agree_on_taps_that_are_rounded_up(
    gradient: Callable[[int, float], Tensor], channels: int
) -> None:
    """The place lies just below row 4, its last tap on row 5: row 6, where two threads divide the
    work, has the weight 0, and 0 times infinity is NaN."""
    place = torch.nextafter(torch.tensor(4.0), torch.tensor(0.0)).item()
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append((gradient(channels, place).isnan(),))
    assert found[0][0][0, 0, :, 6].any()
    assert_same_bits(*found)
