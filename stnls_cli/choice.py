"""Which match is taken: evidence against staying at the flow, and the place between positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from stnls.search import PairedSearch
from torch import Tensor

SHORTLIST = 4
"""Best matches of the window among which the prior chooses, where fewer are asked for."""
STRIPS = {"cpu": 2**16, "cuda": 2**22}
"""Pixels that are worked on at a time."""
NEAR = 3
"""And all of a window of this many positions along each side around the flow."""
LEAST_SIGMA = 5.0
"""Noise that the frames of any camera have, in grey levels: what the prior reckons with."""
TRUSTED = 20.0
"""Mean squared difference beyond the noise that halves a patch's weight, in grey levels squared."""


def charge(sigma: float, prior: float) -> float:
    """What a match costs for each squared pixel from the flow, as a mean squared difference."""
    return prior * max(sigma, LEAST_SIGMA) ** 2


def charged(
    distance: Tensor, offset: Tensor, centre: Tensor, *, values: int, sigma: float, prior: float
) -> Tensor:
    """What each match costs: its mean squared difference, and a charge for leaving the flow.

    A patch of `values` numbers with noise of deviation s has a mean squared difference that varies
    by some s^2 * sqrt(8 / values) by chance, so that the best of a window of wrong matches beats
    the right one. Charging `prior` * max(sigma, 5)^2 for each squared pixel keeps such matches near
    the flow (a Gaussian prior on the flow's error: the maximum a posteriori match).

    `distance`: (H, W, K) sums of squares; `offset`: (H, W, K, 2) = (dy, dx); `centre`: the
    flow (H, W, 2) = (dy, dx), zero where it is not finite. Answers (H, W, K).
    """
    centre = torch.where(torch.isfinite(centre), centre, 0.0)
    away = (offset - centre[:, :, None]).square().sum(-1)
    return distance / values + charge(sigma, prior) * away


def is_among(offset: Tensor, others: Tensor, tolerance: float) -> Tensor:
    """Which of the offsets (H, W, K, 2) are among the others (H, W, M, 2) of their pixel:
    (H, W, K) bool."""
    found = torch.zeros(offset.shape[:-1], dtype=torch.bool, device=offset.device)
    for n in range(others.shape[2]):
        found |= (offset - others[:, :, n : n + 1]).abs().amax(-1) < tolerance
    return found


def confidence(distance: Tensor, *, values: int, sigma: float) -> Tensor:
    """Weights of matched patches: less for a larger difference than noise explains.

    1 / (max(d - 2 sigma^2, 0) + 20), d the mean squared difference of `values` numbers: two noisy
    pixels of one value differ by 2 sigma^2 in the mean. Never 0, also where there is no match.
    """
    beyond = (distance / values - 2 * sigma**2).clamp(min=0)
    return (1 / (beyond + TRUSTED)).clamp(min=1e-9)


FARTHEST = 0.75
"""Positions that a match is moved at most: beyond, the neighbour would have been nearer."""


class Paraboloid:
    """Places matches between the positions of the grid: where the paraboloid through the distances
    at a match and around it is lowest. Along an edge the axes alone would not find that place."""

    def __init__(self, ps: int, stride1: float) -> None:
        self._stride1 = stride1
        self._search = PairedSearch(3, ps, 9, stride0=1, stride1=stride1, itype="float")

    def __call__(self, reference: Tensor, neighbour: Tensor, offset: Tensor) -> Tensor:
        """`offset` (N, H, W, 2) = (dy, dx) moved by less than a position, for N pairs of frames
        (N, 3, H, W). Where a neighbour lies outside the frame it stays on that axis."""
        flow = offset.permute(0, 3, 1, 2).flip(1)
        found, place = self._search(reference, neighbour, flow)
        return in_strips(self._moved, offset, found[:, 0], place[:, 0])

    def _moved(self, offset: Tensor, distance: Tensor, place: Tensor) -> Tensor:
        # Best first, and at the border of the frame around another centre: put into raster order.
        step = ((place - offset[:, :, None]) / self._stride1).round()
        near = (step[..., 0].abs() <= 1) & (step[..., 1].abs() <= 1)
        raster = torch.where(near, (step[..., 0] + 1) * 3 + step[..., 1] + 1, 9.0).long()
        around = distance.new_full((*distance.shape[:2], 10), torch.inf)
        around.scatter_(-1, raster, distance)
        return offset + self._stride1 * lowest(around[:, :, :9])


def in_strips(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function` of tensors (N, H, W, ...) as (rows, W, ...), some rows at a time, so that what it
    needs stays small: (N, H, W, ...)."""
    shape = tensors[0].shape[:2]
    rows = max(1, STRIPS[tensors[0].device.type] // max(1, tensors[0].shape[2]))
    parts = zip(*(tensor.flatten(0, 1).split(rows) for tensor in tensors), strict=True)
    whole: Tensor = torch.cat([function(*part) for part in parts]).unflatten(0, shape)
    return whole


def lowest(around: Tensor) -> Tensor:
    """Where the paraboloid through nine values (..., 9) in raster order is lowest, from the middle
    one: (..., 2) = (dy, dx), at most FARTHEST.

    Its derivatives are central differences. Where it has no clear lowest place the parabola of each
    axis answers, within half a step; 0 where that opens downwards or a value is not finite.
    """
    corner = (around[..., 0], around[..., 2], around[..., 6], around[..., 8])
    up, before, at, after, down = (around[..., n] for n in (1, 3, 4, 5, 7))
    slope_y, slope_x = (down - up) / 2, (after - before) / 2
    bend_y, bend_x = up + down - 2 * at, before + after - 2 * at
    twist = (corner[0] - corner[1] - corner[2] + corner[3]) / 4
    area = bend_y * bend_x - twist.square()
    shift = torch.stack(
        (twist * slope_x - bend_x * slope_y, twist * slope_y - bend_y * slope_x), dim=-1
    ) / area.unsqueeze(-1)
    farthest = shift.abs().amax(-1, keepdim=True)
    shift = shift * (FARTHEST / farthest).clamp(max=1)
    clear = (bend_y > 0) & (bend_x > 0) & (area > 0.3 * bend_y * bend_x) & torch.isfinite(area)
    axes = torch.stack((_vertex(up, at, down), _vertex(before, at, after)), dim=-1)
    # No slope at all is 0 / 0 steps away.
    return torch.where(clear[..., None] & torch.isfinite(shift), shift, axes)


def _vertex(before: Tensor, at: Tensor, after: Tensor) -> Tensor:
    bend = before + after - 2 * at
    shift = ((before - after) / (2 * bend)).clamp(-0.5, 0.5)
    return torch.where((bend > 0) & torch.isfinite(bend), shift, 0.0)
