"""A layer's texture: painted finely, band-limited once, then sampled for every frame."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from .noise import Floats

PAINT_DENSITY = 4  # painted samples per pixel of the layer's plane, each way
TEXEL_DENSITY = 2  # stored samples per pixel, after the blur
# Half the weights of the blur (binomial), over painted samples: variance 5.5, so 0.59 px
# standard deviation, about a sharp lens on a sensor. What is left is well below the texels'
# Nyquist limit, and nearly below the frame's. The blur belongs to the surface, so a surface
# point has the same colour in every frame.
_BLUR = tuple(float(comb(22, tap)) for tap in range(12))


@dataclass(frozen=True)
class Canvas:
    """Painted region of a layer's plane: its corner, its size in pixels."""

    left: float
    top: float
    width: int
    height: int

    @property
    def x(self) -> Floats:
        """Layer x of the painted columns."""
        count = self.width * PAINT_DENSITY
        return self.left + (np.arange(count, dtype=np.float64) + 0.5) / PAINT_DENSITY

    @property
    def y(self) -> Floats:
        """Layer y of the painted rows."""
        count = self.height * PAINT_DENSITY
        return self.top + (np.arange(count, dtype=np.float64) + 0.5) / PAINT_DENSITY


class Texture:
    """Colours of a layer, at any point of its canvas."""

    def __init__(self, canvas: Canvas, painted: Floats) -> None:
        """`painted`: (rows, columns, 3) on the canvas, 0 to 255."""
        self._canvas = canvas
        soft = _blur(_blur(painted).swapaxes(0, 1)).swapaxes(0, 1)
        step = PAINT_DENSITY // TEXEL_DENSITY
        rows, columns = soft.shape[0] // step, soft.shape[1] // step
        total = np.zeros((rows, columns, 3))
        for row in range(step):
            for column in range(step):
                total += soft[row::step, column::step]
        self._texels = total / float(step * step)

    def sample(self, x: Floats, y: Floats) -> Floats:
        """Colours (..., 3) at the layer positions (x, y): cubic interpolation of the texels."""
        column, weights_x = _cubic((x - self._canvas.left) * TEXEL_DENSITY - 0.5)
        row, weights_y = _cubic((y - self._canvas.top) * TEXEL_DENSITY - 0.5)
        rows, columns = self._texels.shape[:2]
        if min(row.min(), column.min()) < 0 or row.max() + 3 >= rows or column.max() + 3 >= columns:
            raise ValueError("a layer is sampled outside its painted canvas")
        out = np.zeros((*np.shape(x), 3))
        for j in range(4):
            line = np.zeros_like(out)
            for i in range(4):
                line += weights_x[i][..., None] * self._texels[row + j, column + i]
            out += weights_y[j][..., None] * line
        return out


def _blur(image: Floats) -> Floats:
    reach = len(_BLUR) - 1
    rows = image.shape[0]
    padded = np.pad(image, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    out = _BLUR[-1] * image
    for tap in range(reach):
        ahead = padded[tap : tap + rows]
        behind = padded[2 * reach - tap : 2 * reach - tap + rows]
        out = out + _BLUR[tap] * (ahead + behind)
    return out / float(2 * sum(_BLUR[:-1]) + _BLUR[-1])


def _cubic(position: Floats) -> tuple[NDArray[np.int64], tuple[Floats, ...]]:
    """First texel and the four weights of Keys' cubic (a = -1/2)."""
    base = np.floor(position)
    f = position - base
    weights = (
        ((2.0 - f) * f - 1.0) * f * 0.5,
        ((3.0 * f - 5.0) * f * f + 2.0) * 0.5,
        ((4.0 - 3.0 * f) * f + 1.0) * f * 0.5,
        (f - 1.0) * f * f * 0.5,
    )
    return base.astype(np.int64) - 1, weights
