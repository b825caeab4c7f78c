"""Exact flow and visibility of a rendered clip, from the motion file beside it.

A motion file describes a scene of flat layers, back to front. Each layer has one 3x3
transform per frame, from the layer's own plane to frame pixels (x right, y down, pixel
centres at whole numbers), and a shape that bounds it in its own plane. A surface point
therefore keeps its layer coordinates for the whole clip, and the flow of a pixel is the
way of its surface point: no estimate is involved anywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stnls_cli.errors import UserError

Floats = NDArray[np.float64]
Matrix = tuple[float, float, float, float, float, float, float, float, float]

SCHEMA = "stnls-motion/1"
# A target this far (pixels) outside the outermost pixel centres still counts as inside:
# a layer at rest must not lose its border to rounding.
BORDER_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Ellipse:
    """Axis-aligned ellipse in the layer's plane, its rim included."""

    centre: tuple[float, float]
    radii: tuple[float, float]

    def contains(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Whether the points lie inside."""
        u = (x - self.centre[0]) / self.radii[0]
        v = (y - self.centre[1]) / self.radii[1]
        inside: NDArray[np.bool_] = u * u + v * v <= 1.0
        return inside


@dataclass(frozen=True)
class Polygon:
    """Polygon in the layer's plane, by the even-odd rule."""

    points: tuple[tuple[float, float], ...]

    def contains(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Whether the points lie inside."""
        inside = np.zeros(np.shape(x), dtype=np.bool_)
        for (x0, y0), (x1, y1) in zip(self.points, self.points[1:] + self.points[:1], strict=True):
            if y0 == y1:
                continue
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < (x1 - x0) * ((y - y0) / (y1 - y0)) + x0)
        return inside


Shape = Ellipse | Polygon


@dataclass(frozen=True)
class Layer:
    """One flat surface: its bounds (None: unbounded) and its way through the clip."""

    name: str
    shape: Shape | None
    transforms: tuple[Matrix, ...]

    def to_frame(self, t: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Frame position, at frame t, of the surface points (x, y)."""
        return _apply(self.transforms[t], x, y)

    def to_layer(self, t: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Surface points of this layer that lie at the positions (x, y) of frame t."""
        return _apply(_inverse(self.transforms[t]), x, y)

    def covers(self, t: int, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Whether the layer lies at the positions (x, y) of frame t."""
        if self.shape is None:
            return np.ones(np.shape(x), dtype=np.bool_)
        return self.shape.contains(*self.to_layer(t, x, y))


@dataclass(frozen=True)
class Motion:
    """Geometry of a clip: size, length and layers, the farthest one first.

    `gain` is the brightness factor of each frame, `noise_sigma` the deviation of the noise
    added after it (0 to 255 scale).
    """

    width: int
    height: int
    frames: int
    rate: Fraction
    layers: tuple[Layer, ...]
    gain: tuple[float, ...]
    noise_sigma: float

    def pixel_centres(self) -> tuple[Floats, Floats]:
        """Frame coordinates (x, y) of every pixel, each (H, W)."""
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        return x, y

    def layer_index(self, t: int) -> NDArray[np.intp]:
        """Index into `layers` of the surface seen at each pixel of frame t, (H, W)."""
        self._check(t, 0)
        return self._front(t, *self.pixel_centres())

    def flow(self, t: int, dt: int) -> NDArray[np.float32]:
        """Exact flow from frame t to t + dt on frame t's grid, (H, W, 2) in pixels, (dx, dy).

        Every pixel has one, those whose surface point is hidden or out of frame included.
        Raises ValueError when t or t + dt is not a frame of the clip.
        """
        self._check(t, dt)
        x, y = self.pixel_centres()
        target_x, target_y, _ = self._follow(t, dt)
        return np.stack([target_x - x, target_y - y], axis=-1).astype(np.float32)

    def visible(self, t: int, dt: int) -> NDArray[np.bool_]:
        """Where the surface point of frame t's pixel is seen in frame t + dt, (H, W).

        Seen means: between the outermost pixel centres, and behind no nearer layer.
        Raises ValueError when t or t + dt is not a frame of the clip.
        """
        self._check(t, dt)
        x, y, index = self._follow(t, dt)
        seen = (x >= -BORDER_TOLERANCE) & (x <= self.width - 1 + BORDER_TOLERANCE)
        seen &= (y >= -BORDER_TOLERANCE) & (y <= self.height - 1 + BORDER_TOLERANCE)
        for number, layer in enumerate(self.layers):
            seen &= ~((number > index) & layer.covers(t + dt, x, y))
        return seen

    def _front(self, t: int, x: Floats, y: Floats) -> NDArray[np.intp]:
        index = np.zeros(np.shape(x), dtype=np.intp)
        for number, layer in enumerate(self.layers):
            index[layer.covers(t, x, y)] = number
        return index

    def _follow(self, t: int, dt: int) -> tuple[Floats, Floats, NDArray[np.intp]]:
        """Position in frame t + dt of each pixel's surface point, and its layer."""
        x, y = self.pixel_centres()
        index = self._front(t, x, y)
        if dt == 0:
            return x, y, index
        target_x, target_y = np.empty_like(x), np.empty_like(y)
        for number, layer in enumerate(self.layers):
            mine = index == number
            surface = layer.to_layer(t, x[mine], y[mine])
            target_x[mine], target_y[mine] = layer.to_frame(t + dt, *surface)
        return target_x, target_y, index

    def _check(self, t: int, dt: int) -> None:
        for frame in (t, t + dt):
            if not 0 <= frame < self.frames:
                raise ValueError(
                    f"t={t}, dt={dt}: frame {frame} is not in the clip (0 to {self.frames - 1})"
                )


def load_motion(path: str | Path) -> Motion:
    """Read a motion file; `UserError` when it is missing or not one."""
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the motion file ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not a motion file, the JSON does not parse ({error})") from error
    return parse_motion(document, str(path))


def parse_motion(document: Any, name: str) -> Motion:
    """The motion that a parsed motion file describes; `name` is for messages."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"{name}: not a motion file (its schema must be {SCHEMA})")
    try:
        motion = Motion(
            width=int(document["width"]),
            height=int(document["height"]),
            frames=int(document["frames"]),
            rate=Fraction(document["rate"]),
            layers=tuple(_layer(layer) for layer in document["layers"]),
            gain=tuple(float(factor) for factor in document.get("gain", [])),
            noise_sigma=float(document.get("noise_sigma", 0.0)),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{name}: damaged motion file ({type(error).__name__}: {error})") from error
    motion = replace(motion, gain=motion.gain or (1.0,) * motion.frames)
    if len(motion.gain) != motion.frames:
        raise UserError(f"{name}: {len(motion.gain)} gains for {motion.frames} frames")
    if not motion.layers or motion.layers[0].shape is not None:
        raise UserError(f"{name}: the first layer must be unbounded (shape null)")
    for layer in motion.layers:
        if len(layer.transforms) != motion.frames:
            raise UserError(
                f"{name}: layer {layer.name} has {len(layer.transforms)} transforms"
                f" for {motion.frames} frames"
            )
    return motion


def _layer(document: dict[str, Any]) -> Layer:
    transforms = tuple(_matrix(rows) for rows in document["transforms"])
    return Layer(str(document["name"]), _shape(document["shape"]), transforms)


def _shape(document: dict[str, Any] | None) -> Shape | None:
    if document is None:
        return None
    if document["kind"] == "ellipse":
        return Ellipse(_pair(document["centre"]), _pair(document["radii"]))
    if document["kind"] == "polygon":
        return Polygon(tuple(_pair(point) for point in document["points"]))
    raise ValueError(f"unknown shape {document['kind']!r}")


def _pair(numbers: Any) -> tuple[float, float]:
    x, y = numbers
    return float(x), float(y)


def _matrix(rows: Any) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = rows
    matrix = tuple(float(number) for number in (a, b, c, d, e, f, g, h, i))
    a, b, c, d, e, f, g, h, i = matrix
    if a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) == 0.0:
        raise ValueError("a transform has no inverse")
    return a, b, c, d, e, f, g, h, i


def _inverse(matrix: Matrix) -> Matrix:
    """Inverse up to a factor, which does not matter in homogeneous coordinates.

    Written out, because the renderer needs the same bits on every machine.
    """
    a, b, c, d, e, f, g, h, i = matrix
    return (
        e * i - f * h,
        c * h - b * i,
        b * f - c * e,
        f * g - d * i,
        a * i - c * g,
        c * d - a * f,
        d * h - e * g,
        b * g - a * h,
        a * e - b * d,
    )


def _apply(matrix: Matrix, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    a, b, c, d, e, f, g, h, i = matrix
    scale = g * x + h * y + i
    return (a * x + b * y + c) / scale, (d * x + e * y + f) / scale
