"""The best entries of every query, in a fixed order."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from stnls import _checks


@overload
def topk(
    dists: Tensor,
    inds: Tensor,
    k: int,
    dim: int = 1,
    anchor: bool = False,
    descending: bool = True,
    unique: bool = False,
    return_order: Literal[False] = False,
) -> tuple[Tensor, Tensor]: ...


@overload
def topk(
    dists: Tensor,
    inds: Tensor,
    k: int,
    dim: int = 1,
    anchor: bool = False,
    descending: bool = True,
    unique: bool = False,
    *,
    return_order: Literal[True],
) -> tuple[Tensor, Tensor, Tensor]: ...


def topk(
    dists: Tensor,
    inds: Tensor,
    k: int,
    dim: int = 1,
    anchor: bool = False,
    descending: bool = True,
    unique: bool = False,
    return_order: bool = False,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """The k best entries along a dimension, the best first.

    Of equal distances the one of the lowest index comes first; NaN is as bad as the worst infinity.
    Gradients flow to the entries that are kept.

    Args:
        dists: of any shape, with the entries along `dim`; any floating dtype.
        inds: the shape of `dists` and a last dimension, the offset of every entry; any dtype that
            PyTorch fully supports.
        k: entries to keep (all that there are, if fewer); ≤ 0 keeps all in the order given.
        dim: dimension of `dists`; negative counts from its last.
        anchor: entry 0 stays first, whatever its distance; the others follow in order.
        descending: the largest is the best (``dist_type="prod"``), otherwise the smallest ("l2").
        unique: accepts only False.
        return_order: also return the indices of the entries that were kept.

    Returns:
        dists: as given, with min(k, N) of the N entries along `dim`.
        inds: the same entries.
        order: (with `return_order`) the shape of the returned `dists`, int64.

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    _checks.only_default("unique", unique, False)
    _checks.any_int("k", k)
    for name, value in (
        *(("anchor", anchor), ("descending", descending), ("return_order", return_order)),
    ):
        _checks.boolean(name, value)
    dists = _checks.tensor("dists", dists, range(1, 65), "(..., N)")
    inds = _checks.tensor("inds", inds, (dists.ndim + 1,), "(..., N, 3)")
    _checks.floating("dists", dists)
    _checks.common_dtype("inds", inds)
    _checks.same_place("dists", dists, "inds", inds)
    _checks.entries("inds", inds, "dists", dists, inds.shape[-1])
    axis = _checks.dimension("dim", dim, "dists", dists)
    order = _order(dists.detach(), k, axis, anchor, descending)
    kept = torch.gather(dists, axis, order)
    components = (*order.shape, inds.shape[-1])
    kept_inds = torch.gather(inds, axis, order.unsqueeze(-1).expand(components))
    return (kept, kept_inds, order) if return_order else (kept, kept_inds)


def topk_each(
    dists: Tensor, inds: Tensor, K: int, descending: bool, anchor_self: bool = False
) -> tuple[Tensor, Tensor]:
    """The K best entries of each group, the best first, by the rules of `topk`.

    Args:
        dists: (..., G, S), S entries in each of G groups, as the slots of a search; any floating
            dtype.
        inds: (..., G, S, 3).
        K: entries to keep of each group (all that there are, if fewer); ≤ 0 keeps all in the order
            given.
        descending: the largest is the best ("prod"), otherwise the smallest ("l2").
        anchor_self: entry 0 of every group stays first.

    Returns:
        dists (..., G, K) and inds (..., G, K, 3); ``flatten`` G and K for the order in which a
        search of ``topk_mode="each"`` returns them.

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    _checks.any_int("K", K)
    _checks.boolean("anchor_self", anchor_self)
    dists = _checks.tensor("dists", dists, range(2, 65), "(..., G, S)")
    return topk(dists, inds, K, -1, anchor_self, descending)


def _order(dists: Tensor, k: int, axis: int, anchor: bool, descending: bool) -> Tensor:
    count = dists.shape[axis]
    if k <= 0:
        order = torch.arange(count, device=dists.device)
        return order.view(-1, *[1] * (dists.ndim - 1 - axis)).expand(dists.shape)
    # In the order of a sort NaN may stand at either end.
    worth = (-dists if descending else dists).masked_fill(dists.isnan(), float("inf"))
    if anchor:
        worth.narrow(axis, 0, min(1, count)).fill_(float("-inf"))
    return worth.sort(dim=axis, stable=True).indices.narrow(axis, 0, min(k, count))
