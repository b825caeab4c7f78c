"""One match for each pixel: evidence against staying at the flow, the place between positions."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from stnls import _checks, _ops
from stnls._precision import unified, widened


def choose_match(
    query: Tensor,
    key: Tensor,
    flow: Tensor,
    dists: Tensor,
    offsets: Tensor,
    ps: int,
    stride1: float = 1.0,
    charge: float = 0.0,
    full_ws: bool = True,
    near: bool = True,
    between: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Takes one of the matches that a `PairedSearch` on the float grid (``dist_type="l2"``) found.

    A match with the patch distance d, r pixels from the place that the flow predicts, costs

        d / (C ps ps) + charge r r,

    the negative logarithm of its posterior where the flow's error is Gaussian. The one that costs
    least is taken: of those given and, with `near`, of the 3 x 3 positions around the flow's place.
    With `between` it then moves to the lowest point of the paraboloid through the distances at it
    and at the eight positions around it (central differences), by at most 3/4 of a step along each
    axis; along an axis without neighbours inside the frame it stays. There is no gradient.

    Args:
        query, key: (B, C, H, W), as for the search. float32 or float64; float16 and bfloat16 are
            computed in float32.
        flow: (B, 2, H, W), channel 0 = dx, 1 = dy, around which was searched.
        dists: (B, H, W, K), what the search found, smallest first.
        offsets: (B, H, W, K, 2) = (dh, dw) in pixels.
        ps, stride1, full_ws: as for the search. Fastest for ps 3, 5, 7 and 9 with stride1 1.
        charge: for each squared pixel; 0 takes the smallest distance.
        near: whether the positions around the flow's place take part. They must lie in the window
            that was searched: one that is not among the K best counts as no nearer than the last.
        between: whether the match is placed between positions.

    Returns:
        The distance (B, H, W) and the offset (B, H, W, 2) = (dh, dw) of the match on the grid, and
        its offset between the positions (B, H, W, 2).

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together and for
            parameters without meaning.

    """
    for name, value, sizes in (
        ("query", query, "(B, C, H, W)"),
        ("key", key, "(B, C, H, W)"),
        ("flow", flow, "(B, 2, H, W)"),
        ("dists", dists, "(B, H, W, K)"),
        ("offsets", offsets, "(B, H, W, K, 2)"),
    ):
        _checks.tensor(name, value, (5 if name == "offsets" else 4,), sizes)
    query, key, flow, dists, offsets = unified(query, key, flow, dists, offsets)
    _checks.floating("query", query)
    for name, value in (("key", key), ("flow", flow), ("dists", dists), ("offsets", offsets)):
        _checks.same_place("query", query, name, value)
        _checks.same_dtype("query", query, name, value)
    _checks.same("shape", "query", tuple(query.shape), "key", tuple(key.shape))
    batch, _, height, width = query.shape
    entries = dists.shape[-1]
    _checks.shape("flow", flow, (batch, 2, height, width), "(B, 2, H, W)")
    _checks.shape("dists", dists, (batch, height, width, entries), "(B, H, W, K)")
    _checks.shape("offsets", offsets, (batch, height, width, entries, 2), "(B, H, W, K, 2)")
    _checks.not_empty_frames("query", query)
    _checks.positive_int("K", entries)
    _checks.positive_int("ps", ps)
    _checks.positive_number("stride1", stride1)
    _checks.not_negative_number("charge", charge)
    wide = (widened(value) for value in (query, key, flow, dists, offsets))
    found = _ops.choose_match(*wide, ps, float(stride1), float(charge), full_ws, near, between)
    distance, position, offset = (value.to(query.dtype) for value in found)
    return cast(Tensor, distance), cast(Tensor, position), cast(Tensor, offset)
