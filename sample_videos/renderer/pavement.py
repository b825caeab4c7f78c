"""A paved yard seen from above: cobbles with an iron manhole cover and fallen leaves."""

from __future__ import annotations

import numpy as np

from .noise import Floats, fractal_noise, spline_noise, uniform_one
from .paint import cells, light, mix, plain, ramp, step
from .texture import Canvas, Texture


def pavement(canvas: Canvas, seed: int = 5) -> Texture:
    """Cobbles, cover and leaves; the cover lies a little off the canvas origin."""
    x, y = canvas.x, canvas.y
    shape = (len(y), len(x))
    bend = spline_noise(x, y, (14.0, 14.0), seed) - 0.5
    grid_x = np.broadcast_to(x[None, :], shape) + 4.0 * bend
    grid_y = np.broadcast_to(y[:, None], shape) - 4.0 * bend
    away, gap, name = cells(grid_x, grid_y, 17.0, 0.62, seed + 1)
    stone = step(gap, 0.8, 3.4)
    rough = fractal_noise(x, y, (9.0, 9.0), 4, seed + 2, 0.62)
    broad = fractal_noise(x, y, (80.0, 80.0), 3, seed + 3)

    image = ramp(
        name,
        [
            (0.0, (104.0, 100.0, 98.0)),
            (0.35, (150.0, 144.0, 136.0)),
            (0.6, (128.0, 112.0, 98.0)),
            (0.85, (146.0, 108.0, 88.0)),
            (1.0, (88.0, 92.0, 100.0)),
        ],
    )
    image = image * (0.72 + 0.56 * rough)[..., None]
    soil = ramp(rough, [(0.2, (44.0, 38.0, 32.0)), (0.7, (70.0, 66.0, 46.0))])
    moss = step(broad, 0.5, 0.7)
    soil = mix(soil, (66.0, 88.0, 38.0), 0.8 * moss)
    image = mix(soil, image, stone)
    image = mix(image, (92.0, 104.0, 58.0), 0.3 * moss * step(rough, 0.5, 0.7))
    relief = stone * (2.2 - 0.016 * away * away) + 1.5 * rough
    image = image * light(relief, 0.8)[..., None]

    image = _cover(image, x - 34.0, y + 22.0, rough)
    for leaf in range(70):
        image = _leaf(image, x, y, canvas, seed + 100 + leaf)
    grain = spline_noise(x, y, (1.5, 1.5), seed + 4) - 0.5
    image = image * ((0.86 + 0.28 * broad) * (1.0 + 0.24 * grain))[..., None]
    return Texture(canvas, np.clip(image, 0.0, 255.0))


def _cover(image: Floats, x: Floats, y: Floats, rough: Floats) -> Floats:
    """A round iron cover with a rim and a pattern of studs, centred at the origin."""
    away = np.sqrt(x[None, :] * x[None, :] + y[:, None] * y[:, None])
    u = x[None, :] * 0.8 + y[:, None] * 0.6
    v = y[:, None] * 0.8 - x[None, :] * 0.6
    stud_u = np.abs(u / 5.2 - np.floor(u / 5.2) - 0.5)
    stud_v = np.abs(v / 5.2 - np.floor(v / 5.2) - 0.5)
    studs = step(np.maximum(stud_u, stud_v), 0.36, 0.28) * step(away, 23.0, 22.0)
    ring = step(np.abs(away - 25.5), 1.5, 0.9)
    relief = 1.3 * studs + 1.6 * ring + 0.8 * rough
    iron = mix(plain((74.0, 74.0, 80.0), away.shape), (120.0, 82.0, 56.0), step(rough, 0.5, 0.8))
    iron = iron * light(relief, 0.9)[..., None]
    image = mix(image, (120.0, 116.0, 110.0), step(away, 34.0, 33.4))
    image = mix(image, (26.0, 24.0, 24.0), step(away, 29.4, 28.8))
    return mix(image, iron, step(away, 28.0, 27.6))


def _leaf(image: Floats, x: Floats, y: Floats, canvas: Canvas, seed: int) -> Floats:
    """One leaf with a midrib and a shadow; painted in place."""
    middle_x = canvas.left + canvas.width * uniform_one(0, 0, seed)
    middle_y = canvas.top + canvas.height * uniform_one(1, 0, seed)
    columns, rows = (
        np.flatnonzero(np.abs(x - middle_x) < 13),
        np.flatnonzero(abs(y - middle_y) < 13),
    )
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A direction without sines: (1 - m^2, 2m) / (1 + m^2).
    m = 2.0 * uniform_one(2, 0, seed) - 1.0
    along = ((1.0 - m * m) / (1.0 + m * m), 2.0 * m / (1.0 + m * m))
    if uniform_one(3, 0, seed) < 0.5:
        along = (-along[1], along[0])
    long = 5.0 + 4.0 * uniform_one(4, 0, seed)
    wide = long * (0.36 + 0.2 * uniform_one(5, 0, seed))

    def outline(shift: float) -> tuple[Floats, Floats, Floats]:
        right = x[columns][None, :] - middle_x - shift
        down = y[rows][:, None] - middle_y - shift
        u = (right * along[0] + down * along[1]) / long
        v = (down * along[0] - right * along[1]) / wide
        return 1.0 - u * u - np.abs(v) * (1.0 + 0.45 * u), u, v

    shadow, _, _ = outline(1.3)
    body, u, v = outline(0.0)
    hue = uniform_one(6, 0, seed)
    colour = ramp(
        np.full(body.shape, hue) + 0.16 * u,
        [
            (0.0, (150.0, 52.0, 26.0)),
            (0.4, (206.0, 104.0, 30.0)),
            (0.75, (222.0, 174.0, 60.0)),
            (1.0, (138.0, 132.0, 52.0)),
        ],
    )
    ribs = (u - np.abs(v) * 0.5) * long / 2.2
    veins = step(np.abs(ribs - np.floor(ribs) - 0.5), 0.34, 0.48)
    colour = colour * (1.0 - 0.22 * veins + 0.12 * v)[..., None]
    colour = mix(colour, (232.0, 190.0, 116.0), step(np.abs(v) * wide, 0.55, 0.3))
    patch = mix(image[part], (22.0, 20.0, 20.0), 0.55 * step(shadow, 0.0, 0.22))
    image[part] = mix(patch, colour, step(body, 0.0, 0.12))
    return image
