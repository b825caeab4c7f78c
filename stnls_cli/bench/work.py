"""How much the reference has to read, and problems cut down until it is little."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from stnls_cli.bench.problem import Problem

Tensors = tuple[Tensor, ...]

SMALLEST = 4
"""Rows and columns of a part of a frame."""
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
    side = max(SMALLEST, problem.ws, math.isqrt(int(reads / reads_of_query(problem))))
    height, width = min(side, problem.height), min(side, problem.width)
    factor = problem.height * problem.width / (height * width)
    if problem.operator == "WeightedPatchSum":
        video, weights, inds = inputs
        part = (
            video[..., :height, :width].contiguous(),
            weights[..., :height, :width, :].contiguous(),
            inds[..., :height, :width, :, :].contiguous(),
        )
    else:
        part = tuple(x[..., :height, :width].contiguous() for x in inputs)  # type: ignore[assignment]
    return replace(problem, height=height, width=width), part, factor
