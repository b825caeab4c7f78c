"""The parameters that the aggregations share, the checks of their inputs, and their call."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stnls import _checks, _ops, _precision
from stnls._ops import PatchSettings
from stnls._positions import grid_shape
from stnls._read_only import ReadOnly
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
            *(self.ps, self.stride0, self.dilation, self.reflect_bounds, self.use_adj),
            float_grid=self.itype == "float",
            stacked=stacked,
            normalize=normalize,
            heads_last=heads_last,
        )


@functools.lru_cache(maxsize=256)
def _settings(o: PatchOptions, stacked: bool, merged: bool) -> PatchSettings:
    """Those of a sum that is divided by the number of patches."""
    return o.settings(stacked=stacked, normalize=True, heads_last=merged)


class PatchInputs(NamedTuple):
    """Checked inputs in the dtype to compute in."""

    video: Tensor  # (B, HD, T, C/HD, H, W) or (B, T, C, H, W), as given
    weights: Tensor  # (B, HD, T, nH, nW, K)
    inds: Tensor  # (B, HD, T, nH, nW, K, 3)
    dtype: torch.dtype  # that of the result
    eager: bool = False  # see _ops/_eager.py


_MOST_SIGNATURES = 1024
_passed: dict[tuple[object, ...], None] = {}
"""Options and signatures of inputs that passed the checks and needed no conversion."""


def take_inputs(o: PatchOptions, vid: Tensor, weights: Tensor, inds: Tensor) -> PatchInputs:
    """Checks video, weights and offsets."""
    tensors = (vid, weights, inds)
    signature = _ops.signature(tensors)
    if signature is None:
        return _checked(o, vid, weights, inds)
    if (o, signature) in _passed:
        return PatchInputs(vid, weights, inds, vid.dtype, True)
    inputs = _checked(o, vid, weights, inds)
    found = inputs.video, inputs.weights, inputs.inds
    if all(a is b for a, b in zip(found, tensors, strict=True)):
        if len(_passed) >= _MOST_SIGNATURES:
            _passed.clear()
        _passed[o, signature] = None
    return inputs


def _checked(o: PatchOptions, vid: Tensor, weights: Tensor, inds: Tensor) -> PatchInputs:
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
        _checks.equal_heads("vid", vid.shape[1], "weights", heads)
    else:
        _checks.equal_channels("vid", vid.shape[2], heads, f"the {heads} heads of weights do not")
    before, k, size = (vid.shape[0], heads, vid.shape[-4]), weights.shape[5], vid.shape[-2:]
    _checks.query_grid("weights", weights, before, (k,), "(B, HD, T, nH, nW, K)", size, o.stride0)
    _checks.shape("inds", inds, (*weights.shape, 3), "(B, HD, T, nH, nW, K, 3)")
    _checks.numbers("inds", inds)
    inds = inds.to(vid.dtype) if o.itype == "float" else integer_offsets(inds, vid.dtype)
    _checks.no_tangents(vid, weights, inds)
    return PatchInputs(vid, weights, inds, dtype)


class PatchModule(nn.Module):
    """An aggregation with options; it has neither parameters nor buffers."""

    options: PatchOptions
    ps = ReadOnly[int]()
    stride0 = ReadOnly[int]()
    dilation = ReadOnly[int]()
    reflect_bounds = ReadOnly[bool]()
    use_adj = ReadOnly[bool]()
    itype = ReadOnly[str]()

    def _sum(self, i: PatchInputs, *, stacked: bool, merged: bool) -> Tensor:
        """The patch sum, for each entry by itself if stacked; merged: a video without heads of its
        own becomes one."""
        # A compiler looks through caches, and says so.
        settings_of = _settings if i.eager else _settings.__wrapped__
        settings = settings_of(self.options, stacked, merged)
        out: Tensor = _ops.patch_sum(i.video, i.weights, i.inds, *settings, known_eager=i.eager)
        return out if out.dtype == i.dtype else out.to(i.dtype)

    def flops(self, B: int, HD: int, T: int, C: int, H: int, W: int, K: int) -> int:
        """Floating-point operations by the definition, for a video (B, T, C, H, W) with HD heads
        and K entries for each query: 2 for each tap and channel of every entry, and 7 more for an
        interpolated pixel.

        Raises:
            StnlsError: (also ValueError or TypeError) for sizes that no call has.

        """
        o = self.options
        B, HD, T, C, H, W, K = _checks.sizes(B=B, HD=HD, T=T, C=C, H=H, W=W, K=K)
        _checks.equal_channels("the video", C, HD, f"HD={HD} does not")
        settings = o.settings(stacked=False, normalize=True, heads_last=False)
        video = (B, HD, T, C // HD, H, W)
        return _ops.patch_flops(video, (B, HD, T, *grid_shape((H, W), o.stride0), K), settings)

    def extra_repr(self) -> str:
        """Parameters for `print(module)`."""
        o = self.options
        return ", ".join(f"{field.name}={getattr(o, field.name)!r}" for field in fields(o))


class SumModule(PatchModule):
    """An aggregation with the original's parameters of a sum over the entries."""

    strideIn = ReadOnly[int]("stride0")  # noqa: N815 - the original's names
    strideOut = ReadOnly[int]("stride0")  # noqa: N815
    outH = ReadOnly[int](own=True)  # noqa: N815
    outW = ReadOnly[int](own=True)  # noqa: N815

    def __init__(
        self,
        ps: int,
        strideIn: int,
        strideOut: int,
        outH: int = 0,
        outW: int = 0,
        pt: int = 1,
        dilation: int = 1,
        reflect_bounds: bool = True,
        use_adj: bool = False,
        itype: str = "float",
    ) -> None:
        super().__init__()
        _checks.only_default("pt", pt, 1)
        _checks.one_stride(strideIn, strideOut)
        self._outH = _checks.positive_int("outH", outH, minimum=0)
        self._outW = _checks.positive_int("outW", outW, minimum=0)
        self.options = PatchOptions(ps, strideIn, dilation, reflect_bounds, use_adj, itype)

    def extra_repr(self) -> str:
        """Parameters for `print(module)`, under the names that they are given by."""
        o = self.options
        stride = f"strideIn={o.stride0!r}, strideOut={o.stride0!r}"
        stride += f", outH={self.outH!r}, outW={self.outW!r}"
        return super().extra_repr().replace(f"stride0={o.stride0!r}", stride)

    def _take_inputs(self, vid: Tensor, weights: Tensor, flows: Tensor) -> PatchInputs:
        """The checked inputs of a call."""
        inputs = take_inputs(self.options, vid, weights, flows)
        _checks.input_size(self.outH, self.outW, inputs.video)
        return inputs
