"""The operators as PyTorch sees them: `torch.ops.stnls.*`, on CPU and CUDA, with fake kernels.

Arguments are taken as checked (see `_checks.py`); here sizes, strides and pointers go into the
structures that the kernels read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor

from stnls import _native
from stnls._errors import StnlsRuntimeError

_DTYPES = {torch.float32: 0, torch.float64: 1}
_KEEP = {"all": 0, "each": 1, "every": 2}
_SELF_ACTION = {"none": 0, "anchor": 1, "anchor_each": 2, "remove": 3}

_library = torch.library.Library("stnls", "DEF")
_library.define(
    "search(Tensor query, Tensor key, Tensor? flow, int ws, int wt, int ps, int k, str keep, "
    "str self_action, int first_slot, int stride0, float stride1, int stride_query, "
    "str dist_type, int dilation, bool reflect_bounds, bool full_ws, bool use_adj, "
    "int offset_height, int offset_width, bool float_grid, bool with_time, bool direct) "
    "-> (Tensor, Tensor)"
)
_library.define(
    "compose_slots(Tensor fflow, Tensor bflow, int wt, int slots, int stride0) -> Tensor"
)
_library.define("compose_chain(Tensor steps, int stride0) -> Tensor")
_library.define(
    "patch_sum(Tensor video, Tensor weights, Tensor inds, int ps, int stride0, int dilation, "
    "bool reflect_bounds, bool use_adj, bool float_grid, bool heads_last) -> Tensor"
)


def grid_size(length: int, stride0: int) -> int:
    """Number of queries along an axis of `length` pixels."""
    return (length - 1) // stride0 + 1


def _run(name: str, problem: ctypes.Structure, out: Tensor, *cpu_more: int) -> None:
    if out.numel() == 0:
        return
    if out.is_cuda:
        stream = torch.cuda.current_stream(out.device).cuda_stream
        _native.call_cuda(f"stnls_cuda_{name}", problem, out.get_device(), stream)
    else:
        _native.call_cpu(f"stnls_cpu_{name}", problem, torch.get_num_threads(), *cpu_more)


def _rows_contiguous(video: Tensor) -> Tensor:
    return video if video.stride(-1) == 1 or video.shape[-1] == 1 else video.contiguous()


def entry_count(*, ws: int, wt: int, k: int, keep: str, self_action: str, first_slot: int) -> int:
    """Entries that a search returns for each query."""
    slots = 2 * wt + 1 - first_slot
    if keep == "every":
        return slots * ws * ws - (1 if self_action == "remove" else 0)
    return slots * k if keep == "each" else k


def _search_outputs(
    query: Tensor,
    key: Tensor,
    *,
    stride0: int,
    entries: int,
    float_grid: bool,
    with_time: bool,
) -> tuple[Tensor, Tensor]:
    b, heads, frames = query.shape[:3]
    grid = (grid_size(key.shape[-2], stride0), grid_size(key.shape[-1], stride0))
    dists = query.new_empty((b, heads, frames, *grid, entries))
    kind = query.dtype if float_grid else torch.int32
    inds = query.new_empty((*dists.shape, 3 if with_time else 2), dtype=kind)
    return dists, inds


def _search(
    query: Tensor,
    key: Tensor,
    flow: Tensor | None,
    ws: int,
    wt: int,
    ps: int,
    k: int,
    keep: str,
    self_action: str,
    first_slot: int,
    stride0: int,
    stride1: float,
    stride_query: int,
    dist_type: str,
    dilation: int,
    reflect_bounds: bool,
    full_ws: bool,
    use_adj: bool,
    offset_height: int,
    offset_width: int,
    float_grid: bool,
    with_time: bool,
    direct: bool,
) -> tuple[Tensor, Tensor]:
    query, key = _rows_contiguous(query), _rows_contiguous(key)
    entries = entry_count(
        ws=ws, wt=wt, k=k, keep=keep, self_action=self_action, first_slot=first_slot
    )
    dists, inds = _search_outputs(
        query, key, stride0=stride0, entries=entries, float_grid=float_grid, with_time=with_time
    )
    p = _native.SearchProblem()
    p.query, p.key = query.data_ptr(), key.data_ptr()
    p.query_stride = _native.i64_array(query.stride()[:5])
    p.key_stride = _native.i64_array(key.stride()[:5])
    if flow is not None and flow.shape[3] > 0:
        flow = flow.contiguous()
        p.flow, p.flow_heads, p.flow_slots = flow.data_ptr(), flow.shape[1], flow.shape[3]
    p.dists, p.inds = dists.data_ptr(), inds.data_ptr()
    p.batch, p.heads, p.frames, p.channels, p.query_height, p.query_width = query.shape
    p.height, p.width = key.shape[-2:]
    p.grid_height, p.grid_width = dists.shape[3:5]
    p.wt, p.first_slot, p.ws, p.ps = wt, first_slot, ws, ps
    p.patch_offset, p.dilation = 0 if use_adj else -(ps // 2), dilation
    p.stride0, p.stride1, p.stride_query = stride0, stride1, stride_query
    p.offset_height, p.offset_width = offset_height, offset_width
    p.k, p.keep, p.self_action = k, _KEEP[keep], _SELF_ACTION[self_action]
    p.reflect_bounds, p.full_window = reflect_bounds, full_ws
    p.product, p.float_grid = dist_type == "prod", float_grid
    p.dtype, p.components = _DTYPES[query.dtype], inds.shape[-1]
    _run("search", p, dists, *(() if query.is_cuda else (int(direct),)))
    return dists, inds


def _search_fake(
    query: Tensor,
    key: Tensor,
    flow: Tensor | None,
    ws: int,
    wt: int,
    ps: int,
    k: int,
    keep: str,
    self_action: str,
    first_slot: int,
    stride0: int,
    stride1: float,
    stride_query: int,
    dist_type: str,
    dilation: int,
    reflect_bounds: bool,
    full_ws: bool,
    use_adj: bool,
    offset_height: int,
    offset_width: int,
    float_grid: bool,
    with_time: bool,
    direct: bool,
) -> tuple[Tensor, Tensor]:
    entries = entry_count(
        ws=ws, wt=wt, k=k, keep=keep, self_action=self_action, first_slot=first_slot
    )
    return _search_outputs(
        query, key, stride0=stride0, entries=entries, float_grid=float_grid, with_time=with_time
    )


def _slots_output(fflow: Tensor, slots: int, stride0: int) -> Tensor:
    b, t, _, h, w = fflow.shape
    return fflow.new_empty((b, t, slots, 2, grid_size(h, stride0), grid_size(w, stride0)))


def _compose_slots(fflow: Tensor, bflow: Tensor, wt: int, slots: int, stride0: int) -> Tensor:
    fflow, bflow = fflow.contiguous(), bflow.contiguous()
    out = _slots_output(fflow, slots, stride0)
    f = _native.FlowProblem()
    f.forward, f.backward, f.out = fflow.data_ptr(), bflow.data_ptr(), out.data_ptr()
    f.batch, f.frames, _, f.height, f.width = fflow.shape
    f.grid_height, f.grid_width = out.shape[-2:]
    f.wt, f.slots, f.stride0, f.dtype = wt, slots, stride0, _DTYPES[fflow.dtype]
    _run("compose_slots", f, out)
    return out


def _compose_slots_fake(fflow: Tensor, bflow: Tensor, wt: int, slots: int, stride0: int) -> Tensor:
    return _slots_output(fflow, slots, stride0)


def _chain_output(steps: Tensor, stride0: int) -> Tensor:
    b, n, _, h, w = steps.shape
    return steps.new_empty((b, n, 2, grid_size(h, stride0), grid_size(w, stride0)))


def _compose_chain(steps: Tensor, stride0: int) -> Tensor:
    steps = steps.contiguous()
    out = _chain_output(steps, stride0)
    f = _native.ChainProblem()
    f.steps, f.out = steps.data_ptr(), out.data_ptr()
    f.batch, f.frames, _, f.height, f.width = steps.shape
    f.grid_height, f.grid_width = out.shape[-2:]
    f.stride0, f.dtype = stride0, _DTYPES[steps.dtype]
    _run("compose_chain", f, out)
    return out


def _compose_chain_fake(steps: Tensor, stride0: int) -> Tensor:
    return _chain_output(steps, stride0)


def _patch_sum_output(video: Tensor, heads_last: bool) -> Tensor:
    # heads_last: the caller folds the heads back into the channels, so that they lie beside them.
    b, heads, t, c, h, w = video.shape
    if heads_last:
        return video.new_empty((b, t, heads, c, h, w)).permute(0, 2, 1, 3, 4, 5)
    return video.new_empty((b, heads, t, c, h, w))


def _patch_sum(
    video: Tensor,
    weights: Tensor,
    inds: Tensor,
    ps: int,
    stride0: int,
    dilation: int,
    reflect_bounds: bool,
    use_adj: bool,
    float_grid: bool,
    heads_last: bool,
) -> Tensor:
    video, weights, inds = _rows_contiguous(video), weights.contiguous(), inds.contiguous()
    out = _patch_sum_output(video, heads_last)
    p = _native.PatchSumProblem()
    p.video, p.weights = video.data_ptr(), weights.data_ptr()
    p.inds, p.out = inds.data_ptr(), out.data_ptr()
    p.video_stride = _native.i64_array(video.stride()[:5])
    p.out_stride = _native.i64_array(out.stride()[:5])
    p.batch, p.heads, p.frames, p.channels, p.height, p.width = video.shape
    p.grid_height, p.grid_width, p.k = weights.shape[3:]
    p.ps, p.patch_offset, p.dilation = ps, 0 if use_adj else -(ps // 2), dilation
    p.stride0, p.reflect_bounds = stride0, reflect_bounds
    p.float_grid, p.dtype = float_grid, _DTYPES[video.dtype]
    _run("patch_sum", p, out)
    return out


def _patch_sum_fake(
    video: Tensor,
    weights: Tensor,
    inds: Tensor,
    ps: int,
    stride0: int,
    dilation: int,
    reflect_bounds: bool,
    use_adj: bool,
    float_grid: bool,
    heads_last: bool,
) -> Tensor:
    return _patch_sum_output(video, heads_last)


def _no_gradient(name: str) -> Callable[..., NoReturn]:
    def backward(*_: object) -> NoReturn:
        raise StnlsRuntimeError(
            f"stnls::{name} has no gradient in this version: detach its inputs, or call it under "
            "torch.no_grad()"
        )

    return backward


for _name, _kernel, _fake in (
    ("search", _search, _search_fake),
    ("compose_slots", _compose_slots, _compose_slots_fake),
    ("compose_chain", _compose_chain, _compose_chain_fake),
    ("patch_sum", _patch_sum, _patch_sum_fake),
):
    _library.impl(_name, _kernel, "CPU")
    _library.impl(_name, _kernel, "CUDA")
    torch.library.register_fake(f"stnls::{_name}", _fake, lib=_library)
    # Without this PyTorch would only warn, and leave the gradients empty.
    torch.library.register_autograd(f"stnls::{_name}", _no_gradient(_name), lib=_library)

search = torch.ops.stnls.search
compose_slots = torch.ops.stnls.compose_slots
compose_chain = torch.ops.stnls.compose_chain
patch_sum = torch.ops.stnls.patch_sum
