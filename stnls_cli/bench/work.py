"""How much the reference has to read, and problems cut down until it is little."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from stnls_cli.bench.problem import Problem

Tensors = tuple[Tensor, ...]

SMALLEST = 4
"""Rows and columns of queries in a part of a frame."""
QUICK = 0.005
"""Share of the reads that is enough to see that all works."""


def reads_of_query(p: Problem) -> int:
    """Pixels that the reference reads for one query of every frame."""
    corners = 4 if p.grid == "float" else 1
    taps = p.ps**2 * p.channels * corners * p.frames
    return taps * (p.entries if p.operator == "WeightedPatchSum" else p.candidates)


def part_of(problem: Problem, inputs: Tensors, reads: float) -> tuple[Problem, Tensors, float]:
    """The first rows and columns, about so many reads; and how many times larger the whole is."""
    # A window larger than the frame would have positions outside.
    fewest = max(SMALLEST, -(-problem.ws // problem.stride0))
    side = max(fewest, math.isqrt(int(reads / reads_of_query(problem))))
    rows, columns = (min(side, n) for n in problem.query_grid)
    height = min(rows * problem.stride0, problem.height)
    width = min(columns * problem.stride0, problem.width)
    factor = math.prod(problem.query_grid) / (rows * columns)
    if problem.operator == "WeightedPatchSum":
        video, weights, inds = inputs
        part = (
            video[..., :height, :width].contiguous(),
            weights[..., :height, :width, :].contiguous(),
            inds[..., :height, :width, :, :].contiguous(),
        )
    else:
        # The flow has the size of the query grid; so has the third video of attention.
        query, key, third = inputs
        part = (
            query[..., :height, :width].contiguous(),
            key[..., :height, :width].contiguous(),
            third[..., :rows, :columns].contiguous(),
        )
    return replace(problem, height=height, width=width), part, factor
