"""What the machine can do at most, measured with PyTorch's own copy and matrix product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from stnls_cli.bench.timer import timed


@dataclass(frozen=True)
class Ceilings:
    """Bytes read and written in a second by a copy, and float32 operations of a product."""

    copy_bytes: float
    fma_flops: float


def measure_ceilings(device: torch.device, quick: bool = False) -> Ceilings:
    """The best of several runs each."""
    cuda = device.type == "cuda"
    numbers = 2**22 if quick else (2**28 if cuda else 2**26)
    source = torch.rand(numbers, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device, quick)
    side = 512 if quick else (8192 if cuda else 2048)
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    out = torch.empty_like(a)
    with _full_float32():
        product = _best(lambda: torch.mm(a, b, out=out), device, quick)
    return Ceilings(2 * 4 * numbers / copy, 2 * side**3 / product)


def _best(call: Callable[[], object], device: torch.device, quick: bool) -> float:
    """Seconds of the fastest run."""
    return min(timed(call, device)[0] for _ in range(3 if quick else 10)) / 1e3


@contextmanager
def _full_float32() -> Iterator[None]:
    """Without the shortened float32 (TF32) of tensor cores."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
