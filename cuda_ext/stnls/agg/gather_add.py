"""The weighted patch sum in the original's form."""

from __future__ import annotations

from torch import Tensor

from stnls.agg._base import SumModule


class NonLocalGatherAdd(SumModule):
    """`WeightedPatchSum` with heads of their own in the result: `NonLocalGather` summed over k.

    Args:
        ps: taps along each side of the patch (≥ 1).
        strideIn, strideOut: pixels between queries, that of the search; both the same.
        outH, outW: size of the result; accept only 0 or the size of the video.
        pt, dilation, reflect_bounds, use_adj, itype: as for `WeightedPatchSum`.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    def forward(self, vid: Tensor, weights: Tensor, flows: Tensor) -> Tensor:
        """Aggregates the patches of `vid`.

        Args:
            vid, weights: as for `WeightedPatchSum`.
            flows: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw) as a search returns them.

        Returns:
            (B, HD, T, C/HD, H, W), the dtype of `vid`; differentiable as `WeightedPatchSum`.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                patches that do not cover the frame.

        """
        i = self._take_inputs(vid, weights, flows)
        return self._sum(i, stacked=False, merged=False)
