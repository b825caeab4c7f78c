"""A weathered brick wall with plaster remains and a poster."""

from __future__ import annotations

import numpy as np

from .noise import Floats, fractal_noise, spline_noise, uniform
from .paint import light, mix, plain, ramp, step
from .texture import Canvas, Texture

BRICK = (25.0, 10.5)  # course of one brick with its joint, pixels


def brick_wall(canvas: Canvas, seed: int = 3) -> Texture:
    """The wall, with two posters at fixed places."""
    x, y = canvas.x, canvas.y
    rough = fractal_noise(x, y, (10.0, 10.0), 4, seed, 0.6)
    stain = fractal_noise(x, y, (70.0, 110.0), 4, seed + 1)
    course = np.floor(y / BRICK[1])
    shift = 0.5 * (course - 2.0 * np.floor(course / 2.0))
    along = x[None, :] / BRICK[0] + shift[:, None] + 0.012 * (rough - 0.5)
    i = np.floor(along).astype(np.int64)
    j = np.broadcast_to(course[:, None], along.shape).astype(np.int64)
    across = (along - np.floor(along)) * BRICK[0]
    down = y[:, None] - course[:, None] * BRICK[1] + 0.9 * (rough - 0.5)
    edge = np.minimum(np.minimum(across, BRICK[0] - across), np.minimum(down, BRICK[1] - down))
    brick = step(edge + 0.8 * (rough - 0.5), 0.45, 1.15)
    shade = 0.8 * uniform(i, j, seed + 2) + 0.2 * rough
    image = ramp(
        shade,
        [
            (0.05, (92.0, 50.0, 42.0)),
            (0.35, (150.0, 74.0, 54.0)),
            (0.6, (176.0, 96.0, 66.0)),
            (0.8, (190.0, 128.0, 92.0)),
            (0.97, (110.0, 84.0, 80.0)),
        ],
    )
    mortar = plain((158.0, 150.0, 138.0), edge.shape) * (0.7 + 0.5 * rough)[..., None]
    image = mix(mortar, image * (0.78 + 0.44 * rough)[..., None], brick)
    plaster = step(stain + 0.16 * (rough - 0.5), 0.66, 0.68)
    coat = plain((196.0, 188.0, 164.0), edge.shape) * (0.82 + 0.3 * rough)[..., None]
    image = mix(image, coat, plaster)
    relief = 1.5 * brick * (1.0 - plaster) + 2.6 * plaster + 1.2 * rough
    image = image * light(relief, 0.8)[..., None]
    image = image * (1.0 - 0.45 * step(stain, 0.42, 0.14))[..., None]
    image = _poster(image, x - 66.0, y - 36.0, seed + 20, (228.0, 210.0, 160.0))
    image = _poster(image, x - 214.0, y - 70.0, seed + 30, (120.0, 168.0, 176.0))
    grain = spline_noise(x, y, (1.5, 1.5), seed + 3) - 0.5
    image = image * (1.0 + 0.2 * grain)[..., None]
    return Texture(canvas, np.clip(image, 0.0, 255.0))


def _poster(
    image: Floats, x: Floats, y: Floats, seed: int, paper: tuple[float, float, float]
) -> Floats:
    """A torn poster, 52 by 72 pixels: a landscape above lines of text."""
    u = np.broadcast_to(x[None, :], image.shape[:2])
    v = np.broadcast_to(y[:, None], image.shape[:2])
    tear = 7.0 * (fractal_noise(x, y, (14.0, 14.0), 3, seed) - 0.62)
    inside = np.minimum(np.minimum(u, 52.0 - u), np.minimum(v, 72.0 - v))
    sheet = step(inside - np.maximum(tear, 0.0), -0.2, 0.2)
    crease = spline_noise(x, y, (9.0, 13.0), seed + 1)
    picture = mix(plain(paper, u.shape), (210.0, 96.0, 52.0), step(v, 30.0, 8.0))
    sun_x, sun_y = u - 34.0, v - 17.0
    sun = np.sqrt(sun_x * sun_x + sun_y * sun_y)
    picture = mix(picture, (250.0, 236.0, 180.0), step(sun, 7.6, 7.0))
    ridge = 24.0 + 10.0 * (spline_noise(x, np.zeros(1), (11.0, 1.0), seed + 2)[0] - 0.5)
    picture = mix(picture, (46.0, 62.0, 92.0), step(v - ridge[None, :], -0.3, 0.3))
    picture = mix(picture, paper, step(v, 38.6, 39.2))
    line = np.floor((v - 42.0) / 5.0)
    letter = np.floor(u / 2.4)
    ink = uniform(letter.astype(np.int64), line.astype(np.int64), seed + 3)
    bold = (v - 42.0) / 5.0 - line
    glyph = (ink > 0.28) & (v > 42.0) & (v < 67.0) & (u > 5.0) & (u < 47.0)
    printed = glyph * step(np.abs(bold - 0.45), 0.33, 0.25)
    picture = mix(picture, (38.0, 34.0, 40.0), printed * (0.55 + 0.45 * ink))
    picture = picture * (0.84 + 0.3 * crease)[..., None]
    shadow = step(inside - np.maximum(tear, 0.0), -2.2, 0.0)
    return mix(mix(image, (30.0, 24.0, 22.0), 0.45 * shadow), picture, sheet)
