"""Puts the candidate at a known place in front of the others, before the best are chosen.

Everywhere below the candidate that matches is, for integer offsets, the first with exactly the
wanted offset; for real ones the first less than 1e-8 away (sum of the components' differences),
otherwise the nearest, if it is less than 10000 away. It changes places with candidate 0, which then
carries the wanted offset exactly. Where nothing matches, or candidate 0 does, nothing changes.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from stnls import _checks, _heads
from stnls._positions import fold, grid_shape, queries, slot_offsets

# Real offsets: as good as equal, and too far away to be a match.
EQUAL, FAR = 1e-8, 1e4


def anchor_self(dists: Tensor, inds: Tensor, stride0: int, nH: int, nW: int) -> Tensor:
    """Puts the candidate at the query itself, offset (0, 0, 0), in front of all others, in place.

    This is ``self_action="anchor"`` of a search, for the table of all candidates.

    Args:
        dists: (B, HD, Q, S, ws, ws), Q = T nH nW queries, S temporal slots. Any dtype that
            PyTorch fully supports; contiguous; written.
        inds: (B, HD, Q, S, ws, ws, 3), offsets (dt, dh, dw) in frames and pixels, integer or real.
            Contiguous; written.
        stride0: pixels between queries. Not used: offsets are relative to the query.
        nH: rows of queries.
        nW: columns of queries.

    Returns:
        (B, HD, Q) int32, the index of the candidate that matched, 0 .. S ws ws - 1.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    for name, value in (("stride0", stride0), ("nH", nH), ("nW", nW)):
        _checks.positive_int(name, value)
    _candidates(dists, inds, 6, "(B, HD, Q, S, ws, ws)", 3)
    _checks.whole_frames(dists.shape[2], nH * nW)
    return _pin(dists.flatten(3), inds.flatten(3, 5), inds.new_zeros(3)).to(torch.int32)


def anchor_self_time(
    dists: Tensor,
    inds: Tensor,
    flows: Tensor,
    wt: int,
    stride0: int,
    qH: int,
    qW: int,
    kH: int,
    kW: int,
) -> None:
    """Puts the candidate where the flow points in front of its temporal slot, in place.

    This is ``self_action="anchor_each"`` of a search, for the table of all candidates.

    Args:
        dists: (B, HD, Q, S, ws, ws), Q = T nH nW queries; all S = 2 wt + 1 temporal slots, or the
            2 wt without the query's own frame. Any dtype that PyTorch fully supports; contiguous;
            written.
        inds: (B, HD, Q, S, ws, ws, 3), offsets (dt, dh, dw) in frames and pixels, integer or real.
            Contiguous; written.
        flows: (B, HD_f, T, S_f, 2, nH, nW), channel 0 = dx, 1 = dy in pixels, for all 2 wt + 1
            slots or the 2 wt after the own frame, which then has zero flow. Head hd uses flow head
            hd modulo HD_f. Rounded half to even for integer `inds`; what is not finite counts as
            zero.
        wt: frames before and after the query's own.
        stride0: pixels between queries.
        qH: rows of the query video. Not used: queries stand on the grid of the keys.
        qW: columns of the query video. Not used either.
        kH: rows of the key video, at whose border flow is mirrored.
        kW: its columns.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
            T < 2 wt + 1.

    """
    _checks.positive_int("wt", wt, minimum=0)
    _sizes(stride0, qH, qW, kH, kW)
    _candidates(dists, inds, 6, "(B, HD, Q, S, ws, ws)", 3)
    flows = _flows(flows, inds, 7, "(B, HD_f, T, S_f, 2, nH, nW)")
    grid = grid_shape((kH, kW), stride0)
    b, heads, _, slots = dists.shape[:4]
    frames = flows.shape[2]
    _checks.enough_frames(frames, wt)
    every = 2 * wt + 1
    expected = (b, flows.shape[1], frames, (every - 1, every), 2, *grid)
    _checks.shape("flows", flows, expected, "(B, HD_f, T, S_f, 2, nH, nW)")
    window = dists.shape[4:]
    count = frames * grid[0] * grid[1]
    layout = "(B, HD, T nH nW, S, ws, ws)"
    _checks.shape("dists", dists, (b, heads, count, (every - 1, every), *window), layout)

    if flows.shape[3] < every:
        flows = torch.nn.functional.pad(flows, (0, 0, 0, 0, 0, 0, 1, 0))
    first = every - slots
    flows = _of_heads(flows[:, :, :, first:], inds, heads)
    dt = slot_offsets(wt, frames, flows.device)[:, first:, None, None]
    target = _target(dt.to(inds.dtype), flows[..., 1, :, :], flows[..., 0, :, :], stride0, kH, kW)
    # From (B, HD, T, S, nH, nW, 3) to the order of the candidates.
    target = target.permute(0, 1, 2, 4, 5, 3, 6).reshape(b, heads, count, slots, 3)
    _pin_windows(dists, inds, target)


