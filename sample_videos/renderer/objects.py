"""What moves in front of the wall: a wooden crate and a painted ball."""

from __future__ import annotations

import numpy as np

from .noise import fractal_noise, spline_noise, uniform
from .paint import light, mix, plain, ramp, step
from .texture import Canvas, Texture

CRATE_HALF = (37.0, 31.0)  # half the crate's width and height
BALL_RADIUS = 27.0
_BALL_COLOURS = ((214.0, 48.0, 44.0), (240.0, 232.0, 214.0), (42.0, 96.0, 178.0))


def crate(canvas: Canvas, seed: int = 7) -> Texture:
    """Planks between a frame, a brace across, nails and a stencil; centred at the origin."""
    x, y = canvas.x, canvas.y
    u = np.broadcast_to(x[None, :], (len(y), len(x)))
    v = np.broadcast_to(y[:, None], u.shape)
    half_u, half_v = CRATE_HALF
    grain_across = fractal_noise(x, y, (46.0, 2.6), 3, seed, 0.6)
    grain_down = fractal_noise(x, y, (2.6, 46.0), 3, seed + 1, 0.6)
    frame_side = step(half_u - np.abs(u), 9.3, 8.8)
    frame_end = step(half_v - np.abs(v), 9.3, 8.8)
    slant = v * 0.78 - u * 0.625
    brace = step(np.abs(slant), 6.2, 5.7) * (1.0 - frame_side) * (1.0 - frame_end)
    upright = np.maximum(frame_side * (1.0 - frame_end), 0.0)

    plank = np.floor((v + half_v) / 10.4)
    within = (v + half_v) / 10.4 - plank
    joint = step(np.minimum(within, 1.0 - within), 0.0, 0.09)
    tone = uniform(plank.astype(np.int64), np.zeros((), np.int64), seed + 2)
    wood = [(0.15, (104.0, 70.0, 38.0)), (0.5, (168.0, 122.0, 70.0)), (0.9, (204.0, 166.0, 108.0))]
    image = ramp(0.7 * grain_across + 0.3 * tone, wood) * (0.35 + 0.5 * joint)[..., None]
    letters = (np.abs(u - 10.0) < 14.0) & (np.abs(v - 10.0) < 5.0)
    stencil = uniform(
        np.floor(u / 3.1).astype(np.int64), np.floor(v / 3.4).astype(np.int64), seed + 3
    )
    image = mix(image, (40.0, 34.0, 30.0), np.where(letters & (stencil > 0.45), 0.75, 0.0))
    image = mix(image, ramp(0.15 + 0.8 * grain_across, wood), brace)
    image = mix(image, ramp(0.2 + 0.8 * grain_across, wood), frame_end)
    image = mix(image, ramp(0.1 + 0.85 * grain_down, wood), upright)
    raised = np.maximum(np.maximum(frame_end, upright), 0.7 * brace)
    image = image * light(3.0 * raised + 0.5 * grain_across, 0.7)[..., None]
    for nail_u in (-1.0, 1.0):
        for nail_v in (-2.0, -1.0, 1.0, 2.0):
            right, down = u - nail_u * (half_u - 4.6), v - nail_v * (half_v / 2.0 - 2.3)
            away = np.sqrt(right * right + down * down)
            image = mix(image, (46.0, 42.0, 42.0), step(away, 1.7, 1.0))
    border = np.minimum(half_u - np.abs(u), half_v - np.abs(v))
    image = image * (0.55 + 0.45 * step(border, 0.0, 2.2))[..., None]
    image = image * (0.9 + 0.2 * spline_noise(x, y, (1.5, 1.5), seed + 4))[..., None]
    return Texture(canvas, np.clip(image, 0.0, 255.0))


def ball(canvas: Canvas, seed: int = 9) -> Texture:
    """Six painted sectors, dirt and scratches, darker towards the rim; centred at the origin."""
    x, y = canvas.x, canvas.y
    u = np.broadcast_to(x[None, :], (len(y), len(x)))
    v = np.broadcast_to(y[:, None], u.shape)
    away = np.sqrt(u * u + v * v) / BALL_RADIUS
    # Sector edges curve with the distance, as the seams of a ball do.
    swirl = 0.55 * away
    a, b = u - swirl * v, v + swirl * u
    sides = (b, 0.8660254037844386 * a - 0.5 * b, 0.8660254037844386 * a + 0.5 * b)
    first, second, third = (side > 0.0 for side in sides)
    sector = np.select(
        [first & second & third, first & ~second & third, first & ~second & ~third,
         ~first & ~second & ~third, ~first & second & ~third, ~first & second & third],
        [0, 1, 2, 0, 1, 2],
        0,
    )  # fmt: skip
    image = np.array(_BALL_COLOURS)[sector]
    seam = np.minimum(np.minimum(np.abs(sides[0]), np.abs(sides[1])), np.abs(sides[2]))
    image = mix(image, (44.0, 38.0, 40.0), 0.8 * step(seam, 0.9, 0.4))
    image = mix(image, (236.0, 190.0, 60.0), step(away, 0.30, 0.28))
    image = mix(image, (44.0, 38.0, 40.0), 0.8 * step(np.abs(away - 0.30), 0.035, 0.015))
    dirt = fractal_noise(x, y, (13.0, 13.0), 5, seed, 0.6)
    image = image * (0.62 + 0.3 * step(dirt, 0.2, 0.5) + 0.2 * dirt)[..., None]
    scratches = fractal_noise(x, y, (2.0, 22.0), 2, seed + 1)
    image = mix(image, plain((226.0, 222.0, 214.0), u.shape), 0.5 * step(scratches, 0.76, 0.84))
    dome = np.sqrt(np.maximum(0.04, 1.08 - away * away))
    image = image * (0.34 + 0.68 * dome)[..., None]
    return Texture(canvas, np.clip(image, 0.0, 255.0))
