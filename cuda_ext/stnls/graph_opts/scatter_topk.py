"""The entries of largest weight at every key pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks


def scatter_topk(
    weights: Tensor, flows_k: Tensor, labels: Tensor, K: int, descending: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Sorts the layers of every key pixel by weight and keeps the first K.

    All three tensors are at the key pixels, as `scatter_tensor` returns them, and are reordered
    alike. Weights that are not finite mark a layer without an entry: they come last, in either
    order. Of equal weights the one of the lowest layer comes first. Gradients flow to `weights`
    (and `flows_k`, if it is real).

    Args:
        weights: (B, HD, Q1, S), the scattered weights or distances; any floating dtype.
        flows_k: (B, HD, Q1, S, 3), the scattered offsets; any dtype that PyTorch fully supports.
        labels: (B, HD, Q1, S), the scattered labels, or anything else to be reordered; any such
            dtype.
        K: layers to keep (all that there are, if fewer); ≤ 0 keeps all.
        descending: the largest weight first, otherwise the smallest.

    Returns:
        weights (B, HD, Q1, K), flows_k (B, HD, Q1, K, 3) and labels (B, HD, Q1, K).

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    _checks.any_int("K", K)
    _checks.boolean("descending", descending)
    weights = _checks.tensor("weights", weights, (4,), "(B, HD, Q1, S)")
    flows_k = _checks.tensor("flows_k", flows_k, (5,), "(B, HD, Q1, S, 3)")
    labels = _checks.tensor("labels", labels, (4,), "(B, HD, Q1, S)")
    _checks.floating("weights", weights)
    for name, value in (("flows_k", flows_k), ("labels", labels)):
        _checks.common_dtype(name, value)
    _checks.entries("flows_k", flows_k, "weights", weights, 3)
    _checks.same("shape", "weights", tuple(weights.shape), "labels", tuple(labels.shape))
    _checks.same_place("weights", weights, "flows_k", flows_k)
    _checks.same_place("weights", weights, "labels", labels)
    worth = weights.detach()
    worth = torch.where(torch.isfinite(worth), -worth if descending else worth, float("inf"))
    order = worth.sort(dim=-1, stable=True).indices
    if K > 0:
        order = order[..., :K]
    offsets = torch.gather(flows_k, 3, order.unsqueeze(-1).expand(*order.shape, 3))
    return torch.gather(weights, 3, order), offsets, torch.gather(labels, 3, order)