def anchor_self_refine(
    dists: Tensor,
    inds: Tensor,
    flows: Tensor,
    stride0: int,
    qH: int,
    qW: int,
    kH: int,
    kW: int,
) -> None:
    """Puts the centre of every refined window in front of its other candidates, in place.

    Args:
        dists: (B, HD, T, nH, nW, Ks, wr, wr), a window around each of Ks earlier matches. Any
            dtype that PyTorch fully supports; contiguous; written.
        inds: (B, HD, T, nH, nW, Ks, wr, wr, 3), offsets (dt, dh, dw) in frames and pixels, integer
            or real. Contiguous; written.
        flows: (B, HD_f, T, nH, nW, Ks, 3), offsets (dt, dh, dw) of the earlier matches. Rounded
            half to even for integer `inds`, dt half up for real ones; what is not finite counts as
            zero. Head hd uses head hd modulo HD_f.
        stride0: pixels between queries.
        qH: rows of the query video. Not used: queries stand on the grid of the keys.
        qW: columns of the query video. Not used either.
        kH: rows of the key video, at whose border offsets are mirrored.
        kW: its columns.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _sizes(stride0, qH, qW, kH, kW)
    _candidates(dists, inds, 8, "(B, HD, T, nH, nW, Ks, wr, wr)", 3)
    layout = "(B, HD_f, T, nH, nW, Ks, 3)"
    flows = _flows(flows, inds, 7, layout)
    grid = grid_shape((kH, kW), stride0)
    b, heads, frames, _, _, matches, *window = dists.shape
    expected = (b, heads, frames, *grid, matches, *window)
    _checks.shape("dists", dists, expected, "(B, HD, T, nH, nW, Ks, wr, wr)")
    _checks.shape("flows", flows, (b, flows.shape[1], frames, *grid, matches, 3), layout)

    flows = _of_heads(flows, inds, heads)
    dt, dh, dw = (x.movedim(-1, 3) for x in flows.unbind(-1))  # (B, HD, T, Ks, nH, nW)
    if inds.is_floating_point():
        dt = torch.floor(dt + 0.5)
    t = queries(frames, 1, inds)[:, None, None, None]
    target = _target(fold(t + dt, frames) - t, dh, dw, stride0, kH, kW)
    _pin_windows(dists, inds, target.movedim(3, 5))


def anchor_self_paired(
    dists: Tensor,
    inds: Tensor,
    flows: Tensor,
    stride0: int,
    qH: int,
    qW: int,
    kH: int,
    kW: int,
) -> None:
    """Puts the candidate where the flow points in front, for a pair of frames, in place.

    Args:
        dists: (B, HD, Q, G, ws, ws), Q = nH nW queries, a window for each of G flows. Any dtype
            that PyTorch fully supports; contiguous; written.
        inds: (B, HD, Q, G, ws, ws, 2), offsets (dh, dw) in pixels, integer or real. Contiguous;
            written.
        flows: (B, HD_f, nH, nW, G, 2), (dh, dw) in pixels. Head hd uses flow head hd modulo HD_f.
            Rounded half to even for integer `inds`; what is not finite counts as zero.
        stride0: pixels between queries.
        qH: rows of the query frame. Not used: queries stand on the grid of the keys.
        qW: columns of the query frame. Not used either.
        kH: rows of the key frame, at whose border flow is mirrored.
        kW: its columns.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

    """
    _sizes(stride0, qH, qW, kH, kW)
    _candidates(dists, inds, 6, "(B, HD, Q, G, ws, ws)", 2)
    flows = _flows(flows, inds, 6, "(B, HD_f, nH, nW, G, 2)")
    grid = grid_shape((kH, kW), stride0)
    b, heads, _, groups, *window = dists.shape
    expected = (b, heads, grid[0] * grid[1], groups, *window)
    _checks.shape("dists", dists, expected, "(B, HD, nH nW, G, ws, ws)")
    layout = "(B, HD_f, nH, nW, G, 2)"
    _checks.shape("flows", flows, (b, flows.shape[1], *grid, groups, 2), layout)

    flows = _of_heads(flows, inds, heads)
    dh, dw = (x.movedim(-1, 2) for x in flows.unbind(-1))  # (B, HD, G, nH, nW)
    target = _target(None, dh, dw, stride0, kH, kW)
    _pin_windows(dists, inds, target.movedim(2, 4).flatten(2, 3))


def _candidates(dists: Tensor, inds: Tensor, ndim: int, layout: str, components: int) -> None:
    _checks.tensor("dists", dists, (ndim,), layout)
    _checks.tensor("inds", inds, (ndim + 1,), f"{layout[:-1]}, {components})")
    _checks.entries("inds", inds, "dists", dists, components)
    _checks.numbers("inds", inds)
    _checks.same_place("dists", dists, "inds", inds)
    for name, value in (("dists", dists), ("inds", inds)):
        _checks.common_dtype(name, value)
        _checks.writable(name, value)


def _flows(flows: Tensor, inds: Tensor, ndim: int, layout: str) -> Tensor:
    flows = _checks.tensor("flows", flows, (ndim,), layout)
    _checks.numbers("flows", flows)
    _checks.same_place("inds", inds, "flows", flows)
    _checks.some_heads("flows", flows)
    return flows


def _sizes(stride0: int, qH: int, qW: int, kH: int, kW: int) -> None:
    for name, value in zip(("qH", "qW", "kH", "kW"), (qH, qW, kH, kW), strict=True):
        _checks.positive_int(name, value)
    _checks.positive_int("stride0", stride0)


def _of_heads(flows: Tensor, inds: Tensor, heads: int) -> Tensor:
    """Flow for every head, in the dtype of the offsets; what is not finite becomes zero, as in a
    search."""
    if flows.is_floating_point():
        flows = torch.where(torch.isfinite(flows), flows, 0.0)
        if not inds.is_floating_point():
            # No frame is as large as the limit; it keeps the conversion to integers defined.
            flows = flows.double().round().clamp(-1e9, 1e9)
    return _heads.repeat(flows.to(inds.dtype), heads)


def _target(
    dt: Tensor | None, dh: Tensor, dw: Tensor, stride0: int, height: int, width: int
) -> Tensor:
    """Offsets (..., nH, nW, 3 or 2) to where flow (..., nH, nW) leads, mirrored at the border."""
    rows = queries(dh.shape[-2], stride0, dh)[:, None]
    columns = queries(dw.shape[-1], stride0, dw)
    offsets = [fold(rows + dh, height) - rows, fold(columns + dw, width) - columns]
    if dt is not None:
        offsets.insert(0, dt.expand_as(dh))
    return torch.stack(offsets, -1)


def _pin_windows(dists: Tensor, inds: Tensor, target: Tensor) -> None:
    """Pins in every window by itself: the last two dimensions of `dists`."""
    _pin(dists.flatten(-2), inds.flatten(-3, -2), target)


def _pin(dists: Tensor, inds: Tensor, target: Tensor) -> Tensor:
    """Of N candidates, (..., N) and (..., N, D), puts the one at (..., D) in front; its index."""
    count, components = inds.shape[-2:]
    if dists.numel() == 0:
        return torch.zeros(dists.shape[:-1], dtype=torch.int64, device=dists.device)
    with torch.no_grad():
        wanted = target.unsqueeze(-2)
        if inds.is_floating_point():
            # Added one by one: sum() may round in another order on another device.
            away = functools.reduce(torch.add, (inds - wanted).abs().unbind(-1))
            away = torch.where(away < FAR, away, float("inf")).masked_fill(away < EQUAL, 0.0)
        else:
            away = (inds != wanted).any(-1).to(torch.uint8)
        at = away.argmin(-1)  # the first of the smallest; 0 if none matches
    first = torch.arange(at.numel(), device=at.device) * count
    chosen = first + at.flatten()
    dists, inds = dists.view(-1), inds.view(-1, components)
    dists[first], dists[chosen] = dists[chosen], dists[first]
    wanted = target.expand(*at.shape, components).reshape(-1, components)
    inds[first], inds[chosen] = (
        torch.where((first == chosen)[:, None], inds[first], wanted),
        inds[first],
    )
    return at
