"""`search_flow` and `compose_flow` on the CPU against the reference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import reference
import stnls
import torch
from cases import Pick, draw_flow, drawn
from compare import PROPERTY, assert_same_bits, noise
from hypothesis import given, note, settings
from hypothesis import strategies as st
from reference.flow import flow_at
from reference.positions import slot_frames
from torch import Tensor

SIZES = (1, 2, 3, 5, 8, 13)


def assert_path(flows: Sequence[Tensor], offsets: Tensor, stride0: int) -> None:
    """Each offset, (N, 2, nH, nW), is one step of the reference from the position before it.

    It may differ by what rounding of that position changes in the flow that is read there.
    """
    rows = torch.arange(offsets.shape[-2]).double() * stride0
    columns = torch.arange(offsets.shape[-1]).double() * stride0
    start = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    unit = 1e-6 if offsets.dtype == torch.float32 else 1e-14
    at = start
    for flow, offset in zip(flows, offsets.double(), strict=True):
        step = torch.stack(flow_at(flow, at[1], at[0]))
        lost = ~torch.isfinite(at).all(0)
        assert not bool((lost & torch.isfinite(offset).all(0)).any())
        # Further out the offset no longer tells the position.
        near = (at.abs() < 1e5).all(0)
        known = torch.isfinite(step).all(0) & torch.isfinite((at + step).to(offsets.dtype)).all(0)
        assert torch.equal(torch.isfinite(offset).all(0) & near, known & near)
        rounding = unit * (1 + at.abs().amax(0) + step.abs().amax(0))
        slack = rounding.clone()
        for up in (-1, 1):
            for right in (-1, 1):
                moved = flow_at(flow, at[1] + up * rounding, at[0] + right * rounding)
                slack = slack.maximum(rounding + (torch.stack(moved) - step).abs().amax(0))
        wrong = (start + offset - at - step).abs().amax(0) > slack
        assert not bool((wrong & known & near).any())
        at = start + offset


def draw_steps(pick: Pick) -> Tensor:
    """(B, T, 2, H, W) flow of any kind, also wild."""
    batch, frames, height, width = pick((0, 1, 2)), pick((1, 2, 3, 5)), pick(SIZES), pick(SIZES)
    dtype = pick((torch.float32, torch.float64))
    flow = draw_flow(pick, (batch, frames, 2, height, width), max(height, width))
    return flow.to(dtype)


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_search_flow_equals_the_reference(data: st.DataObject) -> None:
    pick = drawn(data)
    fflow = draw_steps(pick)
    bflow = fflow.flip(1).mT.contiguous().mT * 0.75
    wt, stride0 = pick((0, 1, 2, 3)), pick((1, 2, 4))
    note(f"{tuple(fflow.shape)} {fflow.dtype} wt={wt} stride0={stride0}")
    found = stnls.nn.search_flow(fflow, bflow, wt, stride0)
    assert found.dtype == fflow.dtype
    batch, frames, _, height, width = fflow.shape
    grid = (height - 1) // stride0 + 1, (width - 1) // stride0 + 1
    assert found.shape == (batch, frames, min(2 * wt + 1, frames) - 1, 2, *grid)
    for b in range(batch):
        for t in range(frames):
            slots = slot_frames(t, wt, frames)[1:]
            after, before = ([f for f in slots if f > t], [f for f in slots if f < t])
            forward, backward = found[b, t].split([len(after), len(before)])
            assert_path([fflow[b, f - 1] for f in after], forward, stride0)
            assert_path([bflow[b, f + 1] for f in before], backward, stride0)


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_compose_flow_equals_the_reference(data: st.DataObject) -> None:
    pick = drawn(data)
    steps, stride0 = draw_steps(pick), pick((1, 2, 4))
    note(f"{tuple(steps.shape)} {steps.dtype} stride0={stride0}")
    found = stnls.nn.compose_flow(steps, stride0=stride0)
    for flows, offsets in zip(steps, found, strict=True):
        assert_path(list(flows), offsets, stride0)


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_smooth_flow_equals_the_reference_at_the_end_of_the_path(data: st.DataObject) -> None:
    pick = drawn(data)
    height, width, frames = pick(SIZES), pick(SIZES), pick((1, 3, 5))
    ramp = torch.linspace(-3, 2, height)[:, None] + torch.linspace(-1, 3, width)
    fflow, bflow = (ramp * sign + torch.zeros(1, frames, 2, 1, 1) for sign in (1.0, -0.5))
    for found, expected in (
        (stnls.nn.search_flow(fflow, bflow, 2), reference.search_flow(fflow, bflow, 2)),
        (stnls.nn.compose_flow(fflow), reference.compose_flow(fflow)),
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_lost_position_is_an_invalid_slot_of_the_search(value: float) -> None:
    fflow, bflow = torch.zeros(1, 3, 2, 6, 7), torch.zeros(1, 3, 2, 6, 7)
    fflow[0, 0, 0, 2, 3] = value
    flows = stnls.nn.search_flow(fflow, bflow, 1)
    lost = ~torch.isfinite(flows).all(3)
    assert bool(lost[0, 0, :, 2, 3].all())
    assert not bool(lost[0, 1:].any())
    video = noise(1, 3, 1, 6, 7)
    dists, _ = stnls.search.NonLocalSearch(3, 1, 1, -1)(video, video, fflow, bflow)
    assert torch.isfinite(dists[0, 0, 0, 2, 3]).tolist() == [True] * 9 + [False] * 18


def test_forward_slots_come_first_and_backward_ones_start_again() -> None:
    fflow, bflow = torch.zeros(1, 5, 2, 4, 6), torch.zeros(1, 5, 2, 4, 6)
    fflow[:, :, 0], bflow[:, :, 1] = 1.0, -0.5
    flows = stnls.nn.search_flow(fflow, bflow, 2)
    assert flows[0, 2, :, :, 1, 1].tolist() == [[1, 0], [2, 0], [0, -0.5], [0, -1]]
    assert flows[0, 4, :, :, 1, 1].tolist() == [[0, -0.5], [0, -1], [0, -1.5], [0, -2]]


def test_the_flow_of_the_last_and_of_the_first_frame_is_not_read() -> None:
    fflow, bflow = noise(1, 3, 2, 5, 6, seed=1), noise(1, 3, 2, 5, 6, seed=2)
    expected = stnls.nn.search_flow(fflow, bflow, 1)
    fflow[:, -1], bflow[:, 0] = float("nan"), float("nan")
    assert_same_bits((stnls.nn.search_flow(fflow, bflow, 1),), (expected,))


def test_sequences_shorter_than_the_window_have_fewer_slots() -> None:
    flow = noise(1, 2, 2, 5, 6)
    assert stnls.nn.search_flow(flow, flow, 3).shape == (1, 2, 1, 2, 5, 6)
    assert stnls.nn.search_flow(flow[:, :1], flow[:, :1], 3).shape == (1, 1, 0, 2, 5, 6)


def test_threads_and_memory_layout_do_not_change_a_bit(threads: None) -> None:
    fflow, bflow = 3 * noise(2, 4, 2, 90, 70, seed=1), 3 * noise(2, 4, 2, 90, 70, seed=2)
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for layout in (lambda x: x, lambda x: x.mT.contiguous().mT):
            flows = stnls.nn.search_flow(layout(fflow), layout(bflow), 2)
            runs.append((flows, stnls.nn.compose_flow(layout(fflow))))
    assert_same_bits(*runs)
