"""Sending every query patch to its matches."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _heads, _ops
from stnls.agg._base import SumModule


class NonLocalScatterAdd(SumModule):
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
        i = self._take_inputs(vid, weights, flows)
        settings = self.options.settings(stacked=False, normalize=False, heads_last=False)
        deterministic = vid.is_cuda and torch.are_deterministic_algorithms_enabled()
        video = _heads.split(i.video, weights.shape[1])
        out: Tensor = _ops.patch_scatter(video, i.weights, i.inds, deterministic, *settings)
        return out if out.dtype == i.dtype else out.to(i.dtype)
