"""`PairedSearch.subpixel`: the search, and its best matches as `subpixel_offsets` moves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import PROPERTY
from hypothesis import given, settings
from hypothesis import strategies as st
from stnls import StnlsError, _native
from stnls.search import PairedSearch, subpixel_offsets
from torch import Tensor

Inputs = tuple[Tensor, Tensor, Tensor]


def drawn(
    seed: int, height: int, width: int, *, channels: int = 3, batch: int = 1, spread: float = 1.5
) -> Inputs:
    """Frames with a motion of about (1, -1), and flow that misses it by `spread` pixels."""
    g = torch.Generator().manual_seed(seed)
    query = 255 * torch.rand((batch, channels, height, width), generator=g)
    key = 0.7 * query.roll((1, -1), (2, 3)) + 0.3 * 255 * torch.rand(query.shape, generator=g)
    return query, key, spread * torch.randn((batch, 2, height, width), generator=g)


def step_of(search: PairedSearch) -> float:
    """Pixels between positions: on the integer grid whole ones."""
    return search.stride1 if search.itype == "float" else max(1, int(search.stride1))


def plain(search: PairedSearch, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """The search, and its best matches moved in double precision."""
    dists, inds = search(*inputs)
    frames = (frame.double() for frame in inputs[:2])
    best = inds[:, 0, :, :, 0].double()
    return dists, inds, subpixel_offsets(*frames, best, search.ps, step_of(search))


def assert_same(search: PairedSearch, inputs: Inputs, near: float = 1.0) -> Tensor:
    """The results are those of the parts; of moved matches at least the part `near` lies where
    double precision has them, as rounding decides about a flat surface. Returns the moves."""
    dists, inds, moved = search.subpixel(*inputs)
    expected = plain(search, inputs)
    torch.testing.assert_close((dists, inds), expected[:2], rtol=0, atol=0)
    assert moved.shape == (*inputs[0].shape[:1], *inputs[0].shape[2:], 2)
    assert moved.dtype == (torch.float64 if inputs[0].dtype == torch.float64 else torch.float32)
    error = (moved.double() - expected[2]).abs().amax(-1)
    tolerance = 1e-9 if moved.dtype == torch.float64 else 5e-3
    assert (error <= tolerance).double().mean() >= near
    by = moved - inds[:, 0, :, :, 0]
    assert by.numel() == 0 or by.abs().max() <= (0.75 + 1e-5) * step_of(search)
    return by


@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("ps", [1, 3, 4, 7, 9, 10])
@pytest.mark.parametrize("charge", [0.0, 60.0])
def test_parts_and_whole_agree(device: str, itype: str, ps: int, charge: float) -> None:
    search = PairedSearch(9, ps, 1, stride0=1, itype=itype, charge=charge)
    query, key, flow = (x.to(device) for x in drawn(ps, 37, 70, batch=2))
    by = assert_same(search, (query, key, flow), near=0.999)
    assert 0.3 < by.abs().max() <= 0.75 + 1e-6
    assert (by.abs().amax(-1) > 0.01).float().mean() > 0.5


@pytest.mark.parametrize("itype", ["float", "int"])
def test_flow_of_whole_pixels(device: str, itype: str) -> None:
    """There the real grid has the pixels' own distances: whole numbers, which are exact."""
    inputs = drawn(1, 40, 90)
    query, key, flow = (x.round().to(device) for x in inputs)
    found = [
        PairedSearch(7, 5, 2, stride0=1, itype=name, charge=20.0).subpixel(query, key, flow)
        for name in ("float", "int")
    ]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.float(), other.float())
    search = PairedSearch(7, 5, 2, stride0=1, itype=itype, charge=20.0)
    assert_same(search, (query, key, flow), near=0.999)


@pytest.mark.parametrize("spread", [0.0, 0.3, 4.0, 30.0])
@pytest.mark.parametrize("ws", [1, 3, 8, 31])
def test_windows_that_lie_apart_or_leave_the_frame(device: str, spread: float, ws: int) -> None:
    for full_ws in (True, False):
        search = PairedSearch(ws, 3, 1, stride0=1, full_ws=full_ws)
        inputs = drawn(ws, 33, 66, channels=2, spread=spread)
        query, key, flow = (x.to(device) for x in inputs)
        assert_same(search, (query, key, flow), near=0.999)


