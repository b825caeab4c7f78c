"""Weighted sum of matched patches, averaged where patches overlap."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks
from stnls.agg._base import PatchModule
from stnls.agg._inputs import take_inputs
from stnls.agg._options import PatchOptions


class WeightedPatchSum(PatchModule):
    r"""Replaces every query patch by the weighted sum of its matches and averages the overlaps.

    .. math:: o(x) = \frac{1}{|Q_x|} \sum_{q \in Q_x} \sum_{k} w_{qk}\, v(m_{qk} + x - q)

    :math:`Q_x` are the queries whose ``ps`` × ``ps`` patch covers pixel :math:`x`, :math:`m_{qk}`
    the position of match k (query plus offset, mirrored at the border). With ``ps=1`` and
    ``stride0=1`` this is the aggregation of attention, :math:`o(q) = \sum_k w_{qk} v(m_{qk})`.
    Weights are taken as they are: apply the softmax before.

    Args:
        ps: taps along each side of the patch (≥ 1).
        stride0: pixels between queries (≥ 1), that of the search. Patches must cover the frame.
        pt: accepts only 1.
        dilation: pixels between the taps of a patch (≥ 1).
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
        self.options = PatchOptions(ps, stride0, dilation, reflect_bounds, use_adj, itype)

    def forward(self, vid: Tensor, weights: Tensor, inds: Tensor) -> Tensor:
        """Aggregates the patches of `vid`.

        Args:
            vid: (B, T, C, H, W), or (B, HD, T, C/HD, H, W); float32 or float64, or float16 or
                bfloat16, which are summed in float32.
            weights: (B, HD, T, nH, nW, K), the video's dtype (or float32 with a narrower video).
            inds: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw) in frames and pixels, integer or
                real, as a search returns them. Entries with an offset of 1e7 or more (the mark of
                an empty entry) or that are not finite add nothing.

        Returns:
            The shape and dtype of `vid`: heads are merged back into the channels of a 5-D video.
            Differentiable with respect to `vid`, `weights` and, for itype "float", dh and dw of
            `inds`.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                patches that do not cover the frame.

        """
        i = take_inputs(self.options, vid, weights, inds)
        return self._sum(i, stacked=False, merged=vid.ndim == 5)
