"""The reference itself, on examples that are worked out by hand."""

from __future__ import annotations

import pytest
import torch
from reference import (
    PatchOptions,
    SearchOptions,
    candidates,
    compose_flow,
    distances_at,
    gather_add,
    scatter_add,
    search_flow,
    select,
)
from reference.patch_sum import coverage
from reference.positions import fold, read, slot_frames, window


def test_fold_reflects_until_inside() -> None:
    x = torch.arange(-9, 12)
    expected = [1, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
    expected = [abs((v + 4) % 8 - 4) for v in x.tolist()]
    assert fold(x, 5).tolist() == expected
    assert fold(torch.tensor([-1, 5, -4, 8]), 5).tolist() == [1, 3, 4, 0]
    assert fold(torch.tensor([-0.25, 4.5, 8.5]), 5).tolist() == [0.25, 3.5, 0.5]
    assert fold(torch.tensor([-3, 7]), 1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("wt", "slots"),
    [
        (1, [[0, 1, 2], [1, 2, 0], [2, 3, 1], [3, 4, 2], [4, 3, 2]]),
        (
            2,
            [[0, 1, 2, 3, 4], [1, 2, 3, 4, 0], [2, 3, 4, 1, 0], [3, 4, 2, 1, 0], [4, 3, 2, 1, 0]],
        ),
    ],
)
def test_slots_slide_inward_at_the_ends(wt: int, slots: list[list[int]]) -> None:
    assert [slot_frames(t, wt, 5) for t in range(5)] == slots


@pytest.mark.parametrize(
    ("step", "offsets"),
    [
        (1, [[0, 1, 2, 3, 4], [-1, 0, 1, 2, 3], [-2, -1, 0, 1, 2], [-3, -2, -1, 0, 1]]),
        (2, [[-2, 0, 2, 4, 6], [-4, -2, 0, 2, 4], [-6, -4, -2, 0, 2], [-8, -6, -4, -2, 0]]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_windows_move_inside_by_whole_steps(
    step: int, offsets: list[list[int]], dtype: torch.dtype
) -> None:
    rows = torch.tensor([0, 1, 3, 5], dtype=dtype)
    at, _ = window(rows, torch.tensor(step, dtype=dtype), 5, 7, True)
    assert (at - rows[:, None]).tolist() == offsets


def test_even_windows_have_one_more_position_below() -> None:
    at, anchor = window(torch.tensor([10]), torch.tensor(1), 4, 100, False)
    assert at.tolist() == [[9, 10, 11, 12]]
    assert anchor.tolist() == [1]


def test_windows_keep_the_fraction_of_the_anchor() -> None:
    at, anchor = window(torch.tensor([0.25]), torch.tensor(0.5), 5, 7, True)
    assert at.tolist() == [[0.25, 0.75, 1.25, 1.75, 2.25]]
    assert anchor.tolist() == [0]


def test_bilinear_read_at_pixels_between_them_and_at_the_last() -> None:
    image = torch.tensor([[[0.0, 4.0, 8.0], [10.0, 14.0, 18.0]]])
    h, w = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.25, 2.0])
    assert read(image, h, w).tolist() == [[4.0, 6.0, 18.0]]


def test_ties_go_to_the_lowest_raster_index() -> None:
    video = torch.zeros(1, 1, 1, 5, 5)
    o = SearchOptions(ws=3, wt=0, k=4, itype="int")
    _, inds = select(o, candidates(o, video, video, None))
    assert inds[0, 0, 0, 2, 2].tolist() == [[0, -1, -1], [0, -1, 0], [0, -1, 1], [0, 0, -1]]


def test_composition_follows_constant_flow_and_restarts_backward() -> None:
    fflow, bflow = torch.empty(1, 3, 2, 4, 4), torch.empty(1, 3, 2, 4, 4)
    fflow[:, :, 0], fflow[:, :, 1] = 1.0, 0.5
    bflow[:, :, 0], bflow[:, :, 1] = -1.0, 2.0
    flows = search_flow(fflow, bflow, 1)
    assert flows[0, 0, :, :, 1, 1].tolist() == [[1.0, 0.5], [2.0, 1.0]]
    assert flows[0, 1, :, :, 1, 1].tolist() == [[1.0, 0.5], [-1.0, 2.0]]
    assert flows[0, 2, :, :, 1, 1].tolist() == [[-1.0, 2.0], [-2.0, 4.0]]
    assert compose_flow(fflow)[0, :, :, 0, 0].tolist() == [[1.0, 0.5], [2.0, 1.0], [3.0, 1.5]]


def test_flow_is_read_between_pixels_and_mirrored_outside() -> None:
    flow = torch.zeros(1, 2, 2, 1, 4)
    flow[0, 0, 0, 0] = torch.tensor([0.5, -2.25, 0.0, 5.0])
    flow[0, 1, 0, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    chain = compose_flow(flow)[0, :, 0, 0]
    assert chain[1, 0] == 0.5 + 0.5
    assert chain[1, 1] == -2.25 + 1.25  # read at -1.25, mirrored at pixel 0
    assert chain[1, 3] == 5.0 + 2.0  # read at 8 = 3 + 5, mirrored to -2, then to 2


@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("reflect_bounds", [True, False])
def test_distances_at_places_are_those_of_the_table(itype: str, reflect_bounds: bool) -> None:
    query, key = torch.randn(2, 1, 1, 3, 2, 6, 7, dtype=torch.float64)
    flows = torch.randn(1, 3, 2, 2, 6, 7, dtype=torch.float64)
    o = SearchOptions(3, 1, 4, dilation=2, itype=itype, reflect_bounds=reflect_bounds)
    table = candidates(o, query, key, flows)
    inds = table.inds.flatten(-3, -2)
    t, i, j = (torch.arange(n).view(-1, *(1,) * d) for n, d in ((3, 3), (6, 2), (7, 1)))
    frame, h, w = t + inds[..., 0].long(), i + inds[..., 1], j + inds[..., 2]
    at = distances_at(o, query, key, frame, h.clamp(0, 5), w.clamp(0, 6))
    finite = torch.isfinite(table.dists.flatten(-2))
    torch.testing.assert_close(at[finite], table.dists.flatten(-2)[finite])


@pytest.mark.parametrize("itype", ["float", "int"])
def test_scattering_is_the_transpose_of_gathering(itype: str) -> None:
    o = PatchOptions(3, 2, dilation=2, itype=itype)
    here, there = torch.randn(2, 1, 2, 3, 2, 5, 7).double()
    weights, inds = torch.randn(1, 2, 3, 3, 4, 2).double(), 3 * torch.randn(1, 2, 3, 3, 4, 2, 3)
    count = coverage(o, 5, 7)
    count = torch.where(count == 0, 1, count)
    gathered = (gather_add(there, weights, inds, o) * count).nan_to_num()
    scattered = scatter_add(here, weights, inds, o)
    torch.testing.assert_close((gathered * here).sum(), (scattered * there).sum())


def test_the_slope_of_the_reference_is_right_sided_and_mirrored_at_the_end() -> None:
    key = torch.tensor([[0.0, 1.0, 5.0, 12.0]], dtype=torch.float64).view(1, 1, 1, 1, 1, 4)
    w = torch.arange(4.0, dtype=torch.float64).view(1, 1, 1, 1, 4, 1).requires_grad_()
    o = SearchOptions(1, 0, 1, dist_type="prod")
    zero = torch.zeros(1, 1, 1, 1, 4, 1)
    distances_at(o, torch.ones_like(key), key, zero.long(), zero.double(), w).sum().backward()
    assert w.grad is not None
    assert w.grad.flatten().tolist() == [1.0, 4.0, 7.0, -7.0]
