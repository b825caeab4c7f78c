"""`PairedSearch` on the CPU against the reference."""

from __future__ import annotations

import pytest
import stnls
import torch
from cases import drawn
from cases_search import PairedCase, draw_charged, draw_paired
from compare import PROPERTY, assert_same_bits, assert_search, noise
from hypothesis import currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from reference import paired_candidates
from torch import Tensor


def check(case: PairedCase) -> None:
    assert case.flows is not None
    shapes = [tuple(x.shape) for x in (case.vid0, case.vid1, case.flows)]
    if currently_in_test_context():
        note(f"{case.options}, frame0, frame1 and flow {shapes}, exact {case.exact}")
    table = paired_candidates(case.options, case.vid0, case.vid1, case.flows)
    assert_search(case.reference_options, table, case.run_with_time(), exact=case.exact)


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_any_paired_search_equals_the_reference(data: st.DataObject) -> None:
    check(draw_paired(drawn(data)))


@settings(PROPERTY, max_examples=150)
@given(st.data())
def test_any_charge_for_leaving_the_flow_equals_the_reference(data: st.DataObject) -> None:
    case = draw_charged(drawn(data))
    if currently_in_test_context():
        note(f"{case.options}, charge {case.charge}, {[x.shape for x in case.inputs()]}")
    case.assert_outputs(case.run())


@pytest.mark.parametrize("self_action", ["anchor", "anchor_self", "anchor_each"])
@pytest.mark.parametrize("itype", ["float", "int"])
def test_anchors_put_the_place_that_flow_predicts_first(self_action: str, itype: str) -> None:
    frame0, frame1 = noise(1, 2, 20, 30, seed=1), noise(1, 2, 20, 30, seed=2)
    flow = torch.empty(1, 2, 20, 30)
    flow[:, 0], flow[:, 1] = -1.75, 2.25
    search = stnls.search.PairedSearch(
        *(5, 3, 4), stride0=1, self_action=self_action, itype=itype, full_ws=False
    )
    _, inds = search(frame0, frame1, flow)
    first = inds[0, 0, :15, 4:, 0]  # where the flow stays inside the frame
    expected = [2.25, -1.75] if itype == "float" else [2, -2]
    assert bool((first == torch.tensor(expected)).all())


def test_one_pair_is_a_video_of_one_frame() -> None:
    frame0, frame1 = noise(2, 4, 18, 70, seed=1), noise(2, 4, 18, 70, seed=2)
    flow = 2 * noise(2, 2, 18, 70, seed=3)
    dists, inds = stnls.search.PairedSearch(5, 3, 4, nheads=2, stride0=1)(frame0, frame1, flow)
    search = stnls.search.NonLocalSearch(5, 0, 3, 4, nheads=2)
    expected = search(frame0[:, None], frame1[:, None], flow[:, None, None])
    assert bool((expected[1][..., 0] == 0).all())
    assert_same_bits((dists, inds), (expected[0].squeeze(2), expected[1][..., 1:].squeeze(2)))


def test_frames_of_one_head_are_searched_with_every_head_of_the_flow() -> None:
    frame0, frame1 = noise(1, 3, 9, 11, seed=1), noise(1, 3, 9, 11, seed=2)
    flow = 2 * noise(1, 3, 2, 9, 11)
    search = stnls.search.PairedSearch(3, 3, 2, stride0=1)
    dists, inds = search(frame0, frame1, flow)
    assert dists.shape == (1, 3, 9, 11, 2)
    for head in range(3):
        one = search(frame0, frame1, flow[:, head])
        assert_same_bits(one, (dists[:, head : head + 1], inds[:, head : head + 1]))


@pytest.mark.parametrize(("heads", "flow_heads"), [(2, 3), (3, 2), (2, 4), (2, 1)])
def test_frames_and_flow_are_taken_modulo_their_heads(heads: int, flow_heads: int) -> None:
    frame0, frame1 = noise(1, 2 * heads, 9, 11, seed=1), noise(1, 2 * heads, 9, 11, seed=2)
    flow = 2 * noise(1, flow_heads, 2, 9, 11)
    found = stnls.search.PairedSearch(3, 3, 2, nheads=heads, stride0=1)(frame0, frame1, flow)
    assert found[0].shape == (1, max(heads, flow_heads), 9, 11, 2)
    search = stnls.search.PairedSearch(3, 3, 2, stride0=1)
    for head in range(max(heads, flow_heads)):
        at = head % heads * 2
        pair = frame0[:, at : at + 2], frame1[:, at : at + 2]
        one = search(*pair, flow[:, head % flow_heads])
        assert_same_bits(one, [x[:, head : head + 1] for x in found])


