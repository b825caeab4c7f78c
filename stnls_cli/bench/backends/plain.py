"""The reference in plain PyTorch, timed on a part of the frame."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from stnls_cli.bench import reference
from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session, Tensors
from stnls_cli.bench.calls import Run, attention_scale, bound
from stnls_cli.bench.problem import Problem
from stnls_cli.bench.reference import Block, split_heads
from stnls_cli.bench.timer import measure
from stnls_cli.bench.work import QUICK, part_of

READS = {"cpu": 2e7, "cuda": 4e9}
"""Pixels that are read in one call: so many that what it takes to begin is little."""
GRADIENT_READS = {"cpu": 5e6, "cuda": 5e8}
"""With gradients, what is read stays in memory."""
RUNS = 3


class Plain(Backend):
    """What one would write without kernels: gathers of every tap of every candidate."""

    name = "reference"

    def available(self, session: Session) -> None:
        """Always."""
        return

    def covers(self, case: Case) -> bool:
        """Every problem."""
        return True

    def run(self, case: Case, session: Session) -> Outcome:
        """Times a part, of which there are `scale` in the problem."""
        limits = GRADIENT_READS if case.problem.gradients != "none" else READS
        reads = limits[session.device.type] * (QUICK if session.quick else 1)
        problem, inputs, scale = part_of(case.problem, case.inputs, reads)
        # Its result for a choice of entries has gradients; the choice is part of the call.
        call = bound(problem, _operator(problem), inputs)
        runs = 1 if session.quick else min(RUNS, session.plan.repeat)
        size = f"{problem.height}x{problem.width}"
        note = (
            ""
            if scale == 1
            else f"timed on {size} pixels, times {scale:.{2 if scale < 10 else 0}f}"
        )
        timing, _ = measure(call, session.device, replace(session.plan, repeat=runs))
        return Outcome(timing, scale, note=note)


def _operator(p: Problem) -> Run:
    rows, columns = p.query_grid
    block = Block(range(rows), range(columns))

    def search(query: Tensor, key: Tensor, flows: Tensor) -> Tensors:
        if p.paired:
            query, key, flows = query[:, None], key[:, None], flows[:, None, None]
        query, key = (split_heads(x, p.heads) for x in (query, key))
        return reference.search(p, query, key, flows[0], block)

    def patch_sum(video: Tensor, weights: Tensor, inds: Tensor) -> Tensors:
        image = split_heads(video, p.heads)
        return (reference.patch_sum(p, image, weights[0], inds[0], block),)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensors:
        q, k, v = (split_heads(x, p.heads) for x in (q, k, v))
        return (reference.attention(p, q, k, v, attention_scale(p), block),)

    if p.operator == "WeightedPatchSum":
        return patch_sum
    return attention if p.operator == "NeighbourhoodAttention" else search
