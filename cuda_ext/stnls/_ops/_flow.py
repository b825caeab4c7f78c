"""Composition of flow, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stnls import _native
from stnls._ops import _reproducible
from stnls._ops._registry import DTYPES, define, nothing, pointer, run
from stnls._positions import grid_shape


def _slots_output(fflow: Tensor, slots: int, stride0: int) -> Tensor:
    grid = grid_shape(fflow.shape[-2:], stride0)
    return fflow.new_empty((*fflow.shape[:2], slots, 2, *grid))


def _describe_slots(
    f: _native.FlowProblem,
    fflow: Tensor,
    bflow: Tensor,
    out: Tensor,
    wt: int,
    slots: int,
    stride0: int,
) -> None:
    f.forward, f.backward, f.out = fflow.data_ptr(), bflow.data_ptr(), out.data_ptr()
    f.batch, f.frames, _, f.height, f.width = fflow.shape
    f.grid_height, f.grid_width = out.shape[-2:]
    f.wt, f.slots, f.stride0, f.dtype = wt, slots, stride0, DTYPES[fflow.dtype]


def _slots(fflow: Tensor, bflow: Tensor, wt: int, slots: int, stride0: int) -> Tensor:
    fflow, bflow = fflow.contiguous(), bflow.contiguous()
    out = _slots_output(fflow, slots, stride0)
    if out.numel() > 0:
        f = _native.FlowProblem()
        _describe_slots(f, fflow, bflow, out, wt, slots, stride0)
        run("compose_slots", f, out.device)
    return out


def _slots_fake(fflow: Tensor, bflow: Tensor, wt: int, slots: int, stride0: int) -> Tensor:
    return _slots_output(fflow, slots, stride0)


def _slots_gradient(
    grad_out: Tensor,
    fflow: Tensor,
    bflow: Tensor,
    out: Tensor,
    wt: int,
    stride0: int,
    of_fflow: bool,
    of_bflow: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    fflow, bflow = fflow.contiguous(), bflow.contiguous()
    grad_out, out = grad_out.contiguous(), out.contiguous()
    grads = [torch.zeros_like(fflow) if wanted else None for wanted in (of_fflow, of_bflow)]
    result = [nothing(fflow) if grad is None else grad for grad in grads]
    if out.numel() == 0:
        return result[0], result[1]
    g = _native.FlowGradProblem()
    _describe_slots(g.flow, fflow, bflow, out, wt, out.shape[2], stride0)
    g.grad_out = grad_out.data_ptr()
    g.grad_forward, g.grad_backward = pointer(grads[0]), pointer(grads[1])
    if not deterministic:
        run("compose_slots_gradient", g, out.device)
        return result[0], result[1]
    scale = _scale(grad_out, (fflow, bflow), grad_out.shape[2])
    fixed = [None if v is None else torch.zeros_like(v, dtype=torch.int64) for v in grads]
    g.fixed_forward, g.fixed_backward = pointer(fixed[0]), pointer(fixed[1])
    g.fixed_scale = scale.data_ptr()
    run("compose_slots_gradient", g, out.device)
    done = [
        grad if sums is None else _reproducible.finish(sums, scale, grad)
        for sums, grad in zip(fixed, result, strict=True)
    ]
    return done[0], done[1]


def _scale(grad_out: Tensor, flows: tuple[Tensor, ...], steps: int) -> Tensor:
    """Unit of reproducible sums. A step multiplies the adjoint by at most 1 + 2 times the largest
    slope (both components change along an axis), then adds the gradient of one more point."""
    slopes = [_reproducible.largest(flow.diff(dim=axis)) for flow in flows for axis in (-1, -2)]
    growth = 1 + 2 * torch.stack(slopes).amax()
    bound = _reproducible.largest(grad_out) * steps * growth ** max(steps - 1, 0)
    return _reproducible.scale_for(bound, grad_out.numel())


def _slots_gradient_fake(
    grad_out: Tensor,
    fflow: Tensor,
    bflow: Tensor,
    out: Tensor,
    wt: int,
    stride0: int,
    of_fflow: bool,
    of_bflow: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    return (
        fflow.new_empty(fflow.shape) if of_fflow else nothing(fflow),
        bflow.new_empty(bflow.shape) if of_bflow else nothing(fflow),
    )


slots_gradient = define(
    "compose_slots_gradient",
    "Tensor grad_out, Tensor fflow, Tensor bflow, Tensor out, int wt, int stride0, "
    "bool of_fflow, bool of_bflow, bool deterministic",
    "(Tensor, Tensor)",
    _slots_gradient,
    _slots_gradient_fake,
)


def _slots_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    fflow, bflow, ctx.wt, _, ctx.stride0 = inputs
    ctx.save_for_backward(fflow, bflow, output)


def _slots_backward(ctx: Any, grad_out: Tensor) -> Any:
    fflow, bflow, out = ctx.saved_tensors
    needed = ctx.needs_input_grad[:2]
    deterministic = _reproducible.wanted(out.device)
    grads = slots_gradient(grad_out, fflow, bflow, out, ctx.wt, ctx.stride0, *needed, deterministic)
    return *(g if n else None for g, n in zip(grads, needed, strict=True)), None, None, None


compose_slots = define(
    "compose_slots",
    "Tensor fflow, Tensor bflow, int wt, int slots, int stride0",
    "Tensor",
    _slots,
    _slots_fake,
    backward=_slots_backward,
    setup_context=_slots_context,
)


def _chain_output(steps: Tensor, stride0: int) -> Tensor:
    return steps.new_empty((*steps.shape[:3], *grid_shape(steps.shape[-2:], stride0)))


def _describe_chain(f: _native.ChainProblem, steps: Tensor, out: Tensor, stride0: int) -> None:
    f.steps, f.out = steps.data_ptr(), out.data_ptr()
    f.batch, f.frames, _, f.height, f.width = steps.shape
    f.grid_height, f.grid_width = out.shape[-2:]
    f.stride0, f.dtype = stride0, DTYPES[steps.dtype]


def _chain(steps: Tensor, stride0: int) -> Tensor:
    steps = steps.contiguous()
    out = _chain_output(steps, stride0)
    if out.numel() > 0:
        f = _native.ChainProblem()
        _describe_chain(f, steps, out, stride0)
        run("compose_chain", f, out.device)
    return out


def _chain_fake(steps: Tensor, stride0: int) -> Tensor:
    return _chain_output(steps, stride0)


def _chain_gradient(
    grad_out: Tensor, steps: Tensor, out: Tensor, stride0: int, deterministic: bool
) -> Tensor:
    steps, grad_out, out = steps.contiguous(), grad_out.contiguous(), out.contiguous()
    grad = torch.zeros_like(steps)
    if out.numel() == 0:
        return grad
    g = _native.ChainGradProblem()
    _describe_chain(g.chain, steps, out, stride0)
    g.grad_out, g.grad_steps = grad_out.data_ptr(), grad.data_ptr()
    if not deterministic:
        run("compose_chain_gradient", g, out.device)
        return grad
    scale = _scale(grad_out, (steps,), steps.shape[1])
    fixed = torch.zeros_like(grad, dtype=torch.int64)
    g.fixed_steps, g.fixed_scale = fixed.data_ptr(), scale.data_ptr()
    run("compose_chain_gradient", g, out.device)
    return _reproducible.finish(fixed, scale, grad)


def _chain_gradient_fake(
    grad_out: Tensor, steps: Tensor, out: Tensor, stride0: int, deterministic: bool
) -> Tensor:
    return steps.new_empty(steps.shape)


chain_gradient = define(
    "compose_chain_gradient",
    "Tensor grad_out, Tensor steps, Tensor out, int stride0, bool deterministic",
    "Tensor",
    _chain_gradient,
    _chain_gradient_fake,
)


def _chain_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    steps, ctx.stride0 = inputs
    ctx.save_for_backward(steps, output)


def _chain_backward(ctx: Any, grad_out: Tensor) -> Any:
    steps, out = ctx.saved_tensors
    deterministic = _reproducible.wanted(out.device)
    return chain_gradient(grad_out, steps, out, ctx.stride0, deterministic), None


compose_chain = define(
    "compose_chain",
    "Tensor steps, int stride0",
    "Tensor",
    _chain,
    _chain_fake,
    backward=_chain_backward,
    setup_context=_chain_context,
)
