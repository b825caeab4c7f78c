"""Flow to every frame of the temporal window, composed from the flow between neighbours."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from stnls import _checks, _ops, _precision


def search_flow(fflow: Tensor, bflow: Tensor, wt: int, stride0: int = 1) -> Tensor:
    r"""Composes neighbouring flows into the flow of every temporal slot of a search.

    From a query at :math:`p_0` the path steps :math:`p_{n+1} = p_n + f_n(p_n)`, through ``fflow``
    for the frames after the query's own and through ``bflow`` for those before it; flow is read
    bilinearly, mirrored at the border. The result is :math:`p_n - p_0`; it may point outside the
    frame.

    Args:
        fflow: (B, T, 2, H, W), channel 0 = dx, 1 = dy in pixels; ``fflow[:, t]`` leads from frame t
            to t + 1 on the grid of frame t. The last frame's is not read. float32 or float64;
            float16 and bfloat16 are taken as float32.
        bflow: the same shape; ``bflow[:, t]`` leads from frame t to t - 1. The first is not read.
        wt: frames before and after the query's own (≥ 0).
        stride0: pixels between queries.

    Returns:
        (B, T, min(2 wt + 1, T) - 1, 2, nH, nW), slots 1, 2, … of `NonLocalSearch` (slot 0 is the
        query's own frame), nH = (H - 1) // stride0 + 1; differentiable with respect to both flows.
        NaN where the path meets a flow that is not finite.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _checks.positive_int("wt", wt, minimum=0)
    _checks.positive_int("stride0", stride0)
    fflow = _checks.flow("fflow", fflow, "(B, T, 2, H, W)")
    bflow = _checks.flow("bflow", bflow, "(B, T, 2, H, W)")
    _checks.same_place("fflow", fflow, "bflow", bflow)
    fflow, bflow = _precision.unified(fflow, bflow)
    _checks.same_dtype("fflow", fflow, "bflow", bflow)
    _checks.same("shape", "fflow", tuple(fflow.shape), "bflow", tuple(bflow.shape))
    slots = max(0, min(2 * wt + 1, fflow.shape[1]) - 1)
    fflow, bflow = _precision.widened(fflow), _precision.widened(bflow)
    _checks.no_tangents(fflow, bflow)
    return cast(Tensor, _ops.compose_slots(fflow, bflow, wt, slots, stride0))


def compose_flow(steps: Tensor, *, stride0: int = 1) -> Tensor:
    r"""Composes flows along a path of frames: the offsets after one step, two steps, and so on.

    The rule is that of `search_flow`; with forward flows of frames t, t + 1, … the result leads
    from frame t to t + 1, t + 2, …; with backward flows of frames t, t - 1, … to t - 1, t - 2, ….

    Args:
        steps: (B, N, 2, H, W), channel 0 = dx, 1 = dy in pixels; ``steps[:, n]`` leads from the
            n-th frame of the path to the next, on the grid of the n-th. float32 or float64; float16
            and bfloat16 are taken as float32.
        stride0: pixels between queries.

    Returns:
        (B, N, 2, nH, nW): ``[:, n]`` leads from the first frame to the (n + 1)-th after it;
        differentiable with respect to the steps.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _checks.positive_int("stride0", stride0)
    steps = _precision.widened(_checks.flow("steps", steps, "(B, N, 2, H, W)"))
    _checks.no_tangents(steps)
    return cast(Tensor, _ops.compose_chain(steps, stride0))
