"""`WeightedPatchSum` on the CPU against the reference."""

from __future__ import annotations

import pytest
import stnls
import torch
from cases import drawn
from cases_aggregation import draw_patch_sum
from compare import PROPERTY, assert_same_bits, noise
from hypothesis import given, note, settings
from hypothesis import strategies as st


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_any_patch_sum_equals_the_reference(data: st.DataObject) -> None:
    case = draw_patch_sum(drawn(data))
    note(f"{case.options} {case.video.shape} {case.inds.shape} {case.inds.dtype}")
    case.assert_outputs([case.run()])


def test_one_tap_is_the_aggregation_of_attention() -> None:
    video, weights = noise(1, 3, 2, 6, 7), torch.softmax(noise(1, 1, 3, 6, 7, 4), -1)
    inds = torch.zeros(1, 1, 3, 6, 7, 4, 3)
    inds[..., 1, 0], inds[..., 2, 1], inds[..., 3, 2] = 1, 2, -1
    out = stnls.agg.WeightedPatchSum(1, 1)(video, weights, inds)
    w = weights[0, 0, 0, 2, 3]
    matches = torch.stack([video[0, 0, :, 2, 3], video[0, 1, :, 2, 3], video[0, 0, :, 4, 3]])
    expected = w[:3] @ matches + w[3] * video[0, 0, :, 2, 2]
    torch.testing.assert_close(out[0, 0, :, 2, 3], expected)


@pytest.mark.parametrize("itype", ["int", "float"])
def test_offsets_of_zero_give_the_video_back(itype: str) -> None:
    video = noise(2, 3, 4, 20, 33)
    weights, inds = torch.ones(2, 2, 3, 10, 17, 1), torch.zeros(2, 2, 3, 10, 17, 1, 3)
    out = stnls.agg.WeightedPatchSum(5, 2, itype=itype)(video, weights, inds)
    torch.testing.assert_close(out, video)


def test_empty_entries_add_nothing_but_count() -> None:
    video, weights = torch.ones(1, 1, 1, 5, 5), torch.ones(1, 1, 1, 5, 5, 2)
    inds = torch.zeros(1, 1, 1, 5, 5, 2, 3)
    inds[..., 0, 1:] = -1e8
    for itype in ("int", "float"):
        out = stnls.agg.WeightedPatchSum(3, 1, itype=itype)(video, weights, inds)
        torch.testing.assert_close(out, video)


def test_offsets_that_int32_does_not_hold_are_empty() -> None:
    video, weights = torch.ones(1, 1, 1, 5, 5), torch.ones(1, 1, 1, 5, 5, 1)
    for value in (2**32, -(2**40)):
        inds = torch.full((1, 1, 1, 5, 5, 1, 3), value)
        inds[..., 0] = 0
        for itype in ("int", "float"):
            out = stnls.agg.WeightedPatchSum(1, 1, itype=itype)(video, weights, inds)
            assert bool((out == 0).all())


def test_heads_are_merged_back_into_the_channels() -> None:
    video, weights = noise(2, 3, 6, 8, 9), noise(2, 3, 3, 8, 9, 2)
    inds = 2 * noise(2, 3, 3, 8, 9, 2, 3)
    inds[..., 0] = 0
    operator = stnls.agg.WeightedPatchSum(3, 1)
    by_head = operator(video.unflatten(2, (3, 2)).transpose(1, 2), weights, inds)
    assert by_head.shape == (2, 3, 3, 2, 8, 9)
    assert_same_bits((operator(video, weights, inds),), (by_head.transpose(1, 2).flatten(2, 3),))


@pytest.mark.parametrize("itype", ["int", "float"])
def test_threads_do_not_change_a_bit(threads: None, itype: str) -> None:
    video, weights = noise(1, 2, 3, 75, 40), noise(1, 1, 2, 38, 20, 3)
    inds = 9 * noise(1, 1, 2, 38, 20, 3, 3)
    inds[..., 0] = inds[..., 0].round().clamp(-1, 1)
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append((stnls.agg.WeightedPatchSum(5, 2, itype=itype)(video, weights, inds),))
    assert_same_bits(*runs)


def test_parameters_stand_in_the_order_of_the_original() -> None:
    module = stnls.agg.WeightedPatchSum(3, 2, 1, 2, False, True, "int")
    o = module.options
    assert (o.ps, o.stride0, o.dilation) == (3, 2, 2)
    assert (o.reflect_bounds, o.use_adj, o.itype) == (False, True, "int")
