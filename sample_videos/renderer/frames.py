"""Frames of a scene: the layers composed back to front, then the sensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stnls_cli.ground_truth import Layer, Motion, parse_motion

from .noise import Floats, normal
from .scenes import Scene
from .texture import Texture

# Samples of the footprint that an edge is averaged over, each way, and its size in pixels.
EDGE_SAMPLES = 4
EDGE_WIDTH = 1.25


def render(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3) of the clip, RGB."""
    motion = parse_motion(scene.motion_document(), scene.name)
    textures = [surface.paint(surface.canvas) for surface in scene.surfaces]
    for t in range(motion.frames):
        image = _compose(motion, textures, t) * motion.gain[t]
        if motion.noise_sigma:
            planes = [normal(motion.height, motion.width, 3 * t + c) for c in range(3)]
            image = image + motion.noise_sigma * np.stack(planes, axis=-1)
        yield np.clip(np.floor(image + 0.5), 0.0, 255.0).astype(np.uint8)


def _compose(motion: Motion, textures: list[Texture], t: int) -> Floats:
    x, y = motion.pixel_centres()
    image = np.zeros((motion.height, motion.width, 3))
    for layer, texture in zip(motion.layers, textures, strict=True):
        share = _coverage(layer, t, x, y)
        part = share > 0.0
        if part.any():
            colours = texture.sample(*layer.to_layer(t, x[part], y[part]))
            image[part] += (colours - image[part]) * share[part][:, None]
    return image


def _coverage(layer: Layer, t: int, x: Floats, y: Floats) -> Floats:
    """Share of each pixel that the layer covers."""
    if layer.shape is None:
        return np.ones(x.shape)
    count = np.zeros(x.shape)
    for row in range(EDGE_SAMPLES):
        for column in range(EDGE_SAMPLES):
            right = ((column + 0.5) / EDGE_SAMPLES - 0.5) * EDGE_WIDTH
            down = ((row + 0.5) / EDGE_SAMPLES - 0.5) * EDGE_WIDTH
            count += layer.covers(t, x + right, y + down)
    return count / float(EDGE_SAMPLES * EDGE_SAMPLES)