def test_large_windows_move_matches_too(device: str) -> None:
    """More distances than are kept."""
    search = PairedSearch(65, 1, 1, stride0=1, itype="int")
    inputs = tuple(x.to(device) for x in drawn(2, 80, 140, channels=1, spread=9.0))
    assert_same(search, (inputs[0], inputs[1], inputs[2]), near=0.999)


@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize(
    ("ws", "k", "full_ws", "size"),
    [
        (3, 8, False, (24, 40)),
        (5, 25, False, (24, 40)),
        (9, 40, True, (5, 7)),
        (9, 81, True, (1, 9)),
    ],
)
def test_lists_that_candidates_do_not_fill(
    device: str, itype: str, ws: int, k: int, full_ws: bool, size: tuple[int, int]
) -> None:
    search = PairedSearch(ws, 3, k, stride0=1, full_ws=full_ws, itype=itype)
    for spread in (0.0, 1.5):
        query, key, flow = (x.to(device) for x in drawn(ws, *size, spread=spread))
        assert search(query, key, flow)[0].isinf().any()
        assert_same(search, (query, key, flow), near=0.99)


@settings(PROPERTY, max_examples=30)
@given(st.data())
def test_any_search(data: st.DataObject) -> None:
    sizes = st.integers(1, 40)
    search = PairedSearch(
        data.draw(st.integers(1, 9)),
        data.draw(st.integers(1, 9)),
        data.draw(st.sampled_from([1, 2, 4, 25, 100])),
        stride0=1,
        stride1=data.draw(st.sampled_from([1.0, 1.0, 0.5, 2.0])),
        full_ws=data.draw(st.booleans()),
        self_action=data.draw(st.sampled_from([None, None, "anchor"])),
        itype=data.draw(st.sampled_from(["float", "int"])),
        charge=data.draw(st.sampled_from([0.0, 100.0])),
    )
    inputs = drawn(
        data.draw(st.integers(0, 99)),
        data.draw(sizes),
        data.draw(sizes),
        channels=data.draw(st.sampled_from([1, 3, 5])),
        spread=data.draw(st.sampled_from([0.0, 1.0, 5.0])),
    )
    if data.draw(st.booleans()):
        inputs[2].round_()
    assert_same(search, inputs, near=0.9)


@pytest.mark.parametrize("step", [0.5, 2.9])
def test_steps_on_the_integer_grid_are_whole(device: str, step: float) -> None:
    search = PairedSearch(5, 3, 1, stride0=1, stride1=step, itype="int")
    query, key, flow = (x.to(device) for x in drawn(1, 20, 30))
    assert_same(search, (query, key, flow), near=0.99)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("itype", ["float", "int"])
def test_dtypes(device: str, dtype: torch.dtype, itype: str) -> None:
    search = PairedSearch(5, 5, 1, stride0=1, itype=itype)
    query, key, flow = (x.to(device, dtype) for x in drawn(4, 20, 30))
    assert_same(search, (query, key, flow), near=0.99)


def test_flow_that_is_no_number_and_matches_that_are_none(device: str) -> None:
    query, key, flow = (x.to(device) for x in drawn(5, 24, 40))
    flow[0, 0, 4, 7] = math.nan
    flow[0, :, 9, :12] = math.inf
    key[0, 1, 15, 20] = math.nan
    dists, inds, moved = PairedSearch(5, 3, 1, stride0=1).subpixel(query, key, flow)
    separate = subpixel_offsets(query, key, inds[:, 0, :, :, 0], 3)
    torch.testing.assert_close(moved, separate, rtol=0, atol=5e-3, equal_nan=True)
    assert dists[0, 0, 4, 7].isinf().all()
    assert dists[0, 0, 9, :12].isinf().all()
    assert moved.isfinite().all()


def test_one_reference_for_all_and_strange_strides(device: str) -> None:
    search = PairedSearch(5, 3, 1, stride0=1)
    query, key, flow = (x.to(device) for x in drawn(6, 24, 40, batch=3))
    shared = query[:1].expand_as(query)
    found = search.subpixel(shared, key, flow)
    for one, other in zip(found, search.subpixel(shared.clone(), key, flow), strict=True):
        assert torch.equal(one, other)
    query, key, flow = (x.transpose(2, 3).contiguous().transpose(2, 3) for x in (shared, key, flow))
    for one, other in zip(found, search.subpixel(query, key, flow), strict=True):
        assert torch.equal(one, other)
    nothing = search.subpixel(query[:0], key[:0], flow[:0])
    assert [tuple(x.shape) for x in nothing] == [
        (0, 1, 24, 40, 1),
        (0, 1, 24, 40, 1, 2),
        (0, 24, 40, 2),
    ]


