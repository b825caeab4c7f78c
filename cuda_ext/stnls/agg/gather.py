"""Gathering the patches that entries point to, entry by entry."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks
from stnls.agg._base import PatchModule
from stnls.agg._inputs import take_inputs
from stnls.agg._options import PatchOptions


class NonLocalGather(PatchModule):
    r"""Replaces every query patch by its k-th match, for every k, and averages the overlaps.

    .. math:: o_k(x) = \frac{1}{|Q_x|} \sum_{q \in Q_x} w_{qk}\, v(m_{qk} + x - q)

    The terms of `WeightedPatchSum`, before the sum over k.

    Args:
        ps, stride0, pt, dilation, reflect_bounds, use_adj, itype: as for `WeightedPatchSum`.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    def __init__(
        self,
        ps: int = 1,
        stride0: int = 1,
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
        """Gathers the patches of `vid`.

        Args:
            vid, weights, inds: as for `WeightedPatchSum`.

        Returns:
            (B, HD, K, T, C/HD, H, W), the dtype of `vid`; differentiable as `WeightedPatchSum`.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                patches that do not cover the frame.

        """
        i = take_inputs(self.options, vid, weights, inds)
        return self._sum(i, stacked=True, merged=False)
