"""The parameters that the aggregations share, the checks of their inputs, and their call."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from stnls import _checks, _ops, _precision
from stnls._errors import StnlsTypeError, StnlsValueError
from stnls._ops import PatchSettings
from stnls.search._options import integer_offsets


@dataclass(frozen=True)
class PatchOptions:
    """Parameters of one aggregation, with the names of the public classes."""

    ps: int
    stride0: int
    dilation: int
    reflect_bounds: bool
    use_adj: bool
    itype: str

    def __post_init__(self) -> None:
        for name in ("ps", "stride0", "dilation"):  # integers of NumPy become Python's
            object.__setattr__(self, name, _checks.positive_int(name, getattr(self, name)))
        _checks.one_of("itype", self.itype, ("float", "int"))
        for name in ("reflect_bounds", "use_adj"):
            _checks.boolean(name, getattr(self, name))

    def settings(self, *, stacked: bool, normalize: bool, heads_last: bool) -> PatchSettings:
        """Arguments of the operators."""
        return PatchSettings(
            ps=self.ps,
            stride0=self.stride0,
            dilation=self.dilation,
            reflect_bounds=self.reflect_bounds,
            use_adj=self.use_adj,
            float_grid=self.itype == "float",
            stacked=stacked,
            normalize=normalize,
            heads_last=heads_last,
        )


@dataclass(frozen=True)
class PatchInputs:
    """Checked inputs in the dtype to compute in."""

    video: Tensor  # (B, HD, T, C/HD, H, W)
    weights: Tensor  # (B, HD, T, nH, nW, K)
    inds: Tensor  # (B, HD, T, nH, nW, K, 3)
    dtype: torch.dtype  # that of the result


def take_inputs(o: PatchOptions, vid: Tensor, weights: Tensor, inds: Tensor) -> PatchInputs:
    """Checks video, weights and offsets, and splits the heads of a 5-D video."""
    vid = _checks.tensor("vid", vid, (5, 6), "(B, T, C, H, W) or (B, HD, T, C, H, W)")
    weights = _checks.tensor("weights", weights, (6,), "(B, HD, T, nH, nW, K)")
    inds = _checks.tensor("inds", inds, (7,), "(B, HD, T, nH, nW, K, 3)")
    _checks.not_empty_frames("vid", vid)
    _checks.same_place("vid", vid, "weights", weights)
    _checks.same_place("vid", vid, "inds", inds)
    _checks.real_dtype("vid", vid)
    dtype = vid.dtype
    vid, weights = _precision.unified(vid, weights)
    vid, weights = _precision.widened(vid), _precision.widened(weights)
    _checks.same_dtype("vid", vid, "weights", weights)
    heads = weights.shape[1]
    if vid.ndim == 6:
        video = vid
        if vid.shape[1] != heads:
            raise StnlsValueError(
                f"vid and weights must have as many heads, not {vid.shape[1]} and {heads}"
            )
    else:
        channels = vid.shape[2]
        if heads == 0 or channels % heads != 0:
            raise StnlsValueError(
                f"vid has {channels} channels, which the {heads} heads of weights do not divide"
            )
        video = vid.unflatten(2, (heads, channels // heads)).transpose(1, 2)
    b, _, t, _, h, w = video.shape
    grid = (_ops.grid_size(h, o.stride0), _ops.grid_size(w, o.stride0))
    expected = (b, heads, t, *grid, weights.shape[5])
    note = _checks.grid_note(o.stride0, h, w)
    _checks.shape("weights", weights, expected, "(B, HD, T, nH, nW, K)", note)
    _checks.shape("inds", inds, (*expected, 3), "(B, HD, T, nH, nW, K, 3)")
    return PatchInputs(video, weights, _offsets(o, inds, video.dtype), dtype)


def _offsets(o: PatchOptions, inds: Tensor, dtype: torch.dtype) -> Tensor:
    if inds.is_complex() or inds.dtype == torch.bool:
        raise StnlsTypeError(f"inds must be a tensor of numbers, not {inds.dtype}")
    return inds.to(dtype) if o.itype == "float" else integer_offsets(inds, dtype)


class PatchModule(nn.Module):
    """An aggregation with options; it has neither parameters nor buffers."""

    options: PatchOptions

    def flops(self, B: int, HD: int, T: int, C: int, H: int, W: int, K: int) -> int:
        """Floating-point operations by the definition, for a video (B, T, C, H, W) with HD heads
        and K entries for each query: 2 for each tap and channel of every entry, and 7 more for an
        interpolated pixel."""
        o = self.options
        grid = (_ops.grid_size(H, o.stride0), _ops.grid_size(W, o.stride0))
        settings = o.settings(stacked=False, normalize=True, heads_last=False)
        video = (B, HD, T, C // HD, H, W)
        return _ops.patch_flops(video, (B, HD, T, *grid, K), settings)

    def extra_repr(self) -> str:
        """Parameters for `print(module)`."""
        o = self.options
        return ", ".join(f"{field.name}={getattr(o, field.name)!r}" for field in fields(o))


def only_one_stride(strideIn: int, strideOut: int) -> int:
    """The stride of queries, which input and output must share."""
    if strideIn != strideOut:
        raise StnlsValueError(
            f"strideIn and strideOut must be equal, not {strideIn} and {strideOut}"
        )
    return strideIn


def only_input_size(outH: int, outW: int, video: Tensor) -> None:
    """The size of the result is that of the video; 0 stands for it."""
    height, width = video.shape[-2:]
    if outH not in (0, height) or outW not in (0, width):
        raise StnlsValueError(
            f"outH and outW must be 0 or the size of the video, {height} and {width}, "
            f"not {outH} and {outW}"
        )
