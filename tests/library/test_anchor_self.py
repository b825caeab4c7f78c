"""`anchor_self` and its relatives against a search through all candidates, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stnls
import torch
from cases import Pick, draw_flow, drawn, seeded
from compare import PROPERTY, assert_same_bits, bytes_like, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.anchors import pin, pin_slots, place
from stnls.nn import anchor_self, anchor_self_paired, anchor_self_refine, anchor_self_time
from torch import Tensor

INTEGERS, REALS = (torch.int32, torch.int64), (torch.float32, torch.float64)


def offsets(pick: Pick, *shape: int, around: Tensor | None = None) -> Tensor:
    """Offsets of which many are there more than once, some nearly so; integer or real."""
    generator = torch.Generator().manual_seed(pick(range(1000)))
    dtype = pick((*INTEGERS, *REALS))
    inds = torch.randint(-2, 3, shape, generator=generator).to(dtype)
    if around is not None:
        inds = torch.where(
            torch.rand(shape[:-1], generator=generator)[..., None] < 0.2,
            around.to(dtype).expand(shape),
            inds,
        )
    if dtype in REALS:
        nudged = torch.rand(shape, generator=generator)
        # Sixteenths are exact, so that no order of summation decides what is nearest.
        inds = inds + torch.where(nudged < 0.3, (nudged * 16).round() / 16, 0.0)
        inds = inds + pick((0, 0, 0.5, 1e5)) * (torch.rand(shape, generator=generator) < 0.5)
    return inds


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_own_position(data: st.DataObject) -> None:
    pick = drawn(data)
    shape = (pick((0, 1, 2)), pick((1, 2)), 2 * 2 * 3, pick((1, 3)), *(pick((1, 2, 3)),) * 2)
    inds = offsets(pick, *shape, 3)
    dists = noise(*shape)
    found_dists, found_inds = dists.clone(), inds.clone()
    order = anchor_self(found_dists, found_inds, 2, 2, 3)
    assert order.dtype == torch.int32
    assert order.shape == shape[:3]
    zero = torch.zeros(3, dtype=inds.dtype)
    for b, head, q in torch.cartesian_prod(*(torch.arange(n) for n in shape[:3])):
        candidates = dists[b, head, q].view(-1), inds[b, head, q].view(-1, 3)
        assert order[b, head, q] == pin(*candidates, zero)
    assert_same_bits((found_dists, found_inds), (dists, inds))


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_place_of_the_flow_in_every_slot(data: st.DataObject) -> None:
    dists, inds, flows, *options = draw_slots(drawn(data))
    found = dists.clone(), inds.clone()
    anchor_self_time(*found, flows, *options)
    wt, stride0, _, _, *size = options
    pin_slots(dists, inds, flows, wt, stride0, (size[0], size[1]))
    assert_same_bits(found, (dists, inds))


def draw_slots(pick: Pick) -> tuple[Any, ...]:
    wt, stride0 = pick((0, 1, 2)), pick((1, 2, 3))
    frames, heads, size = 2 * wt + 1 + pick((0, 1)), pick((1, 2)), (pick((1, 3, 5)), pick((2, 4)))
    grid = [(length - 1) // stride0 + 1 for length in size]
    slots = 2 * wt + 1 if wt == 0 else 2 * wt + pick((0, 1))
    shape = (1, heads, frames * grid[0] * grid[1], slots, *(pick((1, 2, 3)),) * 2)
    flows = draw_flow(pick, (1, pick((1, heads)), frames, 2 * wt + pick((0, 1)), 2, *grid), 4)
    inds = offsets(pick, *shape, 3)
    flows = flows.to(inds.dtype if inds.is_floating_point() else torch.float32)
    # On sixteenths, as the offsets are.
    flows = torch.where(flows.abs() < 1e3, (flows * 16).round() / 16, flows)
    if not inds.is_floating_point() and pick((True, False)):
        flows = flows.nan_to_num(0, 0, 0).clamp(-1e6, 1e6).round().to(inds.dtype)
    return noise(*shape), inds, flows, wt, stride0, *size, *size


def table(self_action: str | None, **options: Any) -> tuple[Tensor, Tensor]:
    """All candidates of a search: dists (B, HD, Q, S, ws, ws) and inds (..., 3)."""
    video, key = bytes_like(1, 3, 4, 7, 9, seed=1), bytes_like(1, 3, 4, 7, 9, seed=2)
    keywords = {"ws": 3, "wt": 1, "ps": 3, "k": -1, "nheads": 2, "stride0": 2, **options}
    search = stnls.search.NonLocalSearch(self_action=self_action, **keywords)
    dists, inds = search(video, key, search_flows())
    return dists.view(1, 2, 60, -1, 3, 3), inds.view(1, 2, 60, -1, 3, 3, 3)


def search_flows() -> Tensor:
    return 3 * noise(1, 2, 3, 2, 2, 4, 5, seed=3)


@pytest.mark.parametrize("itype", ["int", "float"])
@pytest.mark.parametrize("full_ws", [True, False])
def test_anchors_of_a_search(itype: str, full_ws: bool) -> None:
    options = {"itype": itype, "full_ws": full_ws}
    found = table(None, **options)
    anchor_self_time(*found, search_flows(), 1, 2, 7, 9, 7, 9)
    assert_same_bits(found, table("anchor_each", **options))
    found = table("remove_ref_frame", **options)
    anchor_self_time(*found, search_flows(), 1, 2, 7, 9, 7, 9)
    assert_same_bits(found, table("anchor_and_remove_ref_frame", **options))
    found = table(None, **options)
    order = anchor_self(*found, 2, 4, 5)
    assert bool((found[1].view(1, 2, 60, -1, 3)[..., 0, :] == 0).all())
    assert bool((order < 9).all())  # in the slot of the own frame
    assert_same_bits(found, table("anchor", **options))


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_centre_of_refined_windows(data: st.DataObject) -> None:
    dists, inds, flows, *options = draw_refined(drawn(data))
    found = dists.clone(), inds.clone()
    anchor_self_refine(*found, flows, *options)
    stride0, _, _, height, width = options
    real, frames = inds.is_floating_point(), dists.shape[2]
    for at in torch.cartesian_prod(*(torch.arange(n) for n in dists.shape[:6])):
        b, head, t, i, j, n = at.tolist()
        flow = flows[b, head % flows.shape[1], t, i, j, n]
        dt = place(torch.floor(flow[0] + 0.5) if real else flow[0], t, frames, real)
        rows = place(flow[1], i * stride0, height, real)
        columns = place(flow[2], j * stride0, width, real)
        window = dists[b, head, t, i, j, n].view(-1), inds[b, head, t, i, j, n].view(-1, 3)
        pin(*window, torch.tensor([dt, rows, columns], dtype=inds.dtype))
    assert_same_bits(found, (dists, inds))


def draw_refined(pick: Pick) -> tuple[Any, ...]:
    stride0, frames, heads = pick((1, 2)), pick((1, 3)), pick((1, 2))
    size, matches = (pick((1, 3)), pick((2, 4))), pick((1, 2))
    grid = [(length - 1) // stride0 + 1 for length in size]
    shape = (1, heads, frames, *grid, matches, *(pick((1, 2, 3)),) * 2)
    inds = offsets(pick, *shape, 3)
    dtype = inds.dtype if inds.is_floating_point() else torch.float32
    flows = draw_flow(pick, (1, pick((1, heads)), frames, *grid, matches, 3), 4).to(dtype)
    flows = torch.where(flows.abs() < 1e3, (flows * 16).round() / 16, flows)
    return noise(*shape), inds, flows, stride0, *size, *size


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_place_of_the_flow_between_a_pair(data: st.DataObject) -> None:
    dists, inds, flows, *options = draw_paired_slots(drawn(data))
    found = dists.clone(), inds.clone()
    anchor_self_paired(*found, flows, *options)
    stride0, _, _, height, width = options
    real, columns = inds.is_floating_point(), flows.shape[3]
    for at in torch.cartesian_prod(*(torch.arange(n) for n in dists.shape[:4])):
        b, head, q, group = at.tolist()
        i, j = q // columns, q % columns
        flow = flows[b, head % flows.shape[1], i, j, group]
        wanted = (
            place(flow[0], i * stride0, height, real),
            place(flow[1], j * stride0, width, real),
        )
        window = dists[b, head, q, group].view(-1), inds[b, head, q, group].view(-1, 2)
        pin(*window, torch.tensor(wanted, dtype=inds.dtype))
    assert_same_bits(found, (dists, inds))


def draw_paired_slots(pick: Pick) -> tuple[Any, ...]:
    dists, inds, flows, *options = draw_refined(pick)
    dists = dists[:, :, 0].flatten(2, 3).contiguous()
    inds = inds[:, :, 0, ..., 1:].flatten(2, 3).contiguous()
    return dists, inds, flows[:, :, 0, ..., 1:], *options


def test_near_far_and_equal() -> None:
    def pinned(*rows: float) -> list[float]:
        inds = torch.zeros(1, 1, 1, len(rows), 1, 1, 3, dtype=torch.float64)
        inds[..., 2] = torch.tensor(rows, dtype=torch.float64).view(-1, 1, 1)
        anchor_self(torch.zeros(inds.shape[:-1]), inds, 1, 1, 1)
        found: list[float] = inds[..., 2].flatten().tolist()
        return found

    assert pinned(3, -2, 1, -1) == [0, -2, 3, -1]  # the nearest, the first of two
    assert pinned(3, 1e-9, 0) == [0, 3, 0]  # less than 1e-8 is as good as 0
    assert pinned(-1e-9, 0) == [-1e-9, 0]
    assert pinned(3e4, 1e4) == [3e4, 1e4]  # too far
    assert pinned(3e4, 9999) == [0, 3e4]
    assert pinned(float("nan"), float("inf"), 5) == pytest.approx(
        [0, float("inf"), float("nan")], nan_ok=True
    )


def test_gradients_follow_the_swap() -> None:
    size = (2, 3)
    flows = (noise(1, 1, 3, 2, 2, *size).double()).requires_grad_()
    inds = noise(1, 1, 18, 3, 2, 2, 3, seed=1).double().requires_grad_()
    dists = noise(1, 1, 18, 3, 2, 2, seed=2).double().requires_grad_()

    def pinned(d: Tensor, i: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        d, i = d.clone(), i.clone()
        anchor_self_time(d, i, f, 1, 1, *size, *size)
        anchor_self(d, i, 1, *size)
        return d, i

    assert torch.autograd.gradcheck(pinned, (dists, inds, flows))


def test_flow_of_the_border_pixel_has_a_gradient() -> None:
    flows = torch.zeros(1, 1, 1, 1, 2, 2, 2, requires_grad=True)
    inds = torch.ones(1, 1, 4, 1, 2, 2, 3)
    inds[..., 1, 1, :] = 0.25  # the nearest, so that the flow's place is written
    anchor_self_time(torch.zeros(inds.shape[:-1]), inds, flows, 0, 1, 2, 2, 2, 2)
    inds.sum().backward()
    assert flows.grad is not None
    assert bool((flows.grad == 1).all())


D, I = torch.zeros(1, 2, 12, 3, 3, 3), torch.zeros(1, 2, 12, 3, 3, 3, 3)  # noqa: E741
FLOWS = torch.zeros(1, 2, 3, 2, 2, 2, 2)
SIZE = (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: anchor_self(D, I[..., :2], 1, 2, 2), ValueError, r"3\), not \(1, 2, 12, .*2\)"),
        (lambda: anchor_self(D[0], I, 1, 2, 2), ValueError, r"dists must have shape \(B, HD, Q, S"),
        (lambda: anchor_self(D, I, 1, 2, 5), ValueError, r"of nH\*nW = 10 queries, not 12"),
        (lambda: anchor_self(D, I, 0, 2, 2), ValueError, "stride0 must be at least 1, not 0"),
        (lambda: anchor_self(D, I.bool(), 1, 2, 2), TypeError, "real numbers, not torch.bool"),
        (
            lambda: anchor_self(D.mT, I, 1, 2, 2),
            *(ValueError, r"must be contiguous, with strides \(648, .*, 1\), not \(648, .*, 3\)"),
        ),
        (
            lambda: anchor_self(D, torch.zeros_like(I, requires_grad=True), 1, 2, 2),
            *(ValueError, r"inds is written .* a leaf that requires a gradient: pass inds\.clone"),
        ),
        (
            lambda: anchor_self_time(D, I, FLOWS, 2, 1, *SIZE),
            *(ValueError, r"at least 2\*wt\+1 = 5 frames, but the video has 3"),
        ),
        (
            lambda: anchor_self_time(D, I, FLOWS, 1, 1, 3, 2, 3, 2),
            *(ValueError, r"\(1, 2, 3, 2 or 3, 2, 3, 2\), not \(1, 2, 3, 2, 2, 2, 2\)"),
        ),
        (
            lambda: anchor_self_time(D[:, :1, :8], I[:, :1, :8], FLOWS, 1, 1, *SIZE),
            *(ValueError, r"\(1, 1, 12, 2 or 3, 3, 3\), not \(1, 1, 8, 3, 3, 3\)"),
        ),
        (
            lambda: anchor_self_time(D, I, FLOWS[:, :0], 1, 1, *SIZE),
            *(ValueError, r"flows must have at least one head, not 0: \(1, 0, 3,"),
        ),
        (
            lambda: anchor_self_refine(D, I, FLOWS, 1, *SIZE),
            *(ValueError, r"dists must have shape \(B, HD, T, nH, nW, Ks, wr, wr\), not"),
        ),
        (
            lambda: anchor_self_paired(D, I[..., :2].contiguous(), FLOWS[:, :, 0], 1, *SIZE),
            *(ValueError, r"dists must have shape .* = \(1, 2, 4, 3, 3, 3\), not \(1, 2, 12, 3,"),
        ),
    ],
)
def test_arguments_are_checked(
    call: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        call()
    assert isinstance(raised.value, stnls.StnlsError)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(20))
def test_cuda_has_the_bits_of_the_cpu(seed: int) -> None:
    for function, draw in (
        (anchor_self_time, draw_slots),
        (anchor_self_refine, draw_refined),
        (anchor_self_paired, draw_paired_slots),
    ):
        *tensors, wt = draw(seeded(seed))[:4]
        options = draw(seeded(seed))[4:]
        runs = []
        for device in ("cpu", "cuda"):
            there = [x.clone().to(device) for x in tensors]
            function(*there, wt, *options)  # type: ignore[operator]
            runs.append([x.cpu() for x in there[:2]])  # the flow, with its NaN, is not written
        assert_same_bits(*runs)


@pytest.mark.gpu
def test_cuda_finds_the_own_position_of_the_cpu() -> None:
    inds = torch.randint(-3, 4, (2, 2, 30, 3, 9, 9, 3), generator=torch.Generator().manual_seed(0))
    for dtype in (*INTEGERS, *REALS):
        runs = []
        for device in ("cpu", "cuda"):
            there = noise(*inds.shape[:-1]).to(device), inds.clone().to(device, dtype)
            order = anchor_self(*there, 1, 5, 6)
            runs.append([x.cpu() for x in (*there, order)])
        assert_same_bits(*runs)
