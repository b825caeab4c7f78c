"""Random numbers that depend on position and seed alone, and smooth noise made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.uint64]

_MASK = np.uint64(0xFFFFFFFF)


def hash_bits(i: NDArray[np.int64], j: NDArray[np.int64], seed: int) -> Integers:
    """32 well-mixed bits for each pair of whole numbers (arrays that broadcast)."""
    a = i.astype(np.uint64) & _MASK
    b = j.astype(np.uint64) & _MASK
    mixed = _scramble(np.uint64(seed * 2654435761 & 0xFFFFFFFF) ^ a)
    return _scramble(((mixed * np.uint64(5)) & _MASK) ^ b)


def uniform(i: NDArray[np.int64], j: NDArray[np.int64], seed: int) -> Floats:
    """Numbers in [0, 1), one for each pair (i, j)."""
    return hash_bits(i, j, seed).astype(np.float64) / 4294967296.0


def uniform_one(i: int, j: int, seed: int) -> float:
    """`uniform` for a single pair."""
    return float(uniform(np.array([i]), np.array([j]), seed)[0])


def normal(height: int, width: int, seed: int) -> Floats:
    """Nearly Gaussian numbers of variance 1, (height, width): twelve uniforms summed."""
    rows = np.arange(height, dtype=np.int64)[:, None]
    columns = np.arange(width, dtype=np.int64)[None, :]
    total = np.zeros((height, width), dtype=np.int64)
    for part in range(6):
        bits = hash_bits(columns, rows, seed * 6 + part).astype(np.int64)
        total += (bits & 0xFFFF) + (bits >> 16)
    return (total.astype(np.float64) - 6.0 * 65535.0) / 65536.0


def spline_noise(x: Floats, y: Floats, cell: tuple[float, float], seed: int) -> Floats:
    """Smooth noise in [0, 1] on the grid of columns x and rows y; `cell` is its grain (x, y).

    A cubic B-spline through hashed lattice values: no feature is finer than a cell.
    """
    column, weights_x = _spline(x / cell[0])
    row, weights_y = _spline(y / cell[1])
    first_column, first_row = int(column.min()), int(row.min())
    lattice = uniform(
        np.arange(first_column, int(column.max()) + 4, dtype=np.int64)[None, :],
        np.arange(first_row, int(row.max()) + 4, dtype=np.int64)[:, None],
        seed,
    )
    tall = np.zeros((len(y), lattice.shape[1]))
    for tap in range(4):
        tall += weights_y[tap][:, None] * lattice[row - first_row + tap, :]
    out = np.zeros((len(y), len(x)))
    for tap in range(4):
        out += weights_x[tap][None, :] * tall[:, column - first_column + tap]
    return out


def fractal_noise(
    x: Floats,
    y: Floats,
    cell: tuple[float, float],
    octaves: int,
    seed: int,
    fade: float = 0.5,
) -> Floats:
    """Octaves of `spline_noise`, each half as coarse and `fade` times as strong; about [0, 1]."""
    out = np.zeros((len(y), len(x)))
    strength, total = 1.0, 0.0
    for octave in range(octaves):
        size = float(2**octave)
        grain = (cell[0] / size, cell[1] / size)
        out += strength * spline_noise(x, y, grain, seed * 31 + octave)
        total += strength
        strength *= fade
    return np.clip((out / total - 0.5) * 1.9 + 0.5, 0.0, 1.0)


def _scramble(bits: Integers) -> Integers:
    bits = bits ^ (bits >> np.uint64(16))
    bits = (bits * np.uint64(0x7FEB352D)) & _MASK
    bits = bits ^ (bits >> np.uint64(15))
    bits = (bits * np.uint64(0x846CA68B)) & _MASK
    mixed: Integers = bits ^ (bits >> np.uint64(16))
    return mixed


def _spline(position: Floats) -> tuple[NDArray[np.int64], tuple[Floats, ...]]:
    """First lattice index and the four weights of the uniform cubic B-spline."""
    base = np.floor(position)
    f = position - base
    g = 1.0 - f
    weights = (
        g * g * g / 6.0,
        (4.0 - 6.0 * f * f + 3.0 * f * f * f) / 6.0,
        (4.0 - 6.0 * g * g + 3.0 * g * g * g) / 6.0,
        f * f * f / 6.0,
    )
    return base.astype(np.int64) - 1, weights
