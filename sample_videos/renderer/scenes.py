"""The clips: which surfaces they show, how these move, what the sensor adds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stnls_cli.ground_truth import SCHEMA

from .bookshelf import bookshelf
from .objects import BALL_RADIUS, CRATE_HALF, ball, crate
from .pavement import pavement
from .terrain import terrain
from .texture import Canvas, Texture
from .wall import brick_wall

Rows = list[list[float]]


@dataclass(frozen=True)
class Surface:
    """A layer of a scene: its painter and canvas, its bounds, its transform at frame t."""

    name: str
    paint: Callable[[Canvas], Texture]
    canvas: Canvas
    shape: dict[str, Any] | None
    transform: Callable[[int], Rows]


@dataclass(frozen=True)
class Scene:
    """A clip: size, length, layers (the farthest first), brightness per frame, noise."""

    name: str
    width: int
    height: int
    frames: int
    surfaces: tuple[Surface, ...]
    gain: tuple[float, ...] = ()
    noise: float = 0.0

    def motion_document(self) -> dict[str, Any]:
        """What the motion file says."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "clip": f"{self.name}.mp4",
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "rate": "12/1",
        }
        if self.gain:
            document["gain"] = list(self.gain)
        if self.noise:
            document["noise_sigma"] = self.noise
        document["layers"] = [
            {
                "name": surface.name,
                "shape": surface.shape,
                "transforms": [surface.transform(t) for t in range(self.frames)],
            }
            for surface in self.surfaces
        ]
        return document


def motion_text(document: dict[str, Any]) -> str:
    """The motion file: JSON with one transform a line."""
    head = {key: value for key, value in document.items() if key != "layers"}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    layers = []
    for layer in document["layers"]:
        rows = ",\n".join(f"        {json.dumps(rows)}" for rows in layer["transforms"])
        layers.append(
            f'    {{\n      "name": {json.dumps(layer["name"])},\n'
            f'      "shape": {json.dumps(layer["shape"])},\n'
            f'      "transforms": [\n{rows}\n      ]\n    }}'
        )
    return "\n".join(["{", *lines, '  "layers": [', ",\n".join(layers), "  ]", "}", ""])


def _place(
    point: tuple[float, float],
    at: tuple[float, float],
    degrees: float = 0.0,
    zoom: float = 1.0,
    tilt: tuple[float, float] = (0.0, 0.0),
) -> Rows:
    """Transform that turns and zooms a layer and puts its `point` at frame position `at`.

    `tilt` is the perspective row. Rounded, so that the last bits of sine and cosine,
    which differ between machines, reach neither the motion file nor the pixels.
    """
    cos = zoom * math.cos(math.radians(degrees))
    sin = zoom * math.sin(math.radians(degrees))
    g, h = tilt
    # The linear part about `point`, then the perspective, then the shift to `at`.
    a, b, d, e = cos + at[0] * g, -sin + at[0] * h, sin + at[1] * g, cos + at[1] * h
    rows = [
        [a, b, at[0] - a * point[0] - b * point[1]],
        [d, e, at[1] - d * point[0] - e * point[1]],
        [g, h, 1.0 - g * point[0] - h * point[1]],
    ]
    return [[round(number, 9) + 0.0 for number in row] for row in rows]


def _pan_zoom(t: int) -> Rows:
    focus = (170.0 + 5.3 * t, 108.0 + 2.63 * t + 3.0 * math.sin(0.9 * t))
    return _place(focus, (159.5, 95.5), 0.0, 1.016**t)


def _turn(t: int) -> Rows:
    return _place((0.0, 0.0), (127.0, 74.0), 3.0 * t, 1.004**t)


def _wall(t: int) -> Rows:
    return _place((0.0, 0.0), (-2.0 - 1.7 * t, -6.0 + 0.35 * t))


def _ball(t: int) -> Rows:
    return _place((0.0, 0.0), (-12.0 + 27.3 * t, 146.0 - 17.0 * t + 1.5 * t * t), 16.0 * t)


def _crate(t: int) -> Rows:
    return _place((0.0, 0.0), (226.0 - 4.6 * t, 142.0 - 0.4 * t), -4.0 + 0.9 * t)


def _hand_held(t: int) -> Rows:
    at = (95.5 + 3.1 * math.sin(1.3 * t) + 0.8 * t, 63.5 + 2.3 * math.sin(2.1 * t + 1.0))
    tilt = (0.0005 * math.sin(0.7 * t), 0.0003 * math.sin(1.1 * t))
    return _place((110.0, 84.0), at, 1.2 * math.sin(0.8 * t), 1.0 + 0.006 * t, tilt)


_CRATE_CORNERS = [[sx * CRATE_HALF[0], sy * CRATE_HALF[1]]
                  for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]  # fmt: skip

SCENES = (
    Scene(
        "pan_zoom", 320, 192, 12,
        (Surface("land", terrain, Canvas(2.0, 4.0, 368, 226), None, _pan_zoom),),
    ),
    Scene(
        "rotation", 256, 160, 12,
        (Surface("pavement", pavement, Canvas(-160.0, -160.0, 320, 320), None, _turn),),
    ),
    Scene(
        "occlusion", 320, 192, 12,
        (
            Surface("wall", brick_wall, Canvas(-2.0, -2.0, 348, 206), None, _wall),
            Surface(
                "ball", ball, Canvas(-31.0, -31.0, 62, 62),
                {"kind": "ellipse", "centre": [0.0, 0.0], "radii": [BALL_RADIUS, BALL_RADIUS]},
                _ball,
            ),
            Surface(
                "crate", crate, Canvas(-41.0, -35.0, 82, 70),
                {"kind": "polygon", "points": _CRATE_CORNERS},
                _crate,
            ),
        ),
    ),
    Scene(
        "flicker", 192, 128, 10,
        (Surface("bookshelf", bookshelf, Canvas(-10.0, -10.0, 240, 190), None, _hand_held),),
        gain=(1.0, 0.86, 1.08, 0.94, 1.12, 0.8, 1.0, 1.15, 0.9, 1.04),
        noise=6.0,
    ),
)  # fmt: skip
