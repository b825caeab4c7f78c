"""A bookshelf: boards, rows of books with titles, a few gaps."""

from __future__ import annotations

import numpy as np

from .noise import Floats, fractal_noise, spline_noise, uniform, uniform_one
from .paint import Colour, light, mix, plain, ramp, step
from .texture import Canvas, Texture

SHELF = 66.0  # height of a shelf with its board
BOARD = 6.0
_CLOTH: tuple[Colour, ...] = (
    (142.0, 44.0, 40.0), (38.0, 66.0, 110.0), (54.0, 92.0, 66.0), (206.0, 188.0, 148.0),
    (92.0, 58.0, 44.0), (196.0, 134.0, 48.0), (72.0, 70.0, 78.0), (118.0, 58.0, 96.0),
    (218.0, 214.0, 206.0), (44.0, 120.0, 128.0),
)  # fmt: skip


def bookshelf(canvas: Canvas, seed: int = 13) -> Texture:
    """Shelves all over the canvas, filled from left to right."""
    x, y = canvas.x, canvas.y
    shape = (len(y), len(x))
    grain = fractal_noise(x, y, (60.0, 2.8), 4, seed, 0.6)
    image = plain((34.0, 25.0, 19.0), shape) * (0.6 + 0.6 * grain)[..., None]
    first = int(np.floor(canvas.top / SHELF))
    last = int(np.floor((canvas.top + canvas.height) / SHELF))
    for shelf in range(first, last + 1):
        left = canvas.left - 20.0 * uniform_one(shelf, 0, seed + 1)
        number = 0
        while left < canvas.left + canvas.width:
            book = seed + 1000 + 97 * shelf + 7919 * number
            wide = 7.0 + 11.0 * uniform_one(0, 0, book) * uniform_one(1, 0, book)
            if uniform_one(2, 0, book) < 0.06:
                left += 9.0
            floor = (shelf + 1) * SHELF - BOARD
            tall = 40.0 + 16.0 * uniform_one(3, 0, book)
            _book(image, x, y, (left, floor - tall, left + wide, floor), book)
            left += wide + 0.5
            number += 1
    below = (y / SHELF - np.floor(y / SHELF)) * SHELF
    depth = step(below, 16.0, 0.0)
    image = image * (1.0 - 0.62 * depth)[:, None, None]
    wood = ramp(grain, [(0.1, (92.0, 60.0, 34.0)), (0.5, (146.0, 100.0, 58.0)),
                        (0.9, (182.0, 136.0, 86.0))])  # fmt: skip
    front = step(SHELF - below, BOARD, BOARD - 0.4)
    edge = 0.75 + 0.4 * step(SHELF - below, BOARD - 1.6, BOARD - 0.6)
    wood = wood * (edge * (0.7 + 0.3 * step(SHELF - below, 0.0, 1.2)))[:, None, None]
    image = mix(image, wood, np.broadcast_to(front[:, None], shape))
    fine = spline_noise(x, y, (1.6, 1.6), seed + 2) - 0.5
    return Texture(canvas, np.clip(image * (1.0 + 0.16 * fine)[..., None], 0.0, 255.0))


def _book(
    image: Floats, x: Floats, y: Floats, box: tuple[float, float, float, float], seed: int
) -> None:
    """One spine, painted in place; `box` is left, top, right, bottom."""
    left, top, right, bottom = box
    columns = np.flatnonzero((x >= left) & (x < right))
    rows = np.flatnonzero((y >= top) & (y < bottom))
    if not len(columns) or not len(rows):
        return
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    across, down = x[columns] - left, y[rows] - top
    wide, tall = right - left, bottom - top
    u = np.broadcast_to(across[None, :] / wide, (len(down), len(across)))
    v = np.broadcast_to(down[:, None], u.shape)
    cloth = _CLOTH[int(uniform_one(0, 0, seed + 1) * len(_CLOTH))]
    pale = cloth[0] + cloth[1] + cloth[2] > 420.0
    gilt: Colour = (58.0, 40.0, 34.0) if pale else (222.0, 190.0, 116.0)
    weave = fractal_noise(across, down, (5.0, 5.0), 3, seed + 2, 0.7)
    worn = fractal_noise(across, down, (8.0, 14.0), 3, seed + 3)
    spine = plain(cloth, u.shape) * (0.76 + 0.46 * weave)[..., None]
    spine = mix(spine, (210.0, 198.0, 176.0), 0.3 * step(worn, 0.62, 0.85))
    for band in range(2 + int(4.0 * uniform_one(1, 0, seed + 1))):
        height = tall * (0.06 + 0.88 * uniform_one(2, band, seed + 1))
        spine = mix(spine, gilt, 0.75 * step(np.abs(v - height), 0.8, 0.4))
    start, length = tall * 0.2, tall * (0.3 + 0.25 * uniform_one(3, 0, seed + 1))
    letter = np.floor(v / 1.9)
    stroke = np.floor(u * wide / 1.3)
    ink = uniform(stroke.astype(np.int64), letter.astype(np.int64), seed + 4)
    title = (v > start) & (v < start + length) & (np.abs(u - 0.5) < 0.24) & (ink > 0.42)
    if uniform_one(4, 0, seed + 1) < 0.4:
        label = (v > start - 2.0) & (v < start + length + 2.0) & (np.abs(u - 0.5) < 0.36)
        paper: Colour = (70.0, 28.0, 26.0) if pale else (216.0, 206.0, 182.0)
        spine = mix(spine, paper, label.astype(np.float64))
        gilt = (226.0, 200.0, 140.0) if pale else (40.0, 34.0, 34.0)
    spine = mix(spine, gilt, np.where(title, 0.85, 0.0))
    bulge = 2.0 * u - 1.0
    relief = light(0.5 * weave, 0.7)
    round_light = (1.05 - 0.55 * bulge * bulge - 0.16 * bulge) * relief
    top_shadow = 0.6 + 0.4 * step(v, 0.0, 1.4)
    image[part] = spine * (round_light * top_shadow)[..., None]
