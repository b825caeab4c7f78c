"""Sending every query patch to its matches."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks, _ops
from stnls.agg._options import (
    PatchModule,
    PatchOptions,
    only_input_size,
    only_one_stride,
    take_inputs,
)


class NonLocalScatterAdd(PatchModule):
    r"""Adds every query patch, weighted, to the places of its matches.

    .. math:: o(y) = \sum_q \sum_k \sum_p w_{qk}\, v(q + p)\, b(y, m_{qk} + p)

    :math:`p` are the taps of the patch, :math:`m_{qk}` is the position of match k (query plus
    offset, mirrored at the border) and :math:`b` the bilinear weight of pixel :math:`y` at a
    position: the transpose of the gather, without any normalisation. Taps of the query that lie
    outside the frame are left out.

    Args:
        ps: taps along each side of the patch (≥ 1).
        strideIn, strideOut: pixels between queries, that of the search; both the same.
        outH, outW: size of the result; accept only 0 or the size of the video.
        pt: accepts only 1.
        dilation: pixels between the taps of a patch.
        reflect_bounds: taps of a match outside the frame go to their mirror image; otherwise they
            are left out.
        use_adj: patches start at their position instead of being centred on it.
        itype: ``"float"``: bilinear splat; ``"int"``: offsets are rounded (half to even).

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
        """Scatters the patches of `vid`.

        Args:
            vid: (B, T, C, H, W), or (B, HD, T, C/HD, H, W); dtypes as for `WeightedPatchSum`.
            weights: (B, HD, T, nH, nW, K).
            flows: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw) as a search returns them. Entries
                with an offset of 1e7 or more, or that are not finite, go nowhere.

        Returns:
            (B, HD, T, C/HD, H, W), the dtype of `vid`. Differentiable with respect to `vid`,
            `weights` and, for itype "float", dh and dw of `flows`. On the GPU the sums are the same
            in every run only under `torch.use_deterministic_algorithms`.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

        """
        i = take_inputs(self.options, vid, weights, flows)
        only_input_size(self.outH, self.outW, i.video)
        settings = self.options.settings(stacked=False, normalize=False, heads_last=False)
        deterministic = vid.is_cuda and torch.are_deterministic_algorithms_enabled()
        out: Tensor = _ops.patch_scatter(i.video, i.weights, i.inds, deterministic, *settings)
        return out.to(i.dtype)
