"""Land seen from the air: hills, a lake, woods, fields, a road with houses."""

from __future__ import annotations

import numpy as np

from .noise import Floats, fractal_noise, spline_noise, uniform, uniform_one
from .paint import cells, light, mix, plain, ramp, step
from .texture import Canvas, Texture


def terrain(canvas: Canvas, seed: int = 11) -> Texture:
    """The whole landscape."""
    x, y = canvas.x, canvas.y
    height = fractal_noise(x, y, (150.0, 150.0), 7, seed, 0.48)
    rough = fractal_noise(x, y, (22.0, 22.0), 4, seed + 1, 0.6)
    tint = fractal_noise(x, y, (60.0, 60.0), 3, seed + 2)
    image = ramp(
        height + 0.06 * (rough - 0.5),
        [
            (0.29, (196.0, 180.0, 138.0)),
            (0.35, (128.0, 142.0, 78.0)),
            (0.55, (98.0, 120.0, 60.0)),
            (0.68, (140.0, 122.0, 88.0)),
            (0.80, (168.0, 158.0, 142.0)),
        ],
    )
    image = mix(image, (150.0, 150.0, 84.0), 0.35 * step(tint, 0.35, 0.8))
    land = step(height, 0.28, 0.295)
    gentle = land * step(height, 0.60, 0.56)
    wood = land * step(
        fractal_noise(x, y, (48.0, 48.0), 4, seed + 3, 0.55) + 0.1 * (rough - 0.5), 0.56, 0.60
    )

    field_image, field_mask = _fields(x, y, seed + 20)
    farmed = gentle * step(tint, 0.46, 0.50) * field_mask * (1.0 - wood)
    image = mix(image, field_image, farmed)

    trees, crown = _trees(x, y, seed + 40)
    image = mix(image, trees, wood)
    relief = height * 70.0 + rough * 1.6 * (1.0 - farmed) + crown * wood
    shading = light(relief, 1.0)
    grain = spline_noise(x, y, (1.6, 1.6), seed + 4) - 0.5
    image = image * (0.25 + 0.75 * shading)[..., None] * (1.0 + 0.22 * grain)[..., None]

    image = _road(image, x, y, land * (1.0 - 0.7 * wood), seed + 60)
    depth = step(height, 0.29, 0.12)
    waves = spline_noise(x, y, (7.0, 2.4), seed + 5) + spline_noise(x, y, (3.0, 1.6), seed + 6)
    water = ramp(depth, [(0.0, (92.0, 128.0, 122.0)), (1.0, (22.0, 58.0, 84.0))])
    water = water * (0.8 + 0.2 * waves)[..., None]
    image = mix(image, water, 1.0 - land)
    return Texture(canvas, np.clip(image, 0.0, 255.0))


def _fields(x: Floats, y: Floats, seed: int) -> tuple[Floats, Floats]:
    """Strips of crops on a slanted grid; the mask leaves paths between them."""
    u = x[None, :] * 0.92 + y[:, None] * 0.38
    v = y[:, None] * 0.92 - x[None, :] * 0.38
    row = np.floor(v / 26.0)
    wide = 34.0 + 18.0 * uniform(row.astype(np.int64), np.zeros((), np.int64), seed)
    column = np.floor(u / wide)
    i, j = column.astype(np.int64), row.astype(np.int64)
    crop = uniform(i, j, seed + 1)
    image = ramp(
        crop,
        [
            (0.0, (184.0, 160.0, 84.0)),
            (0.3, (112.0, 134.0, 58.0)),
            (0.6, (74.0, 104.0, 50.0)),
            (0.8, (150.0, 116.0, 76.0)),
            (1.0, (206.0, 188.0, 112.0)),
        ],
    )
    along = np.where(uniform(i, j, seed + 2) < 0.5, u, v)
    furrow = along / 3.6 - np.floor(along / 3.6)
    image = image * (0.82 + 0.3 * step(np.abs(furrow - 0.5), 0.1, 0.4))[..., None]
    edge_u = np.minimum(u - column * wide, (column + 1.0) * wide - u)
    edge_v = np.minimum(v - row * 26.0, (row + 1.0) * 26.0 - v)
    return image, step(np.minimum(edge_u, edge_v), 0.7, 1.3)


