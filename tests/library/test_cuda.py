"""CUDA against the reference and against the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import stnls
import torch
from cases import Pick, draw_flow, seeded
from cases_aggregation import draw_patch_sum
from cases_search import (
    SELF_ACTIONS,
    ChargedCase,
    PairedCase,
    SearchCase,
    direct_form,
    draw_charged,
    draw_paired,
    draw_search,
)
from compare import assert_same_bits, assert_search, bytes_like, noise
from reference import SearchOptions, candidates, paired_candidates
from torch import Tensor

pytestmark = pytest.mark.gpu

CHUNK = 20


def chunks(count: int) -> list[range]:
    return [range(first, first + CHUNK) for first in range(0, count, CHUNK)]


@pytest.mark.parametrize("seeds", chunks(240), ids=str)
def test_search(seeds: range) -> None:
    for seed in seeds:
        case = draw_search(seeded(seed), tiles=seed % 3 == 0)
        table = candidates(case.options, case.vid0, case.vid1, case.flows)
        check(seed, case, case.options, table, case.run("cuda"))


@pytest.mark.parametrize("seeds", chunks(80), ids=str)
def test_paired_search(seeds: range) -> None:
    for seed in seeds:
        case: PairedCase = draw_paired(seeded(seed))
        assert case.flows is not None
        table = paired_candidates(case.options, case.vid0, case.vid1, case.flows)
        check(seed, case, case.reference_options, table, case.run_with_time("cuda"))


@pytest.mark.parametrize("seeds", chunks(160), ids=str)
def test_charged_search(seeds: range) -> None:
    for seed in seeds:
        case = draw_charged(seeded(seed))
        found = case.run("cuda")
        try:
            case.assert_outputs(found)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {case.options}, {case.charge}\n{error}") from error
        assert_same_bits(found, case.run("cuda"))


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize(("ps", "k"), [(3, 11), (7, 24), (9, 40)])
def test_long_lists_in_the_order_of_a_charge(ps: int, k: int, itype: str) -> None:
    query, key = (bytes_like(1, 3, 30, 50, seed=seed) for seed in (1, 2))
    flow = 6 * noise(1, 2, 30, 50, seed=3)
    flow[..., 40:] += 20.0
    flow[..., 12, 20] = float("nan")
    case = ChargedCase(SearchOptions(9, 0, ps, k, itype=itype), query, key, flow, False, charge=0.3)
    search = stnls.search.PairedSearch(9, ps, k, stride0=1, itype=itype, charge=0.3)
    assert scratch_of(search) > 0
    found = case.run("cuda")
    case.assert_outputs(found)
    assert_same_bits(found, case.run("cuda"))


def test_a_charge_does_not_slow_searches_for_all_candidates() -> None:
    free, charged = (
        stnls.search.PairedSearch(5, 3, -1, stride0=1, charge=charge) for charge in (0.0, 0.3)
    )
    assert scratch_of(charged) == scratch_of(free) > 0
    frames = [noise(1, 3, 24, 30, seed=seed).cuda() for seed in (1, 2)]
    flow = noise(1, 2, 24, 30, seed=3).cuda()
    assert_same_bits(charged(*frames, flow), free(*frames, flow))


def scratch_of(search: stnls.search.NonLocalSearch | stnls.search.PairedSearch) -> int:
    """Bytes of scratch memory for frames of 40x66: none where a GPU searches patch by patch."""
    return search.memory(1, 3, 3, 40, 66, device="cuda") - search.memory(1, 3, 3, 40, 66)


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (stnls.search.NonLocalSearch(5, 1, 3, 1, stride0=1), 2),
        (stnls.search.NonLocalSearch(5, 1, 3, 4, stride0=1), 8),
        (stnls.search.NonLocalSearch(5, 1, 3, 6, stride0=1), 12),
        (stnls.search.NonLocalSearch(5, 1, 3, 1, stride0=2), 12),
        (stnls.search.NonLocalSearch(5, 1, 3, 8, stride0=2), 4),
        (stnls.search.NonLocalSearch(5, 1, 3, 5, stride0=3), 8 + 10 / 9),
        (stnls.search.PairedSearch(5, 3, 1, stride0=1), 4 + 2),
        (stnls.search.PairedSearch(5, 3, 2, stride0=1), 4),
        (stnls.search.PairedSearch(5, 3, 1, stride0=1, charge=0.1), 4 + 2),
    ],
    ids=str,
)
def test_offsets_lend_their_memory_to_sums_over_the_key(
    search: stnls.search.NonLocalSearch | stnls.search.PairedSearch, expected: float
) -> None:
    """12 bytes for each pixel of the key without that; tiles have a number each."""
    each = scratch_of(search) / (3 * 40 * 66)
    assert expected <= each < expected + 0.2


@pytest.mark.parametrize("of_pairs", [False, True])
@pytest.mark.parametrize(("ps", "channels"), [(3, 3), (3, 5), (5, 1), (7, 3), (9, 2), (9, 4)])
def test_offsets_that_are_written_when_a_search_is_over(
    ps: int, channels: int, of_pairs: bool
) -> None:
    """Of several heads, of tiles that are left to the direct form or cut off by the frame."""
    for seed in range(24):
        pick = seeded(seed)
        heads, wt = pick((1, 1, 2)), 0 if of_pairs else pick((0, 1, 1, 2))
        height, width = pick((21, 50)), pick((33, 70))
        batch, frames, slots = pick((1, 2)), max(2 * wt + 1, 2), 2 * wt + 1
        shape = (batch, frames, heads * channels, height, width)
        query, key = (noise(*shape, seed=seed + i) for i in (1, 2))
        of_flow = (batch, frames, slots, 2)
        flows = noise(*of_flow, height, width, seed=seed + 3) * pick((0.0, 0.3, 2.0))
        flows = flows + noise(*of_flow, 1, 1, seed=seed + 4) * pick((0.0, 3.0, 20.0))
        flows[..., width // 2 :] += pick((0.0, 7.3, 60.0))
        flows[..., 5:7, 6:8] = pick((0.0, float("nan")))
        options = SearchOptions(
            *(pick((1, 4, 7, 9)), wt, ps, pick((1, 1, 1, 3))),
            nheads=heads,
            stride1=pick((1.0, 0.5, 0.3)),
            self_action=pick((None, None, None, "anchor_each")),
            topk_mode="all" if of_pairs else pick(("all", "all", "each")),
            full_ws=pick((True, False)),
        )
        if options.ws == 1:
            options = replace(options, k=1)
        case: SearchCase = SearchCase(options, query, key, flows, False)
        if of_pairs:
            pair = (options, query[:, 0], key[:, 0], flows[:, 0, 0], False)
            case = PairedCase(*pair)
            if channels == 3 and options.self_action is None:
                case = ChargedCase(*pair, charge=pick((0.0, 0.3)))
        found = case.run("cuda")
        with direct_form():
            direct = case.run("cuda")
        try:
            assert_nearly(found, direct)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {case.options}\n{error}") from error
        assert_same_bits(found, case.run("cuda"))


def check(
    seed: int,
    case: SearchCase,
    options: SearchOptions,
    table: object,
    found: tuple[Tensor, Tensor],
) -> None:
    """Right by the table, the same bits every time, and those of the CPU where these are exact."""
    try:
        assert_search(options, table, found, exact=case.exact, direct=True)  # type: ignore[arg-type]
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {case.options}\n{error}") from error
    run = case.run_with_time if isinstance(case, PairedCase) else case.run
    assert_same_bits(found, run("cuda"))
    if case.exact:
        assert_same_bits(found, run("cpu"))


@pytest.mark.parametrize("seeds", chunks(80), ids=str)
def test_weighted_patch_sum(seeds: range) -> None:
    for seed in seeds:
        case = draw_patch_sum(seeded(seed))
        found = case.run("cuda")
        tolerance = 1e-5 if found.dtype == torch.float32 else 1e-12
        for expected in (case.run("cpu").double(), case.expected()):
            torch.testing.assert_close(
                found.double(), expected, rtol=tolerance, atol=tolerance * case.size()
            )
        assert_same_bits((found,), (case.run("cuda"),))


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize(("frames", "channels"), [(60, 3), (30, 7), (20, 16)])
@pytest.mark.parametrize("ps", [1, 3])
def test_patch_sums_whose_blocks_reach_over_frames(
    frames: int, channels: int, ps: int, itype: str
) -> None:
    video = noise(1, frames, channels, 45, 300)
    weights = noise(1, 1, frames, 45, 300, 6, seed=1)
    inds = (4 * noise(1, 1, frames, 45, 300, 6, 3, seed=2)).round()
    if itype == "float":
        inds[..., 1:] += noise(1, 1, frames, 45, 300, 6, 2, seed=3)
    operator = stnls.agg.WeightedPatchSum(ps, 1, itype=itype)
    expected = operator(video, weights, inds)
    found = operator(*(x.cuda() for x in (video, weights, inds)))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seeds", chunks(60), ids=str)
def test_flow_composition_has_the_bits_of_the_cpu(seeds: range) -> None:
    for seed in seeds:
        pick = seeded(seed)
        batch, frames = pick((0, 1, 2)), pick((1, 2, 3, 5))
        height, width = pick((1, 2, 5, 13)), pick((1, 3, 8, 40))
        dtype, wt, stride0 = pick((torch.float32, torch.float64)), pick((0, 1, 2)), pick((1, 2, 4))
        shape = (batch, frames, 2, height, width)
        fflow, bflow = (draw_flow(pick, shape, max(height, width)).to(dtype) for _ in range(2))
        on_cpu = flows_of(fflow, bflow, wt, stride0)
        on_cuda = [x.cpu() for x in flows_of(fflow.cuda(), bflow.cuda(), wt, stride0)]
        for a, b in zip(on_cpu, on_cuda, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def flows_of(fflow: Tensor, bflow: Tensor, wt: int, stride0: int) -> list[Tensor]:
    slots = stnls.nn.search_flow(fflow, bflow, wt, stride0)
    return [slots, stnls.nn.compose_flow(fflow, stride0=stride0)]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(
    ("ps", "channels"), [(1, 3), (3, 3), (3, 4), (5, 4), (7, 3), (7, 4), (9, 2), (9, 3), (9, 4)]
)
def test_integers_give_the_bits_of_the_cpu_on_large_frames(k: int, ps: int, channels: int) -> None:
    query, key = (bytes_like(1, 3, channels, 90, 170, seed=seed) for seed in (1, 2))
    flows = 6 * noise(1, 3, 2, 2, 90, 170)
    flows[..., 60:] += 11.0
    case = SearchCase(SearchOptions(5, 1, ps, k, itype="int"), query, key, flows, True)
    found = case.run("cuda")
    assert_same_bits(found, case.run("cpu"))
    with direct_form():
        assert_same_bits(found, case.run("cpu"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("ps", [3, 5, 7, 9])
def test_strides_on_the_integer_grid_have_the_bits_of_the_direct_form(
    ps: int, channels: int
) -> None:
    for seed, stride0 in enumerate((2, 3, 4, 5, 13, 32)):
        pick = seeded(seed)
        height, width = pick((61, 96)), pick((50, 133))
        heads, slots = pick((1, 2)), pick((2, 3))
        shape = (2, 3, heads * channels, height, width)
        query, key = (bytes_like(*shape, seed=seed + i) for i in (1, 2))
        grid = (height - 1) // stride0 + 1, (width - 1) // stride0 + 1
        flows = noise(2, 3, slots, 2, *grid, seed=seed) * pick((0.3, 9.0))
        flows[..., grid[1] // 2 :] += pick((0.0, 70.0))
        for some in ((slice(5, 7), slice(6, 8)), (slice(-2, -1), slice(-2, -1))):
            flows[(..., *some)] = pick((0.0, float("nan")))
        for k, stride1 in ((1, 1), (1, 2), (4, 1)):
            options = SearchOptions(
                *(6, 1, ps, k),
                nheads=heads,
                stride0=stride0,
                stride1=stride1,
                full_ws=pick((True, False)),
                off_Hq=pick((0, 2)),
                itype="int",
            )
            case = SearchCase(options, query, key, flows, True)
            found = case.run("cuda")
            with direct_form():
                assert_same_bits(found, case.run("cuda"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("ps", [3, 5, 7, 9])
def test_integers_where_neighbours_point_apart(ps: int, channels: int) -> None:
    """All widths of a tile's union; the last channel is empty, as that of a padded picture."""
    query, key = (bytes_like(1, 3, channels, 50, 70, seed=seed) for seed in (1, 2))
    if channels > 1:
        query[:, :, -1], key[:, :, -1] = 0.0, 0.0
    column = torch.arange(70) % 8
    for apart in (1, 2, 3, 5):
        flows = torch.zeros(1, 3, 2, 2, 50, 70)
        flows[:, :, :, 0] = apart * column
        for ws, k in ((9, 1), (8, 1), (5, 4)):
            case = SearchCase(SearchOptions(ws, 1, ps, k, itype="int"), query, key, flows, True)
            found = case.run("cuda")
            with direct_form():
                assert_same_bits(found, case.run("cuda"))


