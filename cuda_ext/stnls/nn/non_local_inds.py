"""Every position that a search visits."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import fold, queries, slot_offsets, window
from stnls.nn.search_flow import search_flow


def non_local_inds(
    fflow: Tensor,
    bflow: Tensor,
    ws: int,
    wt: int,
    stride0: int,
    stride1: float,
    full_ws: bool = True,
) -> Tensor:
    """Positions of all candidates of `stnls.search.NonLocalSearch` with ``itype="float"``.

    Around the place where the composed flow of each temporal slot points, mirrored into the frame,
    lies a window of ws × ws positions, `stride1` pixels apart. Differentiable with respect to the
    flow; where the windows were moved to counts as constant.

    Args:
        fflow: (B, T, 2, H, W), flow to the next frame, as `stnls.nn.search_flow` takes it.
        bflow: the same shape, flow to the previous frame.
        ws: positions along each side of the window (≥ 1).
        wt: frames before and after the query's own (≥ 0).
        stride0: pixels between queries.
        stride1: pixels between positions of the window; may be a fraction.
        full_ws: move windows by whole steps of `stride1` into the frame. Without, and where the
            window is longer than the frame, some positions lie outside.

    Returns:
        (B, Q, S, ws, ws, 3), absolute (t, h, w) in frames and pixels, float64 for flow in float64,
        otherwise float32. Q = T nH nW queries in raster order, nH = (H - 1) // stride0 + 1;
        S = min(2 wt + 1, T) temporal slots. h or w is NaN where the flow is not finite.

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    _checks.positive_int("ws", ws)
    slots = 2 * _checks.positive_int("wt", wt, minimum=0) + 1
    _checks.few_candidates(slots, ws, f"ws={ws} and wt={wt}")
    step = _checks.positive_number("stride1", stride1)
    _checks.boolean("full_ws", full_ws)
    flows = search_flow(fflow, bflow, wt, stride0)
    height, width = fflow.shape[-2:]
    frames = flows.shape[1]
    flows = torch.nn.functional.pad(flows, (0, 0, 0, 0, 0, 0, 1, 0))  # none in the own frame
    rows = queries(flows.shape[-2], stride0, flows)[:, None]
    columns = queries(flows.shape[-1], stride0, flows)
    dx, dy = flows.unbind(3)  # (B, T, S, nH, nW)
    h = window(fold(rows + dy, height), step, ws, height, full_ws)[..., :, None]
    w = window(fold(columns + dx, width), step, ws, width, full_ws)[..., None, :]
    t = torch.arange(frames, device=flows.device)[:, None]
    t = (t + slot_offsets(wt, frames, flows.device)).to(flows.dtype)
    inds = torch.stack(torch.broadcast_tensors(t[:, :, None, None, None, None], h, w), -1)
    return inds.permute(0, 1, 3, 4, 2, 5, 6, 7).flatten(1, 3)


def index_grid(
    H: int,
    W: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """The position of every pixel: (1, 2, H, W), channel 0 = x (column), 1 = y (row).

    Args:
        H: rows (≥ 1).
        W: columns (≥ 1).
        dtype: of the result, one of integers or of reals of 16 bits and more.
        device: of the result; None is PyTorch's default.

    Raises:
        StnlsError: (also ValueError or TypeError) for sizes below 1, another dtype or one that does
            not hold the grid as whole numbers, and for what is no device.

    """
    _checks.positive_int("H", H)
    _checks.positive_int("W", W)
    _checks.holds_grid("a grid", _checks.number_dtype("dtype", dtype), H - 1, W - 1)
    if device is not None:
        _checks.device_kind("device", device)
    # Converted, for arange() does not know all integers.
    x = torch.arange(W, device=device).to(dtype).expand(H, W)
    y = torch.arange(H, device=device).to(dtype)[:, None].expand(H, W)
    return torch.stack([x, y])[None]
