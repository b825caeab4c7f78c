"""Calls that go past the dispatcher of PyTorch, and those that must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stnls
import torch
from compare import assert_same_bits, noise
from stnls._ops import PatchSettings
from stnls._passed import PassedChecks
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PATCHES = PatchSettings(3, 1, 1, True, False, True, False, True, True)


class Names(TorchDispatchMode):
    """Writes down which operators run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def inputs(heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    weights = noise(1, heads, 3, 6, 7, 2, seed=1)
    return noise(1, 3, 4, 6, 7), weights, noise(1, heads, 3, 6, 7, 2, 3, seed=2)


def both_ways(video: Tensor, weights: Tensor, inds: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in (video, weights, inds)]
    out = stnls.agg.WeightedPatchSum(3, 1)(*leaves)
    return out, *torch.autograd.grad(out.square().sum(), leaves)


def test_a_mode_sees_the_operators_and_changes_nothing() -> None:
    plain = both_ways(*inputs())
    with Names() as names:
        seen = both_ways(*inputs())
    assert "stnls.patch_sum.default" in names.seen
    assert "stnls.patch_gradient.default" in names.seen
    assert_same_bits(plain, seen)


def test_a_profiler_finds_the_operators_by_name() -> None:
    video = noise(1, 3, 2, 6, 7)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        stnls.search.NonLocalSearch(3, 1, 3, 2)(video, video)
    assert "stnls::search" in {event.key for event in profile.key_averages()}


def test_views_that_stand_for_a_negative() -> None:
    video, weights, inds = inputs()
    negative = torch.complex(torch.zeros_like(video), video).conj().imag
    assert negative.is_neg()
    total = stnls.agg.WeightedPatchSum(3, 1)
    torch.testing.assert_close(total(negative, weights, inds), -total(video, weights, inds))


class Tagged(Tensor):
    """A subclass without a rule of its own."""


def test_subclasses_stay_what_they_are() -> None:
    video, weights, inds = inputs()
    total = stnls.agg.WeightedPatchSum(3, 1)
    found = total(video.as_subclass(Tagged), weights, inds)
    assert isinstance(found, Tagged)
    assert_same_bits((found.as_subclass(Tensor),), (total(video, weights, inds),))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: Callable[[], Any]) -> None:
    video, weights, inds = inputs()
    expected = stnls.agg.WeightedPatchSum(3, 1)(video, weights, inds)
    with mode():
        found = stnls.agg.WeightedPatchSum(3, 1)(video.requires_grad_(), weights, inds)
    assert not found.requires_grad
    assert_same_bits((found.clone(),), (expected,))


def test_inside_the_kernel_of_another_operator() -> None:
    total = stnls.agg.WeightedPatchSum(3, 1)
    weights, inds = inputs()[1:]

    @torch.library.custom_op("stnls_test::outer", mutates_args=())
    def outer(video: Tensor) -> Tensor:
        out: Tensor = total(video, weights, inds)
        assert not out.requires_grad
        return out

    outer(inputs()[0].requires_grad_())


def test_checks_that_were_passed_before_do_not_hide_errors() -> None:
    total = stnls.agg.WeightedPatchSum(3, 1)
    video, weights, inds = inputs()
    for _ in range(2):
        total(video, weights, inds)
        with pytest.raises(TypeError, match="vid and weights must have one dtype"):
            total(video, weights.double(), inds)
        with pytest.raises(ValueError, match="inds must have shape"):
            total(video, weights, inds[..., :2])
        with pytest.raises(ValueError, match="vid has 3 channels"):
            total(video[:, :, :3], weights, inds)
        with pytest.raises(TypeError, match="weights must be a tensor"):
            total(video, None, inds)


def test_what_passed_is_not_remembered_without_end() -> None:
    passed = PassedChecks()
    for inputs in range(3000):
        assert inputs not in passed
        passed.add(inputs)
        assert inputs in passed
    assert sum(inputs in passed for inputs in range(3000)) <= 1024


def test_heads_among_the_channels(device: str) -> None:
    """The operator takes both forms of a video, forward and backward."""
    video, weights, inds = (x.to(device) for x in inputs())
    by_head = video.unflatten(2, (2, 2)).transpose(1, 2)
    results = []
    for given in (video, by_head):
        leaves = [x.detach().requires_grad_() for x in (given, weights, inds)]
        out = torch.ops.stnls.patch_sum(*leaves, *PATCHES)
        grads = torch.autograd.grad(out.square().sum(), leaves)
        assert grads[0].shape == given.shape
        results.append(
            [x.transpose(1, 2).flatten(2, 3) if x.shape == by_head.shape else x]
            for x in (out, *grads)
        )
    for (a,), (b,) in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("settings", [PATCHES, PATCHES._replace(heads_last=False)])
def test_opcheck_with_heads_among_the_channels(settings: PatchSettings, device: str) -> None:
    leaves = tuple(x.to(device).requires_grad_() for x in inputs())
    torch.library.opcheck(torch.ops.stnls.patch_sum.default, (*leaves, *settings))


def test_second_derivatives_with_heads_among_the_channels() -> None:
    video, weights, inds = (x.double().requires_grad_() for x in inputs())
    total = stnls.agg.WeightedPatchSum(3, 1)
    assert torch.autograd.gradgradcheck(
        lambda v: total(v, weights.detach(), inds.detach()), (video,)
    )