@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("spread", [0.0, 1.5])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_matches_beside_a_pixel_that_is_no_number(itype: str, spread: float, value: float) -> None:
    """The search and the two steps after each other have one rule, whoever knew the distances."""
    query, key, flow = drawn(10, 40, 60, spread=spread)
    key[0, 1, 20, 33] = key[0, 0, 39, 5] = value
    for ps in (3, 5, 7):
        search = PairedSearch(5, ps, 1, stride0=1, itype=itype)
        dists, inds, moved = search.subpixel(query, key, flow)
        separate = subpixel_offsets(query, key, inds[:, 0, :, :, 0], ps)
        found = dists[:, 0, ..., 0].isfinite()
        torch.testing.assert_close(moved[found], separate[found], rtol=0, atol=5e-3)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("k", "full_ws", "strange"), [(1, True, False), (49, False, False), (1, True, True)]
)
def test_threads_do_not_change_a_bit(k: int, full_ws: bool, strange: bool) -> None:
    """Nor does what else a thread has searched, beside a pixel that is no number, say."""
    query, key, flow = drawn(7, 70, 150)
    if strange:
        flow = flow.round()
        key[0, 1, 20, 33] = key[0, 2, 65, 140] = math.nan
    search = PairedSearch(7, 5, k, stride0=1, full_ws=full_ws)
    found = []
    for count in (1, 2, 2, 2, 5):
        torch.set_num_threads(count)
        found.append(search.subpixel(query, key, flow))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("isa", _native.CPU_ISAS)
def test_every_instruction_set(use_isa: Callable[[str], None], isa: str) -> None:
    use_isa(isa)
    for itype in ("float", "int"):
        for ps in (3, 7, 8):
            search = PairedSearch(7, ps, 1, stride0=1, itype=itype, charge=30.0)
            assert_same(search, drawn(ps, 34, 70), near=0.999)


@pytest.mark.parametrize("itype", ["float", "int"])
def test_gradients_of_the_search_remain(device: str, itype: str) -> None:
    query, key, flow = (x.to(device).requires_grad_() for x in drawn(8, 12, 20))
    search = PairedSearch(3, 3, 2, stride0=1, itype=itype)
    dists, inds, moved = search.subpixel(query, key, flow)
    assert not moved.requires_grad
    grads = torch.autograd.grad(dists.sum(), (query, key))
    alone = torch.autograd.grad(search(query, key, flow)[0].sum(), (query, key))
    # A GPU adds in an order of its own.
    torch.testing.assert_close(grads, alone, rtol=1e-4, atol=1e-2)
    with torch.no_grad():
        for one, other in zip((dists, inds, moved), search.subpixel(query, key, flow), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=5e-3)


def test_it_compiles() -> None:
    search, inputs = PairedSearch(5, 3, 1, stride0=1), drawn(9, 16, 24)
    compiled = torch.compile(search.subpixel, backend="eager", fullgraph=True)
    for one, other in zip(compiled(*inputs), search.subpixel(*inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride0": 2}, "stride0=1, not 2"),
        ({"dist_type": "prod"}, "dist_type='l2', not 'prod'"),
        ({"dilation": 2}, "dilation=1, not 2"),
        ({"use_adj": True}, "use_adj=False, not True"),
        ({"reflect_bounds": False}, "reflect_bounds=True, not False"),
        ({"off_Hq": 1}, "off_Hq=0, not 1"),
        ({"off_Wq": 1}, "off_Wq=0, not 1"),
        ({"k": -1}, "k > 0, not -1"),
    ],
)
def test_searches_of_another_kind_are_refused(options: dict[str, Any], message: str) -> None:
    search = PairedSearch(**{"ws": 3, "ps": 3, "k": 1, "stride0": 1, **options})
    with pytest.raises(StnlsError, match=message):
        search.subpixel(*drawn(0, 8, 9))


def test_heads_are_refused() -> None:
    query, key, flow = drawn(0, 8, 9, channels=4)
    with pytest.raises(StnlsError, match="one head, not 2"):
        PairedSearch(3, 3, 1, nheads=2, stride0=1).subpixel(query, key, flow)
