"""Where between the positions of the grid the matches of a search lie."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from stnls import _checks, _ops
from stnls._offsets import real_offsets
from stnls._precision import unified, widened


def subpixel_offsets(
    query: Tensor, key: Tensor, offsets: Tensor, ps: int, stride1: float = 1.0
) -> Tensor:
    """Moves matches between the positions at which a `PairedSearch` with ``dist_type="l2"`` looked.

    A match goes to the lowest point of the paraboloid through the patch distances at its position
    and at the eight positions around it, a step apart (central differences), by at most 3/4 of a
    step along each axis. Where that has no clear lowest point (the determinant of its second
    derivatives is at most 0.3 of the product of those along the axes), the parabola of each axis
    answers, within half a step; along an axis without neighbours inside the frame the match stays,
    and so it does where the distances bend upwards by no more than a ten-thousandth of the outer
    two. No distance is below zero: where the surface promises a fall f of more than the distance d
    of the match, the match goes only the part 1 - sqrt(1 - d/f) of the way, at which a parabola
    along it has used d up. So a perfect match stays where it is. There is no gradient.

    Args:
        query, key: (B, C, H, W), as for the search. float32 or float64; float16 and bfloat16 are
            computed in float32.
        offsets: (B, H, W, 2) = (dh, dw) in pixels, of one match for each pixel, as the search
            returns them: integers, or reals of the dtype that is computed in (or narrower).
        ps, stride1: as for the search. Fastest for ps 3, 5, 7 and 9 with stride1 1.

    Returns:
        The offsets (B, H, W, 2) = (dh, dw) between positions, float64 for float64 frames, else
        float32.

    Raises:
        StnlsError: (also ValueError or TypeError) for tensors that do not fit together and for
            parameters without meaning.

    """
    for name, value, sizes in (
        ("query", query, "(B, C, H, W)"),
        ("key", key, "(B, C, H, W)"),
        ("offsets", offsets, "(B, H, W, 2)"),
    ):
        _checks.tensor(name, value, (4,), sizes)
    query, key = unified(query, key)
    _checks.floating("query", query)
    _checks.same_place("query", query, "key", key)
    _checks.same_dtype("query", query, "key", key)
    _checks.same("shape", "query", tuple(query.shape), "key", tuple(key.shape))
    batch, _, height, width = query.shape
    _checks.shape("offsets", offsets, (batch, height, width, 2), "(B, H, W, 2)")
    _checks.not_empty_frames("query", query)
    _checks.positive_int("ps", ps)
    _checks.positive_number("stride1", stride1)
    query, key = widened(query), widened(key)
    offsets = real_offsets("offsets", offsets, "query", query)
    return cast(Tensor, _ops.subpixel(query, key, offsets, ps, float(stride1)))
