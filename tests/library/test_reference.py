"""The reference itself, on examples that are worked out by hand."""

from __future__ import annotations

import pytest
import torch
from reference import SearchOptions, candidates, compose_flow, search_flow, select
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
