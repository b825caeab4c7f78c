"""`NonLocalSearch` on the CPU against the reference, in every option and both forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import stnls
import torch
from cases import drawn, seeded
from cases_search import SELF_ACTIONS, SearchCase, direct_form, draw_search
from compare import PROPERTY, assert_same_bits, assert_search, bytes_like, noise
from hypothesis import currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from reference import SearchOptions, candidates
from stnls import _native
from torch import Tensor


def check(case: SearchCase, *, both_forms: bool = False) -> None:
    shapes = [None if x is None else tuple(x.shape) for x in (case.vid0, case.vid1, case.flows)]
    if currently_in_test_context():
        note(f"{case.options}, vid0, vid1 and flows {shapes}, exact {case.exact}")
    table = candidates(case.options, case.vid0, case.vid1, case.flows)
    assert_search(case.options, table, case.run(), exact=case.exact)
    if both_forms:
        with direct_form():
            assert_search(case.options, table, case.run(), exact=case.exact, direct=True)


@settings(PROPERTY, max_examples=200)
@given(st.data())
def test_any_search_equals_the_reference(data: st.DataObject) -> None:
    check(draw_search(drawn(data)))


@settings(PROPERTY, max_examples=200)
@given(st.data())
def test_tiles_equal_the_reference_and_the_direct_form(data: st.DataObject) -> None:
    case = draw_search(drawn(data), tiles=True)
    check(case, both_forms=True)
    if case.exact:
        tiles = case.run()
        with direct_form():
            assert_same_bits(tiles, case.run())


def test_an_anchor_in_another_frame_changes_places_with_the_first_candidate() -> None:
    """The own frame's flow leads away, so that the nearest position lies in a neighbour frame."""
    video = noise(1, 3, 2, 9, 9)
    flows = torch.zeros(1, 3, 3, 2, 9, 9)
    flows[:, :, 0] = 4.0
    for k in (1, 4, 9):
        o = SearchOptions(3, 1, 3, k, self_action="anchor", topk_mode="each")
        check(SearchCase(o, video, video, flows, False), both_forms=True)


def test_an_anchor_that_is_no_candidate() -> None:
    """Nearest on the real grid is the same pixel of the next frame."""
    video, flows = noise(1, 3, 2, 9, 9), torch.zeros(1, 3, 3, 2, 9, 9)
    flows[:, :, 0] = 4.25
    for itype, offset, source in (("float", (0, 0, 0), (1, 0, 0)), ("int", (0, 3, 3), (0, 3, 3))):

        def first_query(k: int, action: str | None, itype: str = itype) -> tuple[Tensor, Tensor]:
            search = stnls.search.NonLocalSearch(3, 1, 1, k, self_action=action, itype=itype)
            dists, inds = search(video, video, flows)
            return dists[0, 0, 0, 0, 0], inds[0, 0, 0, 0, 0]

        every, places = first_query(-1, None)
        at = places.tolist().index(list(source))
        dists, inds = first_query(2, "anchor")
        assert inds[0].tolist() == list(offset)
        assert dists[0] == every[at]
        left, _ = first_query(-1, "remove")
        assert sorted(left.tolist()) == sorted([*every[:at].tolist(), *every[at + 1 :].tolist()])


# Frames larger than one tile (16 x 64), and motion that tiles share, split at, or cannot share.
HEIGHT, WIDTH = 40, 150


def shared_motion(*shape: int) -> Tensor:
    flow = torch.full(shape, 1.75)
    flow[..., 1, :, :] = -3.0
    return flow


def motion_edges(*shape: int) -> Tensor:
    flow = torch.full(shape, -2.5)
    flow[..., :, :, 40:90] = 9.0
    flow[..., :, 13:22, :] += 6.25
    return flow


def zoom(*shape: int) -> Tensor:
    return torch.linspace(-8, 8, shape[-1]).expand(shape).clone() + 0.25 * noise(*shape)


def scattered_motion(*shape: int) -> Tensor:
    return 20 * noise(*shape)


def outside(*shape: int) -> Tensor:
    return torch.full(shape, 400.5)


def broken(*shape: int) -> Tensor:
    flow = zoom(*shape)
    flow[..., 3:9, 20:30] = float("nan")
    flow[..., 1, 30, :] = float("inf")
    flow[..., 0, :, 149] = -1e30
    return flow