def test_frames_bring_their_heads() -> None:
    frame0, frame1 = noise(1, 6, 9, 11, seed=1), noise(1, 6, 9, 11, seed=2)
    flow = 2 * noise(1, 3, 2, 9, 11)
    expected = stnls.search.PairedSearch(3, 3, 2, nheads=3, stride0=1)(frame0, frame1, flow)
    frames = [x.unflatten(1, (3, 2)) for x in (frame0, frame1)]
    for nheads in (1, 3):
        search = stnls.search.PairedSearch(3, 3, 2, nheads=nheads, stride0=1)
        assert_same_bits(search(*frames, flow), expected)


def test_the_default_grid_has_four_pixels_between_queries() -> None:
    frame = noise(1, 1, 9, 14)
    dists, inds = stnls.search.PairedSearch(3, 3, 1)(frame, frame, torch.zeros(1, 2, 3, 4))
    assert dists.shape == (1, 1, 3, 4, 1)
    assert inds.shape == (1, 1, 3, 4, 1, 2)
    assert bool((dists == 0).all())
    assert bool((inds == 0).all())


def test_an_empty_batch() -> None:
    frame, flow = torch.zeros(0, 2, 9, 14), torch.zeros(0, 2, 9, 14)
    dists, inds = stnls.search.PairedSearch(3, 3, 2, stride0=1, itype="int")(frame, frame, flow)
    assert dists.shape == (0, 1, 9, 14, 2)
    assert inds.shape == (0, 1, 9, 14, 2, 2)


def test_a_charge_keeps_matches_near_the_flow() -> None:
    frame0, frame1 = noise(1, 3, 24, 30, seed=1), noise(1, 3, 24, 30, seed=2)
    flow = 2 * noise(1, 2, 24, 30, seed=3)
    predicted = flow.flip(1).permute(0, 2, 3, 1)

    def found(charge: float) -> tuple[Tensor, Tensor]:
        dists, inds = stnls.search.PairedSearch(7, 5, 1, stride0=1, charge=charge)(
            frame0, frame1, flow
        )
        away = (inds[0, 0, ..., 0, :] - predicted[0]).square().sum(-1)
        return dists, away[8:-8, 8:-8]  # windows and predicted places inside the frame

    distances, aways = zip(*(found(charge) for charge in (0, 0.05, 1e6)), strict=True)
    assert aways[0].mean() > aways[1].mean() > aways[2].mean()
    assert float(aways[2].max()) < 1e-9
    assert bool((distances[1] >= distances[0] - 1e-4).all())
    with pytest.raises(stnls.StnlsError, match="charge must be at least 0, not -1"):
        stnls.search.PairedSearch(3, 3, 1, charge=-1)
    with pytest.raises(stnls.StnlsError, match="charge must be at most 1e\\+12, not 1e\\+13"):
        stnls.search.PairedSearch(3, 3, 1, charge=1e13)


@pytest.mark.parametrize("itype", ["float", "int"])
def test_a_charge_counts_in_every_frame_of_a_video(itype: str) -> None:
    vid0, vid1 = noise(1, 3, 3, 12, 14, seed=1), noise(1, 3, 3, 12, 14, seed=2)
    flows = 2 * noise(1, 3, 2, 2, 12, 14, seed=3)
    search = stnls.search.PairedSearch(5, 3, 2, stride0=1, itype=itype, charge=0.2)
    dists, inds = search.paired_vids(vid0, vid1, flows, 1, skip_self=True)
    for t in range(3):
        for slot, dt in enumerate(stnls.search.get_time_window_inds(t, 1, 3)[1:]):
            one = search(vid0[:, t], vid1[:, dt], flows[:, t, slot])
            part = slice(2 * slot, 2 * slot + 2)
            assert_same_bits(one, (dists[:, :, t, ..., part], inds[:, :, t, ..., part, 1:]))
