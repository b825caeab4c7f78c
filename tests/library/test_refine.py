"""`RefineSearch` and `PairedRefine` on the CPU against the reference, and `paired_vids`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import stnls
import torch
from cases import drawn, seeded
from cases_refine import PairedRefineCase, RefineCase, draw_paired_refine, draw_refine
from compare import PROPERTY, assert_same_bits, assert_search, bytes_like, noise
from hypothesis import currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from torch import Tensor

EMPTY = -100000000


def check(case: RefineCase) -> None:
    if currently_in_test_context():
        note(f"{case}\n{[(tuple(x.shape), x.dtype) for x in case.inputs()]}")
    found = case.run_with_time() if isinstance(case, PairedRefineCase) else case.run()
    assert_search(case.reference_options, case.table(), found, exact=case.exact, direct=True)


@pytest.mark.parametrize("draw", [draw_refine, draw_paired_refine])
@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_any_refinement_equals_the_reference(
    draw: Callable[..., RefineCase], data: st.DataObject
) -> None:
    check(draw(drawn(data)))


@pytest.mark.slow
@pytest.mark.parametrize("draw", [draw_refine, draw_paired_refine])
def test_many_refinements_equal_the_reference(draw: Callable[..., RefineCase]) -> None:
    for seed in range(2000):
        case = draw(seeded(seed))
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {case.options}\n{error}") from error


@settings(PROPERTY, max_examples=40)
@given(st.data())
def test_threads_do_not_change_a_bit(threads: None, data: st.DataObject) -> None:
    case = draw_refine(drawn(data))
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append(case.run())
    assert_same_bits(*runs)


def earlier_search(itype: str, k: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Videos, and what a search between them found."""
    query, key = bytes_like(1, 3, 2, 8, 9, seed=1), bytes_like(1, 3, 2, 8, 9, seed=2)
    flows = 2 * noise(1, 3, 2, 2, 8, 9)
    search = stnls.search.NonLocalSearch(3, 1, 3, k, itype=itype, full_ws=False)
    return query, key, *search(query, key, flows)


@pytest.mark.parametrize("itype", ["int", "float"])
def test_a_window_of_one_position_scores_the_matches_again(itype: str) -> None:
    query, key, dists, inds = earlier_search(itype)
    again = stnls.search.RefineSearch(9, 9, 1, -1, -1, 3, stride0=1, itype=itype)(query, key, inds)
    assert_same_bits((again[1],), (inds,))
    torch.testing.assert_close(again[0], dists, rtol=2e-6, atol=0.1)


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("self_action", ["anchor", "anchor_self", "anchor_each"])
def test_anchors_put_the_match_itself_first(itype: str, self_action: str) -> None:
    query, key, _, inds = earlier_search(itype)
    options = {"stride0": 1, "itype": itype, "self_action": self_action}
    each = stnls.search.RefineSearch(9, 9, 3, 2, -1, 3, topk_mode="each", **options)
    assert_same_bits((each(query, key, inds)[1][..., ::2, :],), (inds,))
    best = stnls.search.RefineSearch(9, 9, 3, 4, -1, 3, **options)
    assert_same_bits((best(query, key, inds)[1][..., 0, :],), (inds[..., 0, :],))


@pytest.mark.parametrize(("itype", "limit"), [("float", 1e8), ("int", 1e5)])
def test_empty_entries_stay_empty(itype: str, limit: float) -> None:
    query, key, _, inds = earlier_search(itype)
    inds = inds.float()
    inds[..., 0, 1] = limit
    inds[..., 1, :] = EMPTY
    inds[..., 2, 2] = float("nan")
    dists, found = stnls.search.RefineSearch(9, 9, 2, -1, -1, 3, stride0=1, itype=itype)(
        query, key, inds
    )
    assert bool(torch.isposinf(dists).all())
    assert bool((found == EMPTY).all())
    assert found.dtype == (torch.int32 if itype == "int" else torch.float32)


@pytest.mark.parametrize(
    ("kr", "kept"), [(-1, 4), (0, 4), (1, 1), (2, 2), (9, 4), (0.5, 2), (1.0, 4), (2.0, 2)]
)
def test_kr_is_a_number_of_matches_or_a_share_of_them(kr: float, kept: int) -> None:
    query, key, _, inds = earlier_search("int", k=4)
    search = stnls.search.RefineSearch(9, 9, 3, -1, kr, 3, stride0=1, itype="int")
    few = stnls.search.RefineSearch(9, 9, 3, -1, -1, 3, stride0=1, itype="int")
    assert_same_bits(search(query, key, inds), few(query, key, inds[..., :kept, :]))


