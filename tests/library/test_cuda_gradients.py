"""CUDA against the CPU, forward and backward; reproducible gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stnls
import torch
from cases import FLOWS, Pick, draw_composition, seeded
from cases_aggregation import PatchSumCase, draw_aggregation
from cases_refine import draw_paired_refine, draw_refine
from cases_search import SearchCase, as_video, draw_gradient, draw_paired, draw_search
from compare import assert_search
from gradients import Derived, assert_gradients, derive, expected
from torch import Tensor

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
CHUNK = 20


def searches(draw: Callable[..., SearchCase]) -> Callable[[Pick], Any]:
    return lambda pick: draw_gradient(pick, draw)


DRAWS: dict[str, tuple[Callable[[Pick], Any], int]] = {
    "search": (searches(draw_search), 300),
    "paired search": (searches(draw_paired), 160),
    "refine": (searches(draw_refine), 200),
    "paired refine": (searches(draw_paired_refine), 120),
    "aggregation": (draw_aggregation, 300),
    "composition": (draw_composition, 160),
}
CHUNKS = [
    pytest.param(draw, range(first, first + CHUNK), id=f"{name} {first}")
    for name, (draw, count) in DRAWS.items()
    for first in range(0, count, CHUNK)
]


ORDER = 4.0
"""Of the tolerance on the CPU: atomic additions come in any order."""


def check(case: Any, seed: int) -> None:
    on_cpu, found = derive(case, "cpu", seed), derive(case, DEVICE, seed)
    for a, b in zip(found.outputs, on_cpu.outputs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    if isinstance(case, SearchCase) and not torch.equal(found.outputs[1], on_cpu.outputs[1]):
        # Near ties in another order: right by the table, and differentiated where they are.
        check_by_reference(case, found)
    else:
        check_outputs(case, found.outputs, on_cpu.outputs)
        assert_gradients(case, found, on_cpu.grads, ORDER)


def check_by_reference(case: SearchCase, found: Derived) -> None:
    assert not case.exact, "distances that are exact leave no choice"
    dists, inds = found.outputs
    options = getattr(case, "reference_options", case.options)
    outputs = (dists, inds) if dists.ndim == 6 else as_video((dists, inds))
    assert_search(options, case.table(), outputs, direct=True)
    assert_gradients(case, found, expected(case, found), ORDER)


def check_outputs(case: Any, found: list[Tensor], on_cpu: list[Tensor]) -> None:
    exact = isinstance(case, SearchCase) and case.exact
    for a, b in zip(found, on_cpu, strict=True):
        unit = 0.0 if exact else 1e-5 if a.dtype == torch.float32 else 1e-12
        sizes = [float(x.abs().max()) for x in case.inputs()[:2] if x.numel()]
        size = case.size() if isinstance(case, PatchSumCase) else max([1.0, *sizes]) ** 2
        torch.testing.assert_close(a, b, rtol=unit, atol=unit * size, equal_nan=True)


@pytest.mark.parametrize(("draw", "seeds"), CHUNKS)
def test_forward_and_backward_are_those_of_the_cpu(
    draw: Callable[[Pick], Any], seeds: range
) -> None:
    for seed in seeds:
        case = draw(seeded(seed))
        try:
            check(case, seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {case}\n{error}") from error


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


# Where sums are taken as integers, far flow leaves few digits for what is small.
NEAR = tuple(kind for kind in FLOWS if kind not in ("large", "far"))
REPRODUCIBLE: dict[str, Callable[[Pick], Any]] = {
    **{name: draw for name, (draw, _) in DRAWS.items()},
    "composition": lambda pick: draw_composition(pick, kinds=NEAR),
}


@pytest.mark.parametrize("first", range(1000, 1060, CHUNK))
@pytest.mark.parametrize("draw", REPRODUCIBLE.values(), ids=REPRODUCIBLE)
def test_reproducible_gradients(
    draw: Callable[[Pick], Any], first: int, deterministic: None
) -> None:
    for seed in range(first, first + CHUNK):
        case = draw(seeded(seed))
        runs = [derive(case, DEVICE, seed) for _ in range(2)]
        for a, b in zip(*(run.outputs + run.grads for run in runs), strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a.nan_to_num(), b.nan_to_num()), f"seed {seed}"
        # Terms are rounded to a unit that leaves room for the largest possible sum.
        scale = 1e4 if all(x.dtype != torch.float32 for x in case.inputs()) else 1.0
        on_cpu = derive(case, "cpu", seed)
        places = zip(runs[0].outputs[1:], on_cpu.outputs[1:], strict=True)
        same = all(torch.equal(a, b) for a, b in places)
        by_other = on_cpu.grads if same else expected(case, runs[0])
        assert_gradients(case, runs[0], by_other, scale)


def test_a_large_gradient_has_the_same_bits_in_every_run(deterministic: None) -> None:
    generator = torch.Generator().manual_seed(0)
    videos = [torch.randn(1, 3, 8, 96, 128, generator=generator) for _ in range(2)]
    flows = 3 * torch.randn(2, 1, 3, 2, 96, 128, generator=generator)
    search = stnls.search.NonLocalSearch(5, 1, 3, 6, nheads=2, stride1=0.5)
    operator = stnls.agg.WeightedPatchSum(3, 1)

    def grads() -> list[Tensor]:
        leaves = [x.to(DEVICE).requires_grad_() for x in (*videos, flows[0], flows[1])]
        dists, inds = search(*leaves)
        out = operator(leaves[1], torch.softmax(-dists, -1), inds)
        return list(torch.autograd.grad(out.square().sum(), leaves))

    first = grads()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, grads(), strict=True))
