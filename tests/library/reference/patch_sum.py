"""Gathering the patches that entries point to, and scattering patches to them; differentiable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .positions import corners, fold, inside, read_frames


@dataclass(frozen=True)
class PatchOptions:
    """The parameters of the aggregations, with their names and defaults."""

    ps: int
    stride0: int
    dilation: int = 1
    reflect_bounds: bool = True
    use_adj: bool = False
    itype: str = "float"

    @property
    def taps(self) -> Tensor:
        start = 0 if self.use_adj else -(self.ps // 2)
        return self.dilation * (torch.arange(self.ps) + start)


@dataclass(frozen=True)
class Patches:
    """The taps of every query and where each of its entries leads them.

    own_h, own_w: (nH, nW, 1, ps, ps), the taps of the queries; some lie outside the frame.
    frame, h, w: (B, HD, T, nH, nW, K, ps, ps), the taps of the entries, inside their frame.
    used: the same, whether both taps exist and the entry is not empty.
    """

    own_h: Tensor
    own_w: Tensor
    frame: Tensor
    h: Tensor
    w: Tensor
    used: Tensor


def patches(o: PatchOptions, video: Tensor, inds: Tensor) -> Patches:
    """For a video (B, HD, T, C, H, W) and offsets (B, HD, T, nH, nW, K, 3)."""
    frames, _, height, width = video.shape[2:]
    t = torch.arange(frames).view(-1, 1, 1, 1)
    rows = (torch.arange(inds.shape[3]) * o.stride0).view(-1, 1, 1)
    columns = (torch.arange(inds.shape[4]) * o.stride0).view(-1, 1)
    if o.itype == "int" and inds.is_floating_point():
        inds = inds.round()
    inds = inds.to(video.dtype)
    filled = torch.isfinite(inds).all(-1) & (inds[..., 1:].abs() < 1e7).all(-1)
    dt, dh, dw = torch.where(filled[..., None], inds, 0.0).unbind(-1)
    if o.itype == "int":
        dh, dw = dh.long(), dw.long()

    tap_h, tap_w = o.taps.view(-1, 1), o.taps
    frame = fold(t + dt.round().long(), frames)
    h = fold(rows + dh, height)[..., None, None] + tap_h
    w = fold(columns + dw, width)[..., None, None] + tap_w
    if o.reflect_bounds:
        h, w = fold(h, height), fold(w, width)
    own_h, own_w = torch.broadcast_tensors(
        rows[..., None, None] + tap_h, columns[..., None, None] + tap_w
    )
    used = filled[..., None, None] & inside(h, height) & inside(w, width)
    used = used & inside(own_h, height) & inside(own_w, width)
    h, w = torch.where(inside(h, height), h, 0), torch.where(inside(w, width), w, 0)
    frame, h, w, used = torch.broadcast_tensors(frame[..., None, None], h, w, used)
    return Patches(own_h, own_w, frame, h, w, used)


def coverage(o: PatchOptions, height: int, width: int) -> Tensor:
    """(H, W): by how many patches of queries each pixel is covered."""
    count = torch.zeros(height, width, dtype=torch.float64)
    for i in range(0, height, o.stride0):
        for j in range(0, width, o.stride0):
            for h in (i + o.taps).tolist():
                for w in (j + o.taps).tolist():
                    if 0 <= h < height and 0 <= w < width:
                        count[h, w] += 1
    return count


def patch_stack(video: Tensor, weights: Tensor, inds: Tensor, o: PatchOptions) -> Tensor:
    """(B, HD, K, T, C, H, W): the patches of the k-th entries, weighted, at their queries.

    video: (B, HD, T, C, H, W); weights: (B, HD, T, nH, nW, K); inds: (..., K, 3).
    """
    p = patches(o, video, inds)
    values = read_frames(video, p.frame, p.h, p.w) * weights.double()[..., None, None, None]
    values = torch.where(p.used[..., None], values, 0.0)
    batch, heads, frames, channels, height, width = video.shape
    k = weights.shape[-1]
    out = torch.zeros(batch, heads, k, frames, height, width, channels, dtype=torch.float64)
    at = torch.meshgrid(*(torch.arange(n) for n in p.used.shape), indexing="ij")
    own_h, own_w = p.own_h.expand(p.used.shape), p.own_w.expand(p.used.shape)
    b, head, t, entry = (at[axis][p.used] for axis in (0, 1, 2, 5))
    place = (b, head, entry, t, own_h[p.used], own_w[p.used])
    out = out.index_put(place, values[p.used], accumulate=True)
    return out.movedim(-1, 4) / coverage(o, height, width)


def gather_add(video: Tensor, weights: Tensor, inds: Tensor, o: PatchOptions) -> Tensor:
    """(B, HD, T, C, H, W): the stack summed over the entries."""
    return patch_stack(video, weights, inds, o).sum(2)


def scatter_add(video: Tensor, weights: Tensor, inds: Tensor, o: PatchOptions) -> Tensor:
    """(B, HD, T, C, H, W): the patches of the queries, weighted, added where entries point to."""
    p = patches(o, video, inds)
    shape = p.used.shape
    at = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    b, head, t, i, j, k = (at[axis][p.used] for axis in range(6))
    own_h, own_w = p.own_h.expand(shape)[p.used], p.own_w.expand(shape)[p.used]
    frame, h, w = p.frame[p.used], p.h[p.used], p.w[p.used]
    last = video.double().movedim(3, -1)
    sent = last[b, head, t, own_h, own_w] * weights.double()[b, head, t, i, j, k, None]
    out = torch.zeros(last.shape, dtype=torch.float64)
    if o.itype == "int":
        return out.index_put((b, head, frame, h, w), sent, accumulate=True).movedim(-1, 3)
    for row, of_row in corners(h, video.shape[-2]):
        for column, of_column in corners(w, video.shape[-1]):
            part = sent * (of_row * of_column)[:, None]
            out = out.index_put((b, head, frame, row, column), part, accumulate=True)
    return out.movedim(-1, 3)


def weighted_patch_sum(vid: Tensor, weights: Tensor, inds: Tensor, **options: object) -> Tensor:
    """The shape of `vid`, (B, T, C, H, W) or (B, HD, T, C/HD, H, W), in float64."""
    o = PatchOptions(**options)  # type: ignore[arg-type]
    if vid.ndim == 6:
        return gather_add(vid, weights, inds, o)
    heads = weights.shape[1]
    video = vid.unflatten(2, (heads, vid.shape[2] // heads)).transpose(1, 2)
    return gather_add(video, weights, inds, o).transpose(1, 2).flatten(2, 3)
