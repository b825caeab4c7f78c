"""The weighted patch sum in the original's form."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks, _ops
from stnls.agg._options import (
    PatchModule,
    PatchOptions,
    only_input_size,
    only_one_stride,
    take_inputs,
)


class NonLocalGatherAdd(PatchModule):
    """`WeightedPatchSum` with heads of their own in the result: `NonLocalGather` summed over k.

    Args:
        ps: taps along each side of the patch (≥ 1).
        strideIn, strideOut: pixels between queries, that of the search; both the same.
        outH, outW: size of the result; accept only 0 or the size of the video.
        pt, dilation, reflect_bounds, use_adj, itype: as for `WeightedPatchSum`.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

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
        stride0 = only_one_stride(strideIn, strideOut)
        self.outH = _checks.positive_int("outH", outH, minimum=0)
        self.outW = _checks.positive_int("outW", outW, minimum=0)
        self.options = PatchOptions(ps, stride0, dilation, reflect_bounds, use_adj, itype)

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
        i = take_inputs(self.options, vid, weights, flows)
        only_input_size(self.outH, self.outW, i.video)
        settings = self.options.settings(stacked=False, normalize=True, heads_last=False)
        out: Tensor = _ops.patch_sum(i.video, i.weights, i.inds, *settings)
        return out.to(i.dtype)