def _trees(x: Floats, y: Floats, seed: int) -> tuple[Floats, Floats]:
    """Tree crowns: their colours and heights."""
    shape = (len(y), len(x))
    bend = spline_noise(x, y, (5.0, 5.0), seed) - 0.5
    grid_x = np.broadcast_to(x[None, :], shape) + 2.0 * bend
    grid_y = np.broadcast_to(y[:, None], shape) - 2.0 * bend
    away, _, name = cells(grid_x, grid_y, 6.4, 0.9, seed + 1)
    crown = np.maximum(0.0, 1.0 - away * away / 18.0)
    image = mix(plain((40.0, 62.0, 30.0), shape), (92.0, 108.0, 44.0), name * name)
    image = mix(image, (132.0, 96.0, 40.0), step(name, 0.93, 0.95))
    return image * (0.35 + 0.75 * crown)[..., None], 3.4 * crown


def _road(image: Floats, x: Floats, y: Floats, land: Floats, seed: int) -> Floats:
    """A winding road with a middle line, and houses beside it."""
    zero = np.zeros(1)
    course = 0.42 * x - 30.0 + 90.0 * (spline_noise(x, zero, (95.0, 1.0), seed)[0] - 0.5)
    away = np.abs(y[:, None] - course[None, :])
    image = mix(image, (150.0, 142.0, 128.0), land * step(away, 4.6, 3.8))
    image = mix(image, (98.0, 96.0, 96.0), land * step(away, 3.2, 2.8))
    dash = x / 9.0 - np.floor(x / 9.0)
    line = step(away, 0.55, 0.3) * step(dash, 0.5, 0.52)[None, :]
    image = mix(image, (226.0, 222.0, 206.0), land * line)
    for house in range(60):
        column = int(uniform_one(house, 0, seed + 1) * len(x))
        side = 1.0 if uniform_one(house, 1, seed + 1) < 0.5 else -1.0
        middle_x = float(x[column])
        middle_y = float(course[column]) + side * (11.0 + 16.0 * uniform_one(house, 2, seed + 1))
        row = int(np.searchsorted(y, middle_y))
        if not 0 <= row < len(y) or land[row, column] < 0.9:
            continue
        image = _house(image, x - middle_x, y - middle_y, uniform_one(house, 3, seed + 1))
    return image


def _house(image: Floats, x: Floats, y: Floats, kind: float) -> Floats:
    """One gabled roof with its shadow, centred at the origin; painted in place."""
    columns = np.flatnonzero(np.abs(x) < 14.0)
    rows = np.flatnonzero(np.abs(y) < 14.0)
    if not len(columns) or not len(rows):
        return image
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    u = x[columns][None, :] * 0.92 + y[rows][:, None] * 0.38
    v = y[rows][:, None] * 0.92 - x[columns][None, :] * 0.38
    half_u, half_v = 4.6 + 3.0 * kind, 3.4 + 1.4 * kind
    shadow = np.maximum(np.abs(u - 2.4) - half_u, np.abs(v - 2.0) - half_v)
    roof = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    tiles = u / 1.8 - np.floor(u / 1.8)
    colour = (188.0, 92.0, 66.0) if kind < 0.6 else (118.0, 112.0, 116.0)
    slope = np.where(v < 0.0, 1.12, 0.66) * (0.88 + 0.2 * tiles)
    patch = mix(image[part], (34.0, 38.0, 34.0), 0.65 * step(shadow, 0.3, -0.3))
    face = plain(colour, roof.shape) * slope[..., None]
    image[part] = mix(patch, face, step(roof, 0.3, -0.3))
    return image
