"""Weighted sum of matched patches, averaged where patches overlap."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from stnls import _checks, _ops
from stnls._errors import StnlsTypeError, StnlsValueError


class WeightedPatchSum(nn.Module):
    r"""Replaces every query patch by the weighted sum of its matches and averages the overlaps.

    .. math:: o(x) = \frac{1}{|Q_x|} \sum_{q \in Q_x} \sum_{k} w_{qk}\, v(m_{qk} + x - q)

    :math:`Q_x` are the queries whose ``ps`` × ``ps`` patch covers pixel :math:`x`, :math:`m_{qk}`
    the position of match k (query plus offset, mirrored at the border). With ``ps=1`` and
    ``stride0=1`` this is the aggregation of attention, :math:`o(q) = \sum_k w_{qk} v(m_{qk})`.
    Weights are taken as
    they are: apply the softmax before.

    Args:
        ps: taps along each side of the patch (≥ 1).
        stride0: pixels between queries, that of the search. Patches must cover the frame.
        pt: accepts only 1.
        dilation: pixels between the taps of a patch.
        reflect_bounds: read taps outside the frame at their mirror image; otherwise they add
            nothing.
        use_adj: patches start at their position instead of being centred on it.
        itype: ``"float"``: bilinear reads; ``"int"``: offsets are rounded (half to even).

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    def __init__(
        self,
        ps: int,
        stride0: int,
        pt: int = 1,
        dilation: int = 1,
        reflect_bounds: bool = True,
        use_adj: bool = False,
        itype: str = "float",
    ) -> None:
        super().__init__()
        _checks.only_default("pt", pt, 1)
        _checks.one_of("itype", itype, ("float", "int"))
        self.ps = _checks.positive_int("ps", ps)
        self.stride0 = _checks.positive_int("stride0", stride0)
        self.dilation = _checks.positive_int("dilation", dilation)
        self.reflect_bounds = reflect_bounds
        self.use_adj = use_adj
        self.itype = itype

    def forward(self, vid: Tensor, weights: Tensor, inds: Tensor) -> Tensor:
        """Aggregates the patches of `vid`.

        Args:
            vid: (B, T, C, H, W), or (B, HD, T, C/HD, H, W); float32 or float64.
            weights: (B, HD, T, nH, nW, K), the video's dtype.
            inds: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw) as a search returns them. Entries
                with an offset of 1e7 or more (the mark of an empty entry) or that are not finite
                add nothing.

        Returns:
            The shape of `vid`: heads are merged back into the channels of a 5-D video.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                patches that do not cover the frame.

        """
        vid = _checks.tensor("vid", vid, (5, 6), "(B, T, C, H, W) or (B, HD, T, C, H, W)")
        weights = _checks.tensor("weights", weights, (6,), "(B, HD, T, nH, nW, K)")
        inds = _checks.tensor("inds", inds, (7,), "(B, HD, T, nH, nW, K, 3)")
        _checks.real_dtype("vid", vid)
        _checks.not_empty_frames("vid", vid)
        _checks.same_place("vid", vid, "weights", weights)
        _checks.same_place("vid", vid, "inds", inds)
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
        grid = (_ops.grid_size(h, self.stride0), _ops.grid_size(w, self.stride0))
        expected = (b, heads, t, *grid, weights.shape[5])
        _checks.shape("weights", weights, expected, "(B, HD, T, nH, nW, K)")
        _checks.shape("inds", inds, (*expected, 3), "(B, HD, T, nH, nW, K, 3)")
        _checks.covered(h, w, self.ps, self.stride0, self.dilation, self.use_adj)
        out = _ops.patch_sum(
            video,
            weights,
            self._offsets(inds, vid),
            self.ps,
            self.stride0,
            self.dilation,
            self.reflect_bounds,
            self.use_adj,
            self.itype == "float",
            vid.ndim == 5,
        )
        if vid.ndim == 5:
            return cast(Tensor, out.transpose(1, 2).flatten(2, 3))
        return cast(Tensor, out)

    def _offsets(self, inds: Tensor, vid: Tensor) -> Tensor:
        if inds.is_complex() or inds.dtype == torch.bool:
            raise StnlsTypeError(f"inds must be a tensor of numbers, not {inds.dtype}")
        if self.itype == "float":
            return inds.to(vid.dtype)
        # Offsets that int32 does not hold become the mark of an empty entry.
        empty = -100000000
        if inds.is_floating_point():
            inds = torch.nan_to_num(inds.round().to(vid.dtype), nan=empty)
        elif inds.dtype != torch.int64:
            return inds.to(torch.int32)
        return inds.clamp(empty, -empty).to(torch.int32)

    def extra_repr(self) -> str:
        """Parameters for `print(module)`."""
        return (
            f"ps={self.ps}, stride0={self.stride0}, dilation={self.dilation}, "
            f"reflect_bounds={self.reflect_bounds}, use_adj={self.use_adj}, itype={self.itype!r}"
        )
