"""Gradients are refused in so many words, never silently empty."""

from __future__ import annotations

import pytest
import stnls
import torch


def test_search_refuses_to_go_backward() -> None:
    video = torch.rand(1, 3, 2, 8, 8, requires_grad=True)
    dists, _ = stnls.search.NonLocalSearch(3, 1, 3, 2)(video, video.detach())
    with pytest.raises(stnls.StnlsRuntimeError, match=r"no gradient in this version.*detach"):
        dists.sum().backward()


def test_patch_sum_refuses_to_go_backward() -> None:
    video = torch.rand(1, 1, 2, 8, 8)
    dists, inds = stnls.search.NonLocalSearch(3, 0, 3, 2)(video, video)
    weights = torch.softmax(-dists, -1).requires_grad_()
    with pytest.raises(stnls.StnlsRuntimeError, match="no gradient"):
        stnls.agg.WeightedPatchSum(3, 1)(video, weights, inds).sum().backward()