MOTIONS = [shared_motion, motion_edges, zoom, scattered_motion, outside, broken]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize(
    ("itype", "stride1", "dist_type"),
    [("int", 1, "l2"), ("int", 1, "prod"), ("float", 0.5, "l2"), ("float", 1, "prod")],
)
def test_tiles_of_large_frames(
    motion: Callable[..., Tensor], k: int, itype: str, stride1: float, dist_type: str
) -> None:
    whole = itype == "int"
    query, key = (bytes_like(1, 1, 2, HEIGHT, WIDTH, seed=seed) for seed in (1, 2))
    flows = motion(1, 1, 1, 2, HEIGHT, WIDTH)
    o = SearchOptions(4, 0, 3, k, stride1=stride1, itype=itype, dist_type=dist_type)
    case = SearchCase(o, query, key, flows, whole)
    check(case, both_forms=True)


@pytest.mark.parametrize("k", [1, 4, -1])
@pytest.mark.parametrize("stride0", [1, 2, 3, 5, 16, 17])
@pytest.mark.parametrize(
    ("itype", "stride1", "dist_type"),
    [("int", 1, "l2"), ("int", 1, "prod"), ("float", 0.5, "l2"), ("float", 1, "prod")],
)
def test_queries_on_some_of_the_pixels_and_all_candidates(
    k: int, stride0: int, itype: str, stride1: float, dist_type: str
) -> None:
    height, width = (size + 3 * (stride0 - 1) for size in (HEIGHT, WIDTH))
    query, key = (bytes_like(1, 1, 2, height, width, seed=seed) for seed in (1, 2))
    grid = ((height - 1) // stride0 + 1, (width - 1) // stride0 + 1)
    for motion in (motion_edges, zoom):
        flows = motion(1, 1, 1, 2, *grid)
        o = SearchOptions(
            *(4, 0, 3, k), stride0=stride0, stride1=stride1, itype=itype, dist_type=dist_type
        )
        check(SearchCase(o, query, key, flows, itype == "int"), both_forms=True)


@pytest.mark.parametrize(
    ("self_action", "topk_mode"),
    [(a, m) for a in SELF_ACTIONS for m in ("all", "each") if (a, m) != ("remove", "each")],
)
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize(("stride0", "k"), [(1, 3), (3, 3), (1, -1), (3, -1)])
def test_self_actions_in_tiles(
    self_action: str | None, topk_mode: str, itype: str, stride0: int, k: int
) -> None:
    video = bytes_like(1, 3, 4, 18, 70, seed=3)
    grid = ((18 - 1) // stride0 + 1, (70 - 1) // stride0 + 1)
    flows = 2 * noise(1, 2, 3, 3, 2, *grid)
    flows[:, :, :, 0, :, :, : grid[1] // 2] = 0
    o = SearchOptions(
        *(3, 1, 3, k),
        nheads=2,
        stride0=stride0,
        self_action=self_action,
        topk_mode=topk_mode,
        itype=itype,
        full_ws=False,
        off_Hq=1,
    )
    check(SearchCase(o, video, video, flows, itype == "int"), both_forms=True)


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_threads_do_not_change_a_bit(threads: None, data: st.DataObject) -> None:
    case = draw_search(drawn(data), tiles=data.draw(st.booleans()))
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append(case.run())
    assert_same_bits(*runs)


@pytest.mark.parametrize("motion", [motion_edges, broken])
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize(("stride0", "k"), [(1, 3), (3, 3), (1, -1)])
def test_threads_do_not_change_a_bit_of_large_frames(
    threads: None, motion: Callable[..., Tensor], itype: str, stride0: int, k: int
) -> None:
    height, width = stride0 * HEIGHT, stride0 * WIDTH
    video, flows = noise(1, 2, 3, height, width), motion(1, 2, 1, 2, HEIGHT, WIDTH)
    o = SearchOptions(5, 0, 7, k, stride0=stride0, itype=itype)
    case = SearchCase(o, video, video, flows, False)
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append(case.run())
    assert_same_bits(*runs)


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
def test_every_instruction_set_equals_the_reference(
    isa: str, use_isa: Callable[[str], None]
) -> None:
    use_isa(isa)
    for seed in range(40):
        check(draw_search(seeded(seed), tiles=seed % 2 == 0))
    for motion in (motion_edges, scattered_motion):
        flows = motion(1, 1, 1, 2, HEIGHT, WIDTH)
        query, key = (bytes_like(1, 1, 3, HEIGHT, WIDTH, seed=seed) for seed in (1, 2))
        for itype, stride1 in (("int", 1), ("float", 0.5)):
            o = SearchOptions(3, 0, 5, 2, stride1=stride1, itype=itype)
            check(SearchCase(o, query, key, flows, itype == "int"))


def test_ties_take_the_lowest_raster_index_in_both_forms() -> None:
    video = torch.full((1, 3, 1, 20, 70), 9.0)
    o = SearchOptions(3, 1, 3, 12, itype="int", full_ws=False)
    case = SearchCase(o, video, video, None, True)
    check(case, both_forms=True)
    _, inds = case.run()
    expected = [[dt, dh, dw] for dt in (0, 1) for dh in (-1, 0, 1) for dw in (-1, 0, 1)]
    assert inds[0, 0, 0, 9, 9].tolist() == expected[:12]


@pytest.mark.parametrize("itype", ["int", "float"])
def test_not_a_number_in_a_pixel_is_no_match(itype: str) -> None:
    query, key = bytes_like(1, 1, 2, 12, 20, seed=1), bytes_like(1, 1, 2, 12, 20, seed=2)
    key[0, 0, 1, 5, 7] = float("nan")
    o = SearchOptions(3, 0, 3, 9, itype=itype)
    check(SearchCase(o, query, key, None, True), both_forms=True)


@pytest.mark.parametrize("stride0", [1, 3])
@pytest.mark.parametrize("itype", ["int", "float"])
def test_not_a_number_that_no_candidate_reaches(itype: str, stride0: int) -> None:
    """Beside the last column, where positions between pixels would have a neighbour mirrored to."""
    query, key = noise(1, 1, 1, 20, 70, seed=1), noise(1, 1, 1, 20, 70, seed=2)
    key[..., 9, 68] = float("nan")
    o = SearchOptions(3, 0, 1, -1, stride0=stride0, itype=itype)
    check(SearchCase(o, query, key, None, False), both_forms=True)


@pytest.mark.parametrize("k", [1, 4, -1])
@pytest.mark.parametrize("ps", [1, 3, 7])
def test_no_distance_is_below_zero(ps: int, k: int, device: str) -> None:
    """Between the pixels of ramps it is the small difference of large numbers."""
    across, down = torch.arange(32.0), torch.arange(24.0)[:, None]
    slopes = torch.tensor([3.3, 6.6, 1.0])[:, None, None]
    key = (slopes * across + 0.9 * down)[None, None].to(device)
    query = key + slopes.to(device) / 2
    dists, _ = stnls.search.NonLocalSearch(5, 0, ps, k, stride1=0.5)(query, key)
    assert float(dists.min()) >= 0
    assert float(dists.min()) < 0.01


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize(("dist_type", "invalid"), [("l2", float("inf")), ("prod", -float("inf"))])
def test_flow_that_is_not_finite_makes_its_slot_invalid(
    value: float, itype: str, dist_type: str, invalid: float
) -> None:
    video = noise(1, 3, 1, 6, 7)
    flows = torch.zeros(1, 3, 2, 2, 6, 7)
    flows[0, 1, 0, 1, 2, 3] = value
    search = stnls.search.NonLocalSearch(3, 1, 1, -1, itype=itype, dist_type=dist_type)
    dists, inds = search(video, video, flows)
    _, without = search(video, video)
    assert dists[0, 0, 1, 2, 3, 9:18].tolist() == [invalid] * 9
    assert torch.isfinite(dists[0, 0, 1, 2, 3, :9]).all()
    assert torch.equal(inds, without)
    check(SearchCase(SearchOptions(3, 1, 1, 20, itype=itype), video, video, flows, False))


def test_a_query_without_any_valid_candidate() -> None:
    video = noise(1, 1, 1, 5, 5)
    flows = torch.full((1, 1, 1, 2, 5, 5), float("nan"))
    case = SearchCase(SearchOptions(3, 0, 1, 4), video, video, flows, False)
    check(case, both_forms=True)
    dists, _ = case.run()
    assert bool((dists == float("inf")).all())


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("full_ws", [True, False])
def test_windows_and_patches_larger_than_the_frame(
    size: tuple[int, int], itype: str, full_ws: bool
) -> None:
    query, key = (bytes_like(1, 1, 2, *size, seed=seed) for seed in (1, 2))
    flows = 3 * noise(1, 1, 1, 2, *size)
    o = SearchOptions(7, 0, 9, 49, itype=itype, full_ws=full_ws)
    check(SearchCase(o, query, key, flows, itype == "int"))


@pytest.mark.parametrize("size", [(1, 5), (11, 1), (2, 3)])
@pytest.mark.parametrize("stride1", [0.5, 0.25, 1 / 3])
@pytest.mark.parametrize("full_ws", [True, False])
def test_fractions_of_pixels_in_frames_that_few_of_them_fit_into(
    size: tuple[int, int], stride1: float, full_ws: bool
) -> None:
    """Some fractions have candidates along one axis only."""
    query, key = (noise(1, 1, 2, *size, seed=seed) for seed in (1, 2))
    for flows in (None, 0.4 * noise(1, 1, 1, 2, *size)):
        o = SearchOptions(5, 0, 3, 6, stride1=stride1, full_ws=full_ws)
        check(SearchCase(o, query, key, flows, False), both_forms=True)


def test_videos_with_heads_equal_videos_with_channels() -> None:
    video, other = noise(2, 3, 6, 8, 9), noise(2, 3, 6, 8, 9, seed=1)
    flows = noise(2, 3, 3, 2, 2, 8, 9)
    search = stnls.search.NonLocalSearch(3, 1, 3, 5, nheads=3)
    by_head = [v.unflatten(2, (3, 2)).transpose(1, 2).contiguous() for v in (video, other)]
    assert_same_bits(search(video, other, flows), search(*by_head, flows))


def test_flow_between_neighbours_is_composed() -> None:
    video = noise(1, 5, 2, 8, 9)
    fflow, bflow = noise(1, 5, 2, 8, 9, seed=1), noise(1, 5, 2, 8, 9, seed=2)
    search = stnls.search.NonLocalSearch(3, 2, 3, 5, stride0=2)
    flows = stnls.nn.search_flow(fflow, bflow, 2, 2)
    assert_same_bits(search(video, video, fflow, bflow), search(video, video, flows))


def test_flow_of_any_dtype_on_the_integer_grid() -> None:
    video = noise(1, 1, 1, 8, 9)
    flow = torch.zeros(1, 1, 1, 2, 8, 9, dtype=torch.float64)
    flow[..., 0, :, :] = 0.5 + 1e-12  # a half, once it is float32
    search = stnls.search.NonLocalSearch(3, 0, 1, 3, itype="int")
    whole = torch.zeros(1, 1, 1, 2, 8, 9, dtype=torch.int64)
    whole[..., 0, :, :] = 1
    for given_flow in (whole, whole.to(torch.int8), whole.half()):
        assert_same_bits(search(video, video, flow), search(video, video, given_flow))


@pytest.mark.parametrize(
    ("shape", "heads"), [((0, 3, 2, 5, 6), 1), ((2, 3, 0, 5, 6), 2), ((0, 3, 0, 5, 6), 3)]
)
@pytest.mark.parametrize("itype", ["int", "float"])
def test_empty_batches_and_videos_without_channels(
    shape: tuple[int, ...], heads: int, itype: str
) -> None:
    video = torch.zeros(shape)
    dists, inds = stnls.search.NonLocalSearch(3, 1, 3, 4, nheads=heads, itype=itype)(video, video)
    assert dists.shape == (shape[0], heads, 3, 5, 6, 4)
    assert inds.shape == (*dists.shape, 3)
    assert bool((dists == 0).all())


def test_inputs_are_left_as_they_are() -> None:
    video, flows = noise(1, 3, 2, 8, 9).mT, noise(1, 3, 2, 2, 9, 8)
    before = video.clone(), flows.clone()
    stnls.search.NonLocalSearch(3, 1, 3, 5, itype="int")(video, video, flows)
    assert_same_bits((video, flows), before)
