"""What a problem costs by its definition: operations, and bytes that must be read and written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from stnls_cli.bench.calls import leaves, operator
from stnls_cli.bench.problem import Problem


@dataclass(frozen=True)
class Cost:
    """`flops`: every tap of every candidate counts, whatever work the kernels share. Bytes are
    those of the call's arguments, and of its results and gradients."""

    flops: int
    input_bytes: int
    output_bytes: int

    @property
    def bytes(self) -> int:
        """What has to be moved at least."""
        return self.input_bytes + self.output_bytes


SIDE = 8
"""Rows and columns of the queries to count on."""


def cost_of(problem: Problem, dtype: torch.dtype) -> Cost:
    """Counted by PyTorch on the call itself, for frames of a few queries; operations and results
    grow in proportion to them."""
    from torch.utils.flop_counter import FlopCounterMode

    side = SIDE * problem.stride0
    small = replace(problem, height=side, width=side)
    wanted = leaves(problem)
    inputs = [
        torch.zeros(shape, dtype=kind).requires_grad_(number in wanted)
        for number, (shape, kind) in enumerate(_inputs(small, dtype))
    ]
    call = operator(small)  # loads the library, and with it what its operators cost
    with FlopCounterMode(display=False) as counter:
        results = call(*inputs)
        if wanted:
            results[0].backward(torch.zeros_like(results[0]))
    queries = math.prod(problem.query_grid)
    flops, *written = (
        n * queries // SIDE**2 for n in (counter.get_total_flops(), *(x.nbytes for x in results))
    )
    read = [math.prod(shape) * kind.itemsize for shape, kind in _inputs(problem, dtype)]
    if wanted:
        # The gradient that arrives, and those of the inputs.
        read, written = [*read, written[0]], [*written, *(read[n] for n in wanted)]
    return Cost(flops, sum(read), sum(written))


def _inputs(p: Problem, dtype: torch.dtype) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and types of the inputs, in the order of the call."""
    size = p.height, p.width
    video = (1, p.frames, p.channels, *size)
    real = torch.float32
    if p.operator == "NeighbourhoodAttention":
        return [(video, dtype)] * 3
    if p.operator == "PairedSearch":
        frame = (1, p.channels, *size)
        return [(frame, dtype), (frame, dtype), ((1, 2, *p.query_grid), real)]
    if p.operator == "NonLocalSearch":
        flows = (1, p.frames, p.flow_slots, 2, *p.query_grid)
        return [(video, dtype), (video, dtype), (flows, real)]
    weights = (1, p.heads, p.frames, *size, p.entries)
    offsets = real if p.grid == "float" else torch.int32
    return [(video, dtype), (weights, real), ((*weights, 3), offsets)]
