"""Brushes that every surface uses: masks, mixing, colour ramps, light on a relief."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .noise import Floats, uniform
from .texture import PAINT_DENSITY

Colour = tuple[float, float, float]


def step(values: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth between (the other way round when low > high)."""
    t: Floats = np.clip((values - low) / (high - low), 0.0, 1.0)
    smooth: Floats = t * t * (3.0 - 2.0 * t)
    return smooth


def plain(colour: Colour, shape: tuple[int, ...]) -> Floats:
    """An image (*shape, 3) of one colour."""
    image: Floats = np.full((*shape, 3), colour, dtype=np.float64)
    return image


def mix(image: Floats, other: Floats | Colour, mask: Floats) -> Floats:
    """`other` laid over `image` where `mask` is 1."""
    over = np.asarray(other, dtype=np.float64)
    mixed: Floats = image + (over - image) * mask[..., None]
    return mixed


def ramp(values: Floats, stops: Sequence[tuple[float, Colour]]) -> Floats:
    """Colours by value, piecewise linear between the stops (in rising order)."""
    image = plain(stops[0][1], values.shape)
    for (low, _), (high, colour) in pairwise(stops):
        image = mix(image, colour, np.clip((values - low) / (high - low), 0.0, 1.0))
    return image


def light(relief: Floats, strength: float) -> Floats:
    """Brightness factor of a relief (heights in pixels) lit from the upper left; 1 when flat."""
    spread = PAINT_DENSITY / 2.0 * strength
    padded = np.pad(relief, 1, mode="edge")
    slope_x = (padded[1:-1, 2:] - padded[1:-1, :-2]) * spread
    slope_y = (padded[2:, 1:-1] - padded[:-2, 1:-1]) * spread
    # Light direction (-0.48, -0.60, 0.64).
    facing = (0.48 * slope_x + 0.60 * slope_y + 0.64) / np.sqrt(
        slope_x * slope_x + slope_y * slope_y + 1.0
    )
    factor: Floats = 0.35 + 0.65 * np.maximum(facing, 0.0) / 0.64
    return factor


def cells(
    x: Floats, y: Floats, size: float, jitter: float, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Voronoi cells of a jittered grid, at the points (x, y).

    Returns the distance to the nearest centre, how much farther the second nearest is
    (0 on a border), and a number in [0, 1) for each cell.
    """
    column, row = np.floor(x / size).astype(np.int64), np.floor(y / size).astype(np.int64)
    left, top = int(column.min()) - 1, int(row.min()) - 1
    i = np.arange(left, int(column.max()) + 2, dtype=np.int64)[None, :]
    j = np.arange(top, int(row.max()) + 2, dtype=np.int64)[:, None]
    centres_x = (i + 0.5 + jitter * (uniform(i, j, seed) - 0.5)) * size
    centres_y = (j + 0.5 + jitter * (uniform(i, j, seed + 1) - 0.5)) * size
    names = uniform(i, j, seed + 2)
    nearest = np.full(np.shape(x), 1e18)
    second = np.full(np.shape(x), 1e18)
    name = np.zeros(np.shape(x))
    for down in range(3):
        for right in range(3):
            cell = (row - top - 1 + down, column - left - 1 + right)
            away_x, away_y = x - centres_x[cell], y - centres_y[cell]
            away = away_x * away_x + away_y * away_y
            closer = away < nearest
            second = np.where(closer, nearest, np.minimum(second, away))
            name = np.where(closer, names[cell], name)
            nearest = np.where(closer, away, nearest)
    nearest, second = np.sqrt(nearest), np.sqrt(second)
    return nearest, second - nearest, name
