"""Gradients of a random weighted sum of an operator's outputs, by the library and by the reference.

The weights are infinite distances' too: those must not receive any gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Derived:
    """Outputs of an operator, the weights of the real ones, and the gradients of the inputs."""

    outputs: list[Tensor]
    weights: list[Tensor]
    grads: list[Tensor | None]


def loss_weights(outputs: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Weights of the real outputs; not contiguous, as gradients often are."""
    generator = torch.Generator().manual_seed(seed)
    weights = []
    for out in outputs:
        noise = torch.randn(out.shape, generator=generator, dtype=torch.float64)
        if out.is_floating_point():
            weights.append(noise.mT.contiguous().mT.to(out))
    return weights


def leaves(inputs: Sequence[Tensor], device: str = "cpu") -> list[Tensor]:
    """The inputs on a device; those that can have a gradient ask for one."""
    there = [x.detach().to(device) for x in inputs]
    return [x.requires_grad_() if x.is_floating_point() else x for x in there]


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Tensor | None]:
    """Of the weighted sum of the outputs that have gradients, for every input."""
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=False) if y.requires_grad]
    wanted = [x for x in inputs if x.requires_grad]
    grads = iter(
        torch.autograd.grad(
            *([y for y, _ in pairs], wanted, [w.to(y.dtype) for y, w in pairs]), allow_unused=True
        )
    )
    return [next(grads) if x.requires_grad else None for x in inputs]


def derive(case: Any, device: str = "cpu", seed: int = 0) -> Derived:
    """Runs the operator of a case forward and backward; everything comes back to the CPU."""
    inputs = leaves(case.inputs(), device)
    outputs = list(case.operator()(*inputs))
    weights = loss_weights(outputs, seed)
    grads = gradients(outputs, inputs, weights)
    return Derived(
        [out.detach().cpu() for out in outputs],
        [w.cpu() for w in weights],
        [None if g is None else g.cpu() for g in grads],
    )


def expected(case: Any, derived: Derived) -> list[Tensor | None]:
    """The gradients by the reference, at the entries that the library found."""
    inputs = leaves(case.inputs())
    outputs = list(case.entries(inputs, derived.outputs))
    return gradients(outputs, inputs, derived.weights)


def assert_gradients(
    case: Any, derived: Derived, by_other: Sequence[Tensor | None], scale: float = 1.0
) -> None:
    """Both sides agree within rounding; no gradient is the same as zero."""
    sizes = case.slope_sizes(derived.weights)
    for number, (x, found, other) in enumerate(
        zip(case.inputs(), derived.grads, by_other, strict=True)
    ):
        if found is None and other is None:
            continue
        zero = torch.zeros_like(x, device="cpu")
        found, other = (zero if g is None else g for g in (found, other))
        assert found.shape == x.shape
        assert found.dtype == x.dtype
        computed = derived.outputs[0].dtype
        unit = 5e-6 if torch.float32 in (computed, x.dtype) else 1e-13
        most = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(
            *(found.double(), other.double()),
            rtol=10 * unit,
            atol=scale * unit * (sizes[number] + most),
            msg=lambda text, n=number: f"gradient of input {n}: {text}",
        )
