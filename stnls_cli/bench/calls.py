"""The library's call for a problem, and the backward pass after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stnls_cli.bench.problem import Problem

Tensors = tuple[Tensor, ...]
Run = Callable[..., Tensors]


def search_before(problem: Problem) -> Problem:
    """The search whose result a patch sum takes."""
    ps = problem.search_ps or problem.ps
    return replace(problem, operator="NonLocalSearch", ps=ps, search_ps=0, gradients="none")


def operator(problem: Problem) -> Run:
    """The library's operator as a function of the inputs."""
    import stnls

    if problem.operator == "WeightedPatchSum":
        patch_sum = stnls.agg.WeightedPatchSum(problem.ps, 1, itype=problem.grid)
        return lambda video, weights, inds: (patch_sum(video, weights, inds),)
    if problem.operator == "NeighbourhoodAttention":
        return _attention(problem)
    kind = stnls.search.PairedSearch if problem.paired else stnls.search.NonLocalSearch
    search: Run = kind(**problem.search_options())
    return search


def attention_scale(problem: Problem) -> float:
    """What products are multiplied by before the softmax."""
    return 1 / math.sqrt(problem.channels // problem.heads)


def _attention(problem: Problem) -> Run:
    import stnls

    search = stnls.search.NonLocalSearch(**problem.search_options())
    patch_sum = stnls.agg.WeightedPatchSum(1, 1, itype=problem.grid)
    scale = attention_scale(problem)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensors:
        products, inds = search(q, k)
        return (patch_sum(v, torch.softmax(scale * products, -1), inds),)

    return attend


def leaves(problem: Problem) -> tuple[int, ...]:
    """Which of the inputs get a gradient."""
    if problem.gradients == "none":
        return ()
    return (0, 1, 2) if problem.gradients == "all" else (0, 1)


def bound(problem: Problem, run: Run, inputs: Tensors) -> Callable[[], Tensors]:
    """The call without arguments: results, and gradients where the problem has them.

    What arrives from above is one tensor for the first result, made here, once.
    """
    wanted = leaves(problem)
    if not wanted:
        return lambda: run(*inputs)
    given = tuple(
        x.detach().requires_grad_() if number in wanted else x.detach()
        for number, x in enumerate(inputs)
    )
    arriving = arriving_gradient(run(*given)[0])

    def both_ways() -> Tensors:
        results = run(*given)
        gradients = torch.autograd.grad(results[0], [given[n] for n in wanted], arriving)
        return (*results, *gradients)

    return both_ways


def arriving_gradient(result: Tensor) -> Tensor:
    """A gradient of the result, the same on every device."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(result.shape, generator=generator).to(result.device, result.dtype)
