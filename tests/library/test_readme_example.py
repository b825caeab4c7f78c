"""The README's example, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import stnls
import torch
from compare import assert_search, noise
from reference import SearchOptions, candidates, search_flow, select, weighted_patch_sum
from torch import Tensor

OPTIONS = SearchOptions(ws=5, wt=2, ps=3, k=10, nheads=2, stride1=0.5, self_action="anchor")


@pytest.fixture
def example(root: Path) -> str:
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    found = [block for block in blocks if "NonLocalSearch" in block]
    assert len(found) == 1
    return str(found[0])


def run(example: str, device: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    with torch.device(device):
        exec(example, names)
    return names


def test_shapes_weights_and_anchors(example: str, device: str) -> None:
    names = run(example, device)
    dists, inds, weights, out = (names[n] for n in ("dists", "inds", "weights", "out"))
    assert dists.shape == (1, 2, 5, 128, 128, 10)
    assert inds.shape == (*dists.shape, 3)
    assert out.shape == names["v"].shape == (1, 5, 16, 128, 128)
    assert {x.device.type for x in (dists, inds, weights, out)} == {device}
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    # No match takes it all, as it would with a scale that does not know the size of a patch.
    assert weights.amax(-1).mean() < 0.5
    assert torch.softmax(-10 * dists, -1).amax(-1).mean() > 0.9
    assert bool((inds[..., 0, :] == 0).all())
    assert bool((dists[..., 2:] >= dists[..., 1:-1]).all())
    # Every output pixel is a mean of values of v.
    assert out.abs().max() <= names["v"].abs().max()


def test_a_video_matches_itself_first_at_distance_zero(example: str, device: str) -> None:
    names = run(example, device)
    dists, inds = names["search"](names["q"], names["q"], names["flows"])
    assert bool((dists[..., 0] == 0).all())
    assert bool((inds[..., 0, :] == 0).all())
    assert bool((dists[..., 1:] > 0).all())


def test_a_crop_equals_the_reference(example: str, device: str) -> None:
    """Queries whose windows and patches lie inside the crop know nothing of what is around it."""
    names = run(example, device)
    top, left, size = 50, 60, 18
    crop = (..., slice(top, top + size), slice(left, left + size))
    q, k, v, flows = (names[n].cpu()[crop] for n in ("q", "k", "v", "flows"))
    dists, inds, weights = (names[n].cpu() for n in ("dists", "inds", "weights"))
    rows = slice(top, top + size), slice(left, left + size)
    dists, inds, weights = (x[:, :, :, rows[0], rows[1]] for x in (dists, inds, weights))
    expected, _ = select(OPTIONS, candidates(OPTIONS, q, k, flows))
    inner = inside_with_margin(flows, 4)  # half a window, half a patch, and the pixel next to it
    assert inner.float().mean() > 0.1
    torch.testing.assert_close(
        dists.double()[inner], expected[inner], rtol=1e-5, atol=1e-5 * float(expected.mean())
    )
    out = weighted_patch_sum(v, weights, inds, ps=3, stride0=1)
    covered = 1 - torch.nn.functional.max_pool2d(1 - inner[:, 0].float(), 3, 1, 1) > 0
    assert covered.any()
    at = covered[:, :, None].expand_as(out)
    torch.testing.assert_close(names["out"].cpu()[crop].double()[at], out[at], rtol=0, atol=1e-5)


def inside_with_margin(flows: Tensor, margin: int) -> Tensor:
    """(B, HD, T, nH, nW): the query and its place in every slot keep this far from the border."""
    height, width = flows.shape[-2:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    flows = torch.cat([torch.zeros_like(flows[:, :, :1]), flows], 2)
    h, w = flows[:, :, :, 1] + rows, flows[:, :, :, 0] + columns
    inner = (h >= margin) & (h <= height - 1 - margin) & (w >= margin) & (w <= width - 1 - margin)
    return inner.all(2)[:, None].expand(-1, 2, -1, -1, -1)


def test_a_small_video_equals_the_reference(device: str) -> None:
    q, k, v = (noise(1, 5, 16, 10, 11, seed=seed) for seed in range(3))
    fflow, bflow = (noise(1, 5, 2, 10, 11, seed=seed) for seed in (3, 4))
    on = [x.to(device) for x in (q, k, v, fflow, bflow)]
    flows = stnls.nn.search_flow(on[3], on[4], wt=2)
    torch.testing.assert_close(
        flows.cpu().double(), search_flow(fflow, bflow, 2), rtol=0, atol=1e-4
    )
    search = stnls.search.NonLocalSearch(
        ws=5, wt=2, ps=3, k=10, nheads=2, stride1=0.5, self_action="anchor"
    )
    dists, inds = search(on[0], on[1], flows)
    assert_search(OPTIONS, candidates(OPTIONS, q, k, flows.cpu()), (dists, inds))
    weights, inds = stnls.normz.SoftmaxWeights(scale=1 / (3 * 3 * 8))(dists, inds)
    torch.testing.assert_close(weights, torch.softmax(-dists / 72, -1))
    out = stnls.agg.WeightedPatchSum(ps=3, stride0=1)(on[2], weights, inds)
    expected = weighted_patch_sum(v, weights.cpu(), inds.cpu(), ps=3, stride0=1)
    torch.testing.assert_close(out.cpu().double(), expected, rtol=0, atol=1e-5)
