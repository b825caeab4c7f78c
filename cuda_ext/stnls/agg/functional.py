"""The aggregations as functions: the tensors, then the parameters of the class in their order."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stnls.agg.gather import NonLocalGather
from stnls.agg.gather_add import NonLocalGatherAdd
from stnls.agg.scatter_add import NonLocalScatterAdd


def gather(vid: Tensor, weights: Tensor, inds: Tensor, *args: Any, **options: Any) -> Tensor:
    """`NonLocalGather(*args, **options)(vid, weights, inds)`.

    Arguments, result and errors are those of the class.
    """
    out: Tensor = NonLocalGather(*args, **options)(vid, weights, inds)
    return out


def gather_add(vid: Tensor, weights: Tensor, flows: Tensor, *args: Any, **options: Any) -> Tensor:
    """`NonLocalGatherAdd(*args, **options)(vid, weights, flows)`.

    Arguments, result and errors are those of the class.
    """
    out: Tensor = NonLocalGatherAdd(*args, **options)(vid, weights, flows)
    return out


def scatter_add(vid: Tensor, weights: Tensor, flows: Tensor, *args: Any, **options: Any) -> Tensor:
    """`NonLocalScatterAdd(*args, **options)(vid, weights, flows)`.

    Arguments, result and errors are those of the class.
    """
    out: Tensor = NonLocalScatterAdd(*args, **options)(vid, weights, flows)
    return out
