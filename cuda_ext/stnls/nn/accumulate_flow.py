"""Flow from every frame to every other, composed from the flow between neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsIndex, overload

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import slot_frames
from stnls.nn.search_flow import compose_flow


class AccumulatedFlow(NamedTuple):
    """Flow from each frame t to all those after it and to all those before it.

    Both are (B, T, T - 1, 2, nH, nW): ``fflow[:, t, n]`` leads to frame t + n + 1,
    ``bflow[:, t, n]`` to t - n - 1; 0 where there is no such frame. ``flow["fflow"]`` is
    ``flow.fflow``, as with the dictionary that the original returns.
    """

    fflow: Tensor
    bflow: Tensor

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> Tensor: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Tensor, ...]: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> Tensor | tuple[Tensor, ...]:
        if isinstance(key, str):
            if key not in self._fields:
                raise KeyError(key)
            found: Tensor = getattr(self, key)
            return found
        return tuple.__getitem__(self, key)


def accumulate_flow(
    fflow: Any,
    bflow: Tensor | None = None,
    stride0: int = 1,
    dtype: torch.dtype | None = None,
    fwd_mode: str = "pytorch",
) -> AccumulatedFlow:
    """Composes neighbouring flows into the flow between all pairs of frames.

    Each path of frames is composed by the rule of `stnls.nn.search_flow`; gradients flow to both
    inputs.

    Args:
        fflow: (B, T, 2, H, W), channel 0 = dx, 1 = dy in pixels; ``fflow[:, t]`` leads from frame t
            to t + 1 on the grid of frame t. Or a mapping or an object with both ``fflow`` and
            ``bflow``. float32 or float64; float16 and bfloat16 are taken as float32.
        bflow: the same shape; ``bflow[:, t]`` leads from frame t to t - 1.
        stride0: pixels between the queries whose flow is returned.
        dtype: of the result, one that flow may have; None is float64 for flow in float64, otherwise
            float32.
        fwd_mode: accepts only "pytorch".

    Returns:
        The flows ``fflow`` and ``bflow``, each (B, T, T - 1, 2, nH, nW), with
        nH = (H - 1) // stride0 + 1 (see `AccumulatedFlow`). NaN where a path meets a flow that is
        not finite.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _checks.only_default("fwd_mode", fwd_mode, "pytorch")
    _checks.positive_int("stride0", stride0)
    if dtype is not None:
        _checks.float_dtype("dtype", dtype)
    forward, backward = _checks.flow_pair(*_pair(fflow, bflow), 5, "(B, T, 2, H, W)")
    _checks.some_frames("fflow", forward)
    frames = forward.shape[1]
    ahead = [forward[:, t : frames - 1] for t in range(frames)]
    back = [backward[:, 1 : t + 1].flip(1) for t in range(frames)]
    return AccumulatedFlow(*(_paths(p, frames - 1, stride0, dtype) for p in (ahead, back)))


def extract_search_from_accumulated(fflow: Tensor, bflow: Tensor, wt: int, stride0: int) -> Tensor:
    """The flow of every temporal slot of a search, out of the flow between all frames.

    This is `stnls.nn.search_flow` for those who have accumulated flow; equal to it where that was
    made by `accumulate_flow`.

    Args:
        fflow: (B, T, T - 1, 2, H, W), ``fflow[:, t, n]`` leads from frame t to t + n + 1; channel
            0 = dx, 1 = dy in pixels. Any dtype.
        bflow: the same shape; ``bflow[:, t, n]`` leads from frame t to t - n - 1.
        wt: frames before and after the query's own (≥ 0).
        stride0: pixels between queries.

    Returns:
        (B, T, min(2 wt + 1, T) - 1, 2, nH, nW), slots 1, 2, … of a search, on its grid:
        nH = (H - 1) // stride0 + 1.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _checks.positive_int("wt", wt, minimum=0)
    _checks.positive_int("stride0", stride0)
    layout = "(B, T, T - 1, 2, H, W)"
    fflow, bflow = _checks.flow_pair(fflow, bflow, 6, layout)
    b, frames, _, _, height, width = fflow.shape
    _checks.shape("fflow", fflow, (b, frames, max(0, frames - 1), 2, height, width), layout)
    forward, backward = (f[..., ::stride0, ::stride0] for f in (fflow, bflow))
    slots = [
        forward[:, t, frame - t - 1] if frame > t else backward[:, t, t - frame - 1]
        for t in range(frames)
        for frame in slot_frames(t, wt, frames)[1:]
    ]
    count = max(0, min(2 * wt + 1, frames) - 1)
    if not slots:
        return forward.new_zeros((b, frames, count, *forward.shape[3:]))
    return torch.stack(slots, 1).view(b, frames, count, *forward.shape[3:])


def _pair(fflow: Any, bflow: Tensor | None) -> tuple[Any, Any]:
    if isinstance(fflow, Tensor):
        return fflow, bflow
    _checks.no_second_flow(bflow)
    if isinstance(fflow, Mapping):
        return fflow.get("fflow"), fflow.get("bflow")
    return getattr(fflow, "fflow", None), getattr(fflow, "bflow", None)


def _paths(paths: list[Tensor], longest: int, stride0: int, dtype: torch.dtype | None) -> Tensor:
    """(B, T, longest, 2, nH, nW): the flow along each of T paths, then zeros."""
    out = []
    for steps in paths:
        flow = compose_flow(steps, stride0=stride0)
        rest = longest - steps.shape[1]
        out.append(torch.nn.functional.pad(flow, (0, 0, 0, 0, 0, 0, 0, rest)))
    return torch.stack(out, 1).to(dtype)