def test_a_share_that_leaves_no_match() -> None:
    query, key, _, inds = earlier_search("int", k=1)
    with pytest.raises(stnls.StnlsValueError, match=r"kr=0\.5 of 1 matches leaves none"):
        stnls.search.RefineSearch(9, 9, 3, 2, 0.5, 3, stride0=1, itype="int")(query, key, inds)


def test_integer_offsets_are_rounded_half_to_even() -> None:
    video = bytes_like(1, 1, 1, 9, 9, seed=1)
    prior = torch.zeros(1, 1, 1, 9, 9, 1, 3)
    prior[..., 1], prior[..., 2] = 0.5, 1.5
    search = stnls.search.RefineSearch(9, 9, 1, 1, -1, 1, stride0=1, itype="int")
    _, inds = search(video, video, prior)
    assert inds[0, 0, 0, 4, 4, 0].tolist() == [0, 0, 2]


def test_frames_are_rounded_half_up_and_reflected() -> None:
    video = noise(1, 3, 1, 5, 5)
    prior = torch.zeros(1, 1, 3, 5, 5, 4, 3)
    prior[..., 0] = torch.tensor([0.5, -0.5, 3.0, -1.0])
    search = stnls.search.RefineSearch(9, 9, 1, -1, -1, 1, stride0=1)
    _, inds = search(video, video, prior)
    assert inds[0, 0, :, 2, 2, :, 0].tolist() == [[1, 0, 1, 1], [1, 0, -1, -1], [-1, 0, -1, -1]]


def test_flattened_queries_give_the_same() -> None:
    query, key, _, inds = earlier_search("float")
    search = stnls.search.RefineSearch(9, 9, 3, 4, -1, 3, stride0=1)
    assert_same_bits(search(query, key, inds), search(query, key, inds.flatten(2, 4)))


@pytest.mark.parametrize("itype", ["int", "float"])
def test_a_pair_is_a_video_of_one_frame(itype: str) -> None:
    frame0, frame1 = noise(2, 4, 8, 9, seed=1), noise(2, 4, 8, 9, seed=2)
    prior = 2 * noise(2, 8, 9, 3, 2)
    paired = stnls.search.PairedRefine(9, 3, 2, -1, 3, nheads=2, itype=itype)
    dists, inds = paired(frame0, frame1, prior)
    video = stnls.search.RefineSearch(
        9, 9, 3, 2, -1, 3, nheads=2, stride0=1, topk_mode="each", itype=itype
    )
    with_time = torch.nn.functional.pad(prior, (1, 0))[:, None, None].expand(-1, 2, *(-1,) * 5)
    expected = video(frame0[:, None], frame1[:, None], with_time)
    assert_same_bits((dists, inds), (expected[0].squeeze(2), expected[1].squeeze(2)[..., 1:]))