@pytest.mark.parametrize("ps", [3, 5, 7, 9])
def test_lists_of_integers_have_the_bits_of_the_direct_form(ps: int) -> None:
    """With ties, infinite values, flow that tears tiles, and tiles cut off by the frame."""
    for seed in range(27):
        pick, k = seeded(seed), 2 + seed % 9
        heads, channels, wt = pick((1, 2)), pick((1, 2, 3, 4)), pick((0, 1))
        height, width, levels = pick((30, 53)), pick((25, 64, 83)), pick((2, 256))
        shape = (1, 3, heads * channels, height, width)
        query, key = (bytes_like(*shape, seed=seed + i) % levels for i in (1, 2))
        query[..., height // 2, pick((3, 20))] = pick((0.0, 0.0, float("inf")))
        flows = noise(1, 3, 2 * wt + 1, 2, height, width, seed=seed) * pick((0.3, 2.0, 9.0))
        flows[..., width // 2 :] += pick((0.0, 11.0))
        options = SearchOptions(pick((5, 8)), wt, ps, k, nheads=heads, itype="int")
        case = SearchCase(options, query, key, flows, True)
        found = case.run("cuda")
        with direct_form():
            assert_same_bits(found, case.run("cuda"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("ps", [3, 5, 7, 9])
def test_all_candidates_of_integers_have_the_bits_of_the_direct_form(
    ps: int, channels: int
) -> None:
    """With values that are not finite, flow that tears tiles, and tiles cut off by the frame."""
    for seed in range(12):
        pick = seeded(seed)
        heads, wt = pick((1, 2)), pick((0, 1))
        action = pick((None, "remove_ref_frame")) if wt else None
        height, width = pick((30, 53)), pick((25, 64, 83))
        shape = (2, 3, heads * channels, height, width)
        query, key = (bytes_like(*shape, seed=seed + i) for i in (1, 2))
        key[..., height // 2, 3] = pick((0.0, float("inf"), float("nan")))
        flows = noise(2, 3, 2 * wt + 1, 2, height, width, seed=seed) * pick((0.3, 2.0, 9.0))
        flows[..., width // 2 :] += pick((0.0, 11.0, 60.0))
        flows[..., 5:7, 6:8] = pick((0.0, float("nan")))
        options = SearchOptions(
            *(pick((1, 4, 9, 16, 17)), wt, ps, -1),
            nheads=heads,
            self_action=action,
            full_ws=pick((True, False)),
            itype="int",
        )
        case = SearchCase(options, query, key, flows, True)
        found = case.run("cuda")
        with direct_form():
            assert_same_bits(found, case.run("cuda"))


@pytest.mark.parametrize("itype", ["int", "float"])
def test_patches_of_one_pixel_that_no_tile_serves(itype: str) -> None:
    """Lists that valid candidates do not fill, flow that is not a number, windows far apart."""
    query, key = (bytes_like(1, 3, 5, 45, 70, seed=seed) for seed in (1, 2))
    at_border = SearchOptions(3, 0, 1, 9, full_ws=False, itype=itype)
    flows = noise(1, 3, 3, 2, 45, 70)
    lacking = flows.clone()
    lacking[..., ::7, ::9] = float("nan")
    cases = [
        SearchCase(at_border, query, key, None, False),
        SearchCase(SearchOptions(5, 1, 1, 4, itype=itype), query, key, lacking, False),
        SearchCase(SearchOptions(5, 1, 1, 4, itype=itype), query, key, 300 * flows, False),
    ]
    for case in cases:
        for step in (1.0, 0.5) if itype == "float" else (1.0,):
            case.options = replace(case.options, stride1=step)
            found = case.run("cuda")
            with direct_form():
                direct = case.run("cuda")
            if itype == "int":
                assert_same_bits(found, direct)
            else:
                assert_nearly(found, direct)


@pytest.mark.parametrize("dist_type", ["l2", "prod"])
@pytest.mark.parametrize(("itype", "step"), [("float", 0.5), ("float", 0.25), ("int", 1.0)])
@pytest.mark.parametrize("ps", [1, 3, 5, 7, 9])
def test_all_candidates_of_windows(ps: int, itype: str, step: float, dist_type: str) -> None:
    """Gathered or not, of queries side by side and apart; of videos and of pairs of frames."""
    for seed, (ws, stride0) in enumerate(((3, 1), (9, 1), (9, 3), (13, 1), (17, 2))):
        pick = seeded(seed)
        height, width = pick((24, 37)), pick((41, 70))
        query, key = (noise(1, 2, 10, height, width, seed=seed + i) for i in (1, 2))
        if itype == "int":
            key[..., height // 2, 3] = float("nan")
        grid = (height - 1) // stride0 + 1, (width - 1) // stride0 + 1
        flows = noise(1, 2, 1, 2, *grid, seed=seed) * pick((0.3, 2.0))
        flows[..., grid[1] // 2 :] += pick((0.0, 7.3, 60.0))
        flows[..., 5:7, 6:8] = pick((0.0, float("nan")))
        options = SearchOptions(
            *(ws, 0, ps, -1),
            nheads=2,
            stride0=stride0,
            stride1=step,
            dist_type=dist_type,
            full_ws=pick((True, False)),
            itype=itype,
        )
        video = SearchCase(options, query, key, flows, False)
        pair = PairedCase(options, query[:, 0], key[:, 0], flows[:, 0, 0], False)
        for case in (video, pair):
            found = case.run("cuda")
            with direct_form():
                direct = case.run("cuda")
            assert_nearly(found, direct)
            assert torch.equal(found[1], direct[1])  # in raster order, the invalid ones, too


@pytest.mark.parametrize("seeds", chunks(300), ids=str)
def test_fast_forms_agree_with_the_direct_form(seeds: range) -> None:
    """On frames of several tiles, with windows that lie apart and beyond the border."""
    for seed in seeds:
        case = draw_large(seeded(seed))
        fast = case.run("cuda")
        with direct_form():
            direct = case.run("cuda")
        try:
            assert_nearly(fast, direct)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {case.options}\n{error}") from error


def draw_large(pick: Pick) -> SearchCase:
    ws, wt, ps = pick(range(1, 10)), pick((0, 1, 1)), pick((1, 3, 3, 5, 7, 9))
    stride0 = pick((1, 1, 1, 2, 3, 4, 7))
    topk = pick(("all", "all", "each"))
    actions = (None, None, *SELF_ACTIONS) if topk == "all" else (None, "anchor_each")
    options = SearchOptions(
        *(ws, wt, ps, min(pick((1, 1, 2, 9, 11, 14)), ws**2 - 1) or 1),
        nheads=pick((1, 1, 2)),
        stride0=stride0,
        stride1=pick((0.5, 0.5, 1.0, 1.0, 0.3, 0.25, 0.8, 1.5, 2.0)),
        dist_type=pick(("l2", "l2", "prod")),
        self_action=pick(actions),
        topk_mode=topk,
        full_ws=pick((True, False)),
        off_Hq=pick((0, 0, 3)),
        off_Wq=pick((0, 0, -2)),
        itype=pick(("float", "float", "int")),
    )
    frames = max(2 * options.wt + 1, 2)
    if options.self_action in ("remove_ref_frame", "anchor_and_remove_ref_frame"):
        options = replace(options, wt=1)
        frames = 3
    height, width = pick((17, 33, 64)), pick((20, 70, 131))
    seed = pick(range(10**6))
    shape = (1, frames, options.nheads * pick((1, 2, 3, 3, 4, 5, 16)), height, width)
    query, key = noise(*shape, seed=seed), noise(*shape, seed=seed + 1)
    slots = 2 * options.wt + 1
    grid = (height - 1) // stride0 + 1, (width - 1) // stride0 + 1
    flows = noise(1, frames, slots, 2, *grid, seed=seed + 2) * pick((0.3, 2.0))
    flows = flows + noise(1, frames, slots, 2, 1, 1, seed=seed + 3) * pick((0.0, 3.0, 30.0))
    flows[..., grid[0] // 2 :, grid[1] // 3 :] += pick((0.0, 7.3, -40.0))
    flows[..., 1:2, 2:3] = pick((0.0, float("nan")))
    if topk == "all" and pick((*[False] * 5, True)):
        options = replace(options, k=-1)
    return SearchCase(options, query, key, flows, False)


def assert_nearly(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """The same distances; other offsets only where two candidates are as good as equal."""
    finite = torch.isfinite(expected[0])
    torch.testing.assert_close(torch.isfinite(found[0]), finite, rtol=0, atol=0)
    assert torch.equal(found[1][~finite], expected[1][~finite])
    if not finite.any():
        return
    dists = [x[finite] for x in (found[0], expected[0])]
    atol = 1e-4 * float(expected[0][finite].abs().mean())
    torch.testing.assert_close(*dists, rtol=2e-5, atol=atol)
    others = (found[1] != expected[1]).any(-1)[finite]
    assert others.float().mean() < 1e-3


@pytest.mark.parametrize("topk_mode", ["all", "each"])
@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize(("k", "stride0"), [(1, 1), (1, 4), (4, 1), (4, 3)])
def test_an_entry_without_flow_is_pinned_around_its_query(
    k: int, stride0: int, itype: str, topk_mode: str
) -> None:
    query, key = (bytes_like(1, 3, 3, 24, 27, seed=seed) for seed in (1, 2))
    flows = torch.zeros(1, 3, 3, 2, 23 // stride0 + 1, 26 // stride0 + 1)
    flows[:, :, 0, :, 2, 3] = float("nan")
    options = SearchOptions(
        *(5, 1, 3, k),
        stride0=stride0,
        self_action="anchor_each",
        topk_mode=topk_mode,
        itype=itype,
    )
    case = SearchCase(options, query, key, flows, itype == "int")
    found = case.run("cuda")
    with direct_form():
        direct = case.run("cuda")
    assert torch.isinf(found[0][..., 2, 3, 0]).all()
    assert_nearly(found, direct)


@pytest.mark.parametrize("channels", [2, 5, 16])
def test_pixels_that_are_not_numbers_spoil_their_own_patches_alone(channels: int) -> None:
    query, key = (bytes_like(1, 3, channels, 45, 70, seed=seed) for seed in (1, 2))
    key[..., 1, ::9, ::11] = float("nan")
    flows = 3 * noise(1, 3, 2, 2, 45, 70)
    case = SearchCase(SearchOptions(7, 1, 3, 4, itype="int"), query, key, flows, True)
    found = case.run("cuda")
    assert torch.isfinite(found[0]).all()
    assert_same_bits(found, case.run("cpu"))


def test_the_callers_stream_is_used() -> None:
    """Work that is queued before on the same stream is waited for; other streams are not."""
    video, flows = noise(1, 3, 4, 60, 70), noise(1, 3, 2, 2, 60, 70)
    search = stnls.search.NonLocalSearch(5, 1, 3, 4)
    operator = stnls.agg.WeightedPatchSum(3, 1)
    ready = [x.cuda() for x in (video, flows)]
    expected = search(ready[0], ready[0], ready[1])
    expected_sum = operator(ready[0], *expected)
    late = [torch.zeros_like(x) for x in ready]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        for to, source in zip(late, ready, strict=True):
            to.copy_(source)
        dists, inds = search(late[0], late[0], late[1])
        out = operator(late[0], dists, inds)
        composed = stnls.nn.compose_flow(late[1][:, 0])
    side.synchronize()
    assert_same_bits((*expected, expected_sum), (dists, inds, out))
    assert_same_bits((stnls.nn.compose_flow(ready[1][:, 0]),), (composed,))


def test_the_device_of_the_tensors_is_used() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    video = noise(1, 3, 4, 20, 30)
    search, operator = stnls.search.NonLocalSearch(5, 1, 3, 4), stnls.agg.WeightedPatchSum(3, 1)
    results = []
    for index in (0, 1):
        there = video.to(f"cuda:{index}")
        dists, inds = search(there, there)
        out = operator(there, dists, inds)
        assert {x.get_device() for x in (dists, inds, out)} == {index}
        results.append([x.cpu() for x in (dists, inds, out)])
    assert torch.cuda.current_device() == 0
    assert_same_bits(*results)


def test_a_cuda_graph_of_search_softmax_and_patch_sum() -> None:
    search = stnls.search.NonLocalSearch(5, 1, 3, 4, nheads=2, stride1=0.5, self_action="anchor")
    operator = stnls.agg.WeightedPatchSum(3, 1)

    def pipeline(video: Tensor, fflow: Tensor, bflow: Tensor) -> Tensor:
        flows = stnls.nn.search_flow(fflow, bflow, 1)
        dists, inds = search(video, video, flows)
        out: Tensor = operator(video, torch.softmax(-10 * dists, -1), inds)
        return out

    def inputs(seed: int) -> list[Tensor]:
        shapes = ((1, 3, 4, 40, 50), (1, 3, 2, 40, 50), (1, 3, 2, 40, 50))
        return [noise(*shape, seed=seed + i).cuda() for i, shape in enumerate(shapes)]

    static = inputs(0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        pipeline(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = pipeline(*static)
    for seed in (10, 20):
        fresh = inputs(seed)
        for to, source in zip(static, fresh, strict=True):
            to.copy_(source)
        graph.replay()
        assert_same_bits((pipeline(*fresh),), (captured,))


def test_tensors_of_two_devices() -> None:
    video = torch.zeros(1, 1, 1, 4, 4)
    with pytest.raises(TypeError, match="vid0 and vid1 must be on one device, not cpu and cuda:0"):
        stnls.search.NonLocalSearch(3, 0)(video, video.cuda())


@pytest.mark.slow
def test_more_than_two_to_the_31_entries() -> None:
    ws, side = 12, 4096
    if torch.cuda.mem_get_info()[0] < 50 * 2**30:
        pytest.skip("less than 50 GiB of GPU memory are free")
    generator = torch.Generator("cuda").manual_seed(0)
    query, key = (
        torch.randint(0, 256, (1, 1, 1, side, side), generator=generator, device="cuda").float()
        for _ in range(2)
    )
    search = stnls.search.NonLocalSearch(ws, 0, 1, -1, full_ws=False, itype="int")
    dists, inds = search(query, key)
    assert dists.numel() > 2**31
    low = -((ws - 1) // 2)
    for i, j in ((0, 0), (2000, 3000), (side - 1, side - 1), (side - 1, 0)):
        at = dists[0, 0, 0, i, j].reshape(ws, ws).cpu()
        offsets = inds[0, 0, 0, i, j].reshape(ws, ws, 3).cpu()
        for a in range(ws):
            for b in range(ws):
                assert offsets[a, b].tolist() == [0, low + a, low + b]
                h, w = i + low + a, j + low + b
                if 0 <= h < side and 0 <= w < side:
                    difference = query[0, 0, 0, i, j] - key[0, 0, 0, h, w]
                    assert at[a, b] == difference.square().cpu()
                else:
                    assert at[a, b] == float("inf")
