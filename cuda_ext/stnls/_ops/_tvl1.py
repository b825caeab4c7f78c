"""One scale of TV-L1 optical flow."""

from __future__ import annotations

from torch import Tensor

from stnls import _native
from stnls._ops._registry import define, no_gradient, run


def _tvl1(
    frame0: Tensor,
    frame1: Tensor,
    start: Tensor,
    tau: float,
    lambda_: float,
    theta: float,
    epsilon: float,
    warps: int,
    outer: int,
    inner: int,
    median: int,
) -> Tensor:
    frame0, frame1, start = frame0.contiguous(), frame1.contiguous(), start.contiguous()
    flow = start.new_empty(start.shape)
    if flow.numel() > 0:
        f = _native.Tvl1Problem()
        f.frame0, f.frame1 = frame0.data_ptr(), frame1.data_ptr()
        f.start, f.flow = start.data_ptr(), flow.data_ptr()
        f.batch, f.height, f.width = frame0.shape
        f.tau, f.lambda_, f.theta, f.epsilon = tau, lambda_, theta, epsilon
        f.warps, f.outer, f.inner, f.median = warps, outer, inner, median
        if flow.is_cuda:
            scratch = flow.new_empty(_native.cuda_tvl1_scratch(f))
            f.scratch = scratch.data_ptr()
        run("tvl1", f, flow.device)
    return flow


def _fake(frame0: Tensor, frame1: Tensor, start: Tensor, *_: object) -> Tensor:
    return start.new_empty(start.shape)


tvl1_scale = define(
    "tvl1_scale",
    "Tensor frame0, Tensor frame1, Tensor start, float tau, float lambda_, float theta, "
    "float epsilon, int warps, int outer, int inner, int median",
    "Tensor",
    _tvl1,
    _fake,
    backward=no_gradient("tvl1 has no gradient: give it detached frames"),
)