def test_inputs_are_left_as_they_are() -> None:
    query, key, _, inds = earlier_search("float")
    before = [x.clone() for x in (query, key, inds)]
    stnls.search.RefineSearch(9, 9, 3, 2, -1, 3, stride0=1, itype="int")(query, key, inds)
    assert_same_bits((query, key, inds), before)


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("k", [-1, 1, 4])
@pytest.mark.parametrize("self_action", [None, "anchor"])
def test_searches_of_all_pairs_are_the_best_of_each_slot(
    itype: str, k: int, self_action: str | None
) -> None:
    query, key = noise(2, 5, 4, 8, 9, seed=1), noise(2, 5, 4, 8, 9, seed=2)
    flows = 2 * noise(2, 5, 4, 2, 4, 5)
    options = {"nheads": 2, "stride0": 2, "itype": itype}
    paired = stnls.search.PairedSearch(3, 3, k, self_action=self_action, **options)
    mode = "each" if k > 0 else "all"
    action = None if self_action is None else "anchor_each"
    search = stnls.search.NonLocalSearch(3, 2, 3, k, topk_mode=mode, self_action=action, **options)
    expected = search(query, key, flows)
    assert_same_bits(paired.paired_vids(query, key, flows, 2), expected)
    per_slot = expected[0].shape[-1] // 5
    without = [expected[0][..., per_slot:], expected[1][..., per_slot:, :]]
    assert_same_bits(paired.paired_vids(query, key, flows, 2, skip_self=True), without)
    # Pair by pair, as the original does it.
    for t, frames in enumerate(([0, 1, 2, 3, 4], [1, 2, 3, 4, 0], [2, 3, 4, 1, 0])):
        for slot, frame in enumerate(frames[1:], 1):
            dists, inds = paired(query[:, t], key[:, frame], flows[:, t, slot - 1])
            at = slice(slot * per_slot, (slot + 1) * per_slot)
            assert_same_bits((dists,), (expected[0][:, :, t, ..., at],))
            assert_same_bits((inds,), (expected[1][:, :, t, ..., at, 1:],))


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("skip_self", [False, True])
def test_refinements_of_all_pairs_are_those_of_each_slot(itype: str, skip_self: bool) -> None:
    query, key = noise(1, 3, 2, 8, 9, seed=1), noise(1, 3, 2, 8, 9, seed=2)
    flows = 2 * noise(1, 3, 2, 2, 8, 9)
    paired = stnls.search.PairedSearch(3, 3, 2, stride0=1, itype=itype)
    _, inds = paired.paired_vids(query, key, flows, 1, skip_self)
    refine = stnls.search.PairedRefine(9, 3, 3, -1, 3, topk_mode="all", itype=itype)
    dists, found = refine.paired_vids(query, key, inds, 1, skip_self)
    assert dists.shape[-1] == 3 * (2 if skip_self else 3)
    for t, frames in enumerate(([0, 1, 2], [1, 2, 0], [2, 1, 0])):
        for block, frame in enumerate(frames[1:] if skip_self else frames):
            earlier = inds[:, :, t, ..., 2 * block : 2 * block + 2, 1:]
            expected = refine(query[:, t], key[:, frame], earlier)
            at = slice(3 * block, 3 * block + 3)
            assert_same_bits(expected, (dists[:, :, t, ..., at], found[:, :, t, ..., at, 1:]))
            assert bool((found[:, :, t, ..., at, 0] == frame - t).all())


def test_matches_in_the_slot_of_another_frame_are_an_error() -> None:
    video, inds = noise(1, 3, 2, 8, 9), torch.zeros(1, 1, 3, 8, 9, 3, 3)
    refine = stnls.search.PairedRefine(9, 3, 1, -1, 3)
    with pytest.raises(stnls.StnlsValueError, match=r"dt=0 at frame 0 in slot 1.*to dt=1"):
        refine.paired_vids(video, video, inds, 1)
    _, found = refine.paired_vids(video, video, inds, 1, check_time=False)
    assert bool((found[..., 0] == 0).all())
    with pytest.raises(stnls.StnlsValueError, match="4 matches, which do not make 3 equal slots"):
        refine.paired_vids(video, video, torch.zeros(1, 1, 3, 8, 9, 4, 3), 1)


def test_parameters_stand_in_the_order_of_the_original() -> None:
    search = stnls.search.RefineSearch(
        *(11, 2, 3, 4, 5, 7, 1, 2, 0.5, 3, 2, 1, "prod", False, False, False, "each", "anchor"),
        *(True, False, 6, 1, 2, "float"),
    )
    o = search.options
    assert (o.ws, o.k, search.kr, o.ps, o.nheads, o.stride0, o.stride1) == (3, 4, 5, 7, 1, 2, 0.5)
    assert (search.strideQ, o.stride_query, o.dilation, o.dist_type) == (3, 3, 2, "prod")
    assert (o.reflect_bounds, o.full_ws, o.topk_mode) == (False, False, "each")
    assert (o.use_adj, o.k_agg, o.off_Hq, o.off_Wq, o.itype) == (True, 6, 1, 2, "float")
    paired = stnls.search.PairedRefine(
        *(11, 3, 4, 5, 7, 1, "prod", 2, 0.5, 2, True, False, False, "anchor", True, False, 6),
        *("all", 1, 2, "float"),
    )
    o = paired.options
    assert (o.ws, o.k, paired.kr, o.ps, o.nheads, o.dist_type) == (3, 4, 5, 7, 1, "prod")
    assert (o.stride0, o.stride1, o.dilation, o.reflect_bounds, o.full_ws) == (
        2,
        0.5,
        2,
        False,
        False,
    )
    assert (o.use_adj, o.k_agg, o.topk_mode, o.off_Hq, o.off_Wq) == (True, 6, "all", 1, 2)


@pytest.mark.parametrize("name", ["pt", "normalize_bwd"])
def test_parameters_that_are_not_wanted_accept_only_their_default(name: str) -> None:
    with pytest.raises(stnls.StnlsValueError, match=f"{name}=7 is not supported"):
        stnls.search.RefineSearch(9, 9, 3, 2, -1, 3, **{name: 7})
