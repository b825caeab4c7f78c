"""Is what was timed right? Two blocks of the result of that call beside the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stnls_cli.bench import reference
from stnls_cli.bench.calls import Run, arriving_gradient, attention_scale, leaves
from stnls_cli.bench.problem import Problem
from stnls_cli.bench.reference import Block, split_heads
from stnls_cli.bench.work import QUICK, SMALLEST, reads_of_query

Tensors = tuple[Tensor, ...]

READS = {"cpu": 1e7, "cuda": 4e9}
"""Pixels that the reference may read for a block."""


def mismatch(
    problem: Problem, run: Run, inputs: Tensors, results: Tensors, *, quick: bool = False
) -> str | None:
    """What differs from the reference by more than rounding, or None.

    `results` are those of the call that was timed; `run` is asked once more for gradients.
    `quick`: smaller blocks.
    """
    blocks = _blocks(problem, READS[inputs[0].device.type] * (QUICK if quick else 1))
    for block in blocks:
        found = _of_block(problem, inputs, results, block)
        if found is not None:
            return f"{found} at rows {block.rows.start}.., columns {block.columns.start}.."
    if leaves(problem):
        return _of_gradients(problem, run, inputs, blocks[1])
    return None


def _blocks(problem: Problem, reads: float) -> list[Block]:
    """One at the first corner, where borders matter, and one in the middle."""
    fit = math.isqrt(int(reads / reads_of_query(problem)))
    side = max(SMALLEST, min(fit, 32))
    rows, columns = problem.query_grid
    height, width = min(side, rows), min(side, columns)
    top, left = (rows - height) // 2, (columns - width) // 2
    middle = Block(range(top, top + height), range(left, left + width))
    return [Block(range(height), range(width)), middle]


def _of_block(p: Problem, inputs: Tensors, results: Tensors, block: Block) -> str | None:
    if p.operator == "NeighbourhoodAttention":
        q, k, v = (split_heads(x.double(), p.heads) for x in inputs)
        expected = reference.attention(p, q, k, v, attention_scale(p), block)
        return _compare("output", _of_video(p, results[0], block), expected, _tolerance(results[0]))
    if p.operator == "WeightedPatchSum":
        video, weights, inds = inputs
        image = split_heads(video.double(), p.heads)
        expected = reference.patch_sum(p, image, weights[0], inds[0], block)
        return _compare("output", _of_video(p, results[0], block), expected, _tolerance(results[0]))
    query, key, flows, dists, inds = as_video(p, inputs, results)
    rounding = _rounding(p, query, key)
    expected, _ = reference.search(p, query, key, flows, block)
    dists, inds = block.of(dists, 2), block.of(inds, 2)
    found = _compare("distances", dists, expected, 1e-5, rounding)
    if found is None:
        at = reference.distances_at(p, query, key, inds, block)
        at = torch.where(torch.isfinite(dists), at, math.inf)
        found = _compare("distances at the offsets", dists, at, 1e-5, rounding)
    return found


def _tolerance(result: Tensor) -> float:
    """Results in half precision are rounded to it."""
    return max(1e-4, 2 * torch.finfo(result.dtype).eps)


def _of_video(p: Problem, video: Tensor, block: Block) -> Tensor:
    return block.of(split_heads(video, p.heads), 3)


def as_video(p: Problem, inputs: Tensors, results: Tensors) -> Tensors:
    """Query, key (HD, T, c, H, W) in float64, flow (T, S, 2, nH, nW); dists and inds without B."""
    query, key, flows = inputs
    dists, inds = results[:2]
    if p.paired:
        query, key, flows = query[:, None], key[:, None], flows[:, None, None]
        dists, inds = dists[:, :, None], torch.nn.functional.pad(inds[:, :, None], (1, 0))
    query, key = (split_heads(x.double(), p.heads) for x in (query, key))
    return query, key, flows[0], dists[0], inds[0]


def _rounding(p: Problem, query: Tensor, key: Tensor) -> float:
    """What rounding of float32 may change in a distance: a share of the largest that there can be,
    for kernels compute distances between pixels from those at the pixels around them."""
    span = max(float(x.max()) for x in (query, key)) - min(float(x.min()) for x in (query, key))
    terms = p.ps**2 * query.shape[2]
    return terms * span**2 * (1e-6 if p.grid == "float" else 1e-7)


def _compare(
    what: str, got: Tensor, expected: Tensor, relative: float, absolute: float | None = None
) -> str | None:
    got, expected = got.detach().double(), expected.detach().double()
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(got)):
        return f"{what}: finite in other places"
    if not bool(finite.any()):
        return None
    if absolute is None:
        absolute = relative * float(expected[finite].abs().max())
    allowed = absolute + relative * expected.abs()
    difference = (got - expected).abs()
    worst = torch.where(finite, difference - allowed, -math.inf).argmax()
    if bool(difference.flatten()[worst] <= allowed.flatten()[worst]):
        return None
    values = got.flatten()[worst], expected.flatten()[worst]
    return f"{what}: {float(values[0]):.6g} in place of {float(values[1]):.6g}"


def _of_gradients(p: Problem, run: Run, inputs: Tensors, block: Block) -> str | None:
    """Gradients of everything that gets one, when they arrive at the entries of a block alone."""
    wanted = leaves(p)
    given = [x.requires_grad_(n in wanted) for n, x in enumerate(x.detach() for x in inputs)]
    results = run(*given)
    whole = arriving_gradient(results[0])
    rows = 3 if p.operator == "WeightedPatchSum" else 2 + (not p.paired)
    arriving = torch.zeros_like(whole)
    block.of(arriving, rows).copy_(block.of(whole, rows))
    got = torch.autograd.grad(results[0], [given[n] for n in wanted], arriving)

    doubles = [x.detach().double().requires_grad_(n in wanted) for n, x in enumerate(inputs)]
    if p.operator == "WeightedPatchSum":
        video = split_heads(doubles[0], p.heads)
        output = reference.patch_sum(p, video, doubles[1][0], doubles[2][0], block)
        above = block.of(split_heads(whole, p.heads), 3)
    else:
        query, key, flows, _, inds = as_video(p, tuple(doubles), results)
        inds = block.of(inds.detach(), 2)
        if 2 in wanted:
            inds = reference.anchored(p, inds, flows, block)
        output = reference.distances_at(p, query, key, inds, block)
        above = block.of((whole[:, :, None] if p.paired else whole)[0], 2)
    expected = torch.autograd.grad(output, [doubles[n] for n in wanted], above.double())
    for number, ours, theirs in zip(wanted, got, expected, strict=True):
        tolerance = max(1e-3, _tolerance(ours))
        found = _compare(f"gradient of input {number + 1}", ours, theirs, tolerance)
        if found is not None:
            return found
    return None
