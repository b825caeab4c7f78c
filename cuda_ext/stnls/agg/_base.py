"""What the modules of all aggregations have in common."""

from __future__ import annotations

import functools
from dataclasses import asdict

from torch import Tensor, nn

from stnls import _checks, _ops
from stnls._ops import PatchSettings
from stnls._positions import grid_shape
from stnls._read_only import ReadOnly
from stnls.agg._inputs import PatchInputs, take_inputs
from stnls.agg._options import PatchOptions


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
        return ", ".join(f"{name}={value!r}" for name, value in self._shown_parameters().items())

    def _shown_parameters(self) -> dict[str, object]:
        """Parameters by their public names."""
        shown: dict[str, object] = asdict(self.options)
        return shown


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

    def _shown_parameters(self) -> dict[str, object]:
        shown = super()._shown_parameters()
        stride = shown.pop("stride0")
        sizes = {"strideIn": stride, "strideOut": stride, "outH": self.outH, "outW": self.outW}
        return {"ps": shown.pop("ps"), **sizes, **shown}

    def _take_inputs(self, vid: Tensor, weights: Tensor, flows: Tensor) -> PatchInputs:
        """The checked inputs of a call."""
        inputs = take_inputs(self.options, vid, weights, flows)
        _checks.input_size(self.outH, self.outW, inputs.video)
        return inputs


@functools.lru_cache(maxsize=256)
def _settings(o: PatchOptions, stacked: bool, merged: bool) -> PatchSettings:
    """Those of a sum that is divided by the number of patches."""
    return o.settings(stacked=stacked, normalize=True, heads_last=merged)
