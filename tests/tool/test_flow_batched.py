"""Flows of many pairs at once, as a GPU computes them: the same flows, window by window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stnls_cli.flow import FLOW_METHODS, BatchedFlow, luma8, luma8_of_tensor, open_flow_source
from stnls_cli.timings import Timings
from stnls_cli.video import open_clip
from stnls_cli.window import TemporalWindow


def test_luma_of_a_tensor_is_that_of_an_array() -> None:
    generator = np.random.default_rng(0)
    for frame in (
        generator.integers(0, 256, (40, 50, 3)).astype(np.float32),
        generator.uniform(-30, 290, (40, 50, 3)).astype(np.float32),
        np.repeat(np.arange(256, dtype=np.float32)[:, None, None], 3, axis=2),
    ):
        tensor = torch.from_numpy(frame).permute(2, 0, 1).contiguous()
        np.testing.assert_array_equal(luma8_of_tensor(tensor).numpy(), luma8(frame))
        together = torch.stack((tensor, tensor.flip(1)))
        assert torch.equal(luma8_of_tensor(together)[1], luma8_of_tensor(tensor).flip(0))
    with pytest.raises(ValueError, match=r"3, H, W\)"):
        luma8_of_tensor(torch.zeros(1, 4, 4))


def test_batches_are_the_pairs_one_by_one(textured: Any) -> None:
    method = FLOW_METHODS["tvl1"]
    rgb = textured(4, 40, 48)
    grays = [torch.from_numpy(luma8(frame)) for frame in rgb]
    frames = [torch.from_numpy(frame).permute(2, 0, 1).float() for frame in rgb]
    batched = BatchedFlow(method, most=2)
    for t in range(3):
        batched.submit(t, "forward", frames[t], frames[t + 1])
    flows = batched.take()
    assert list(flows) == [("forward", t) for t in range(3)]
    for (_, t), flow in flows.items():
        alone = method.compute(grays[t].numpy(), grays[t + 1].numpy())
        np.testing.assert_allclose(flow.permute(1, 2, 0).numpy(), alone, atol=1e-4)
    assert batched.take() == {}
    with pytest.raises(ValueError, match="both frames"):
        batched.submit(0, "forward", None, frames[0])
    with pytest.raises(ValueError, match="one pair at a time"):
        FLOW_METHODS["zero"].compute_batch(grays[0][None], grays[1][None])


@pytest.mark.parametrize("done", [(), {0, 1, 4}])
def test_a_window_of_batched_flows(clip: Path, done: Any) -> None:
    """The flows of every step are those that threads compute, and no more than are needed."""
    found: list[dict[tuple[int, int], Any]] = []
    counts = []
    for batch in (None, 3):
        flows = {}
        method = FLOW_METHODS["tvl1"]
        calls = 0

        def counted() -> None:
            nonlocal calls
            calls += 1

        with (
            open_clip(clip) as frames,
            open_flow_source("tvl1", height=32, width=48, threads=1) as source,
            TemporalWindow(
                frames,
                source,
                wt=2,
                sigma=2.0,
                seed=0,
                device=torch.device("cpu"),
                ahead=2,
                done=done,
                timings=Timings(torch.device("cpu")),
                on_frame=lambda: None,
                on_flow=counted,
                batched=None if batch is None else BatchedFlow(method, batch),
            ) as window,
        ):
            for t in window:
                for dt in window.neighbours(t):
                    flows[t, dt] = torch.stack(window.steps(t, dt))
                assert window.held <= 2 * 2 + 1 + 2
        found.append(flows)
        counts.append(calls)
    assert found[0].keys() == found[1].keys()
    assert counts[0] == counts[1]
    for place, flow in found[0].items():
        torch.testing.assert_close(found[1][place], flow, atol=1e-4, rtol=0)
