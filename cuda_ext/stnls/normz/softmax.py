"""Softmax over the entries of a query."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stnls import _checks
from stnls._read_only import ReadOnly


class SoftmaxWeights(nn.Module):
    r"""Turns the distances of each query into weights that sum to one.

    .. math:: w_{qk} = \frac{e^{\mp s d_{qk}}}{\sum_{l} e^{\mp s d_{ql}}}

    with minus for ``dist_type="l2"``, where the nearest patch is to get the largest weight, and
    plus for ``"prod"``. Entries at +inf or -inf, positions outside the frame, get weight 0; so do
    all entries of a query that has no others: such a row is zero, not NaN, and its gradient too.

    Args:
        scale: :math:`s` ≥ 0, the inverse of the temperature, finite. A distance is a sum over the
            ps² taps and the channels of a head; one over the number of these terms is a good start
            (the default is the original's).
        drop_rate: probability (0 to 1) of a weight to be set to 0 in training; those that stay are
            divided by 1 - drop_rate.
        dist_type: ``"l2"`` or ``"prod"``, that of the search.
        k_agg: keep the first ``k_agg`` entries of every query; all if ≤ 0.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    scale = ReadOnly[float](own=True)
    drop_rate = ReadOnly[float](own=True)
    dist_type = ReadOnly[str](own=True)
    k_agg = ReadOnly[int](own=True)

    def __init__(
        self, scale: float = 10, drop_rate: float = 0, dist_type: str = "l2", k_agg: int = -1
    ) -> None:
        super().__init__()
        self._scale = _checks.not_negative_number("scale", scale)
        self._drop_rate = _checks.fraction("drop_rate", drop_rate)
        _checks.one_of("dist_type", dist_type, ("l2", "prod"))
        self._dist_type = dist_type
        self._k_agg = _checks.any_int("k_agg", k_agg)

    def forward(self, dists: Tensor, inds: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the entries of a search.

        Args:
            dists: (..., K), the best first; any floating dtype. float16 and bfloat16 are computed
                in float32, also under autocast.
            inds: (..., K, 3), or (..., K, 2) of a pair of frames.

        Returns:
            weights: (..., K'), the dtype of `dists`; K' = min(k_agg, K), or K if k_agg ≤ 0.
            inds: (..., K', 3), the first K' entries.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together.

        """
        dists = _checks.tensor("dists", dists, range(1, 65), "(..., K)")
        inds = _checks.tensor("inds", inds, (dists.ndim + 1,), "(..., K, 3)")
        _checks.floating("dists", dists)
        _checks.same_place("dists", dists, "inds", inds)
        _checks.entries("inds", inds, "dists", dists, 2 if inds.shape[-1] == 2 else 3)
        if self.k_agg > 0:
            dists, inds = dists[..., : self.k_agg], inds[..., : self.k_agg, :]
        scale = -self.scale if self.dist_type == "l2" else self.scale
        half = dists.dtype in (torch.float16, torch.bfloat16)
        scaled = scale * (dists.float() if half else dists)
        empty = torch.isinf(dists) | torch.isinf(scaled)
        # A row of nothing but -inf would be NaN in the softmax and in its gradient.
        scaled = scaled.masked_fill(empty, float("-inf"))
        scaled = scaled.masked_fill(empty.all(-1, keepdim=True), 0.0)
        weights = torch.softmax(scaled, -1).masked_fill(empty, 0.0).to(dists.dtype)
        return nn.functional.dropout(weights, self.drop_rate, self.training), inds

    def extra_repr(self) -> str:
        """Parameters for `print(module)`."""
        return (
            f"scale={self.scale}, drop_rate={self.drop_rate}, dist_type={self.dist_type!r}, "
            f"k_agg={self.k_agg}"
        )
