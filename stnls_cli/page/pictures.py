"""Pictures of one pair of frames, small enough for a page, as JPEG files in a folder."""

from __future__ import annotations

import functools
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stnls_cli.arrays import PARSING
from stnls_cli.colour_wheel import Pixels, wheel_colours
from stnls_cli.errors import UserError
from stnls_cli.report.plain import plain
from stnls_cli.storage import storage_errors, write_text

MOST_PIXELS_ACROSS = 640
QUALITY = 88
HEAT_RANGE = 64.0
"""Grey levels of error at the bright end of every heat map: one scale for all pages."""
HEAT_COLOURS = "inferno"
JSON_NAME = "pair.json"


@dataclass(frozen=True)
class PairPictures:
    """Pictures of a pair by name, as JPEG, and what the captions say of them.

    `told`: clip, t, dt, the PSNR by method, the scale of the motion in pixels.
    """

    images: dict[str, bytes]
    told: dict[str, Any]


@dataclass(frozen=True)
class SmallPair:
    """What the pictures of a pair are made of, shrunk: little to keep until it is known which
    pairs are shown.

    By name: `frames` (3, h, w) uint8, `errors` (h, w), the mean absolute difference from the
    reference, and `motions` (2, h, w) in pixels; `lengths` of the motion at some places.
    """

    frames: dict[str, Tensor]
    errors: dict[str, Tensor]
    motions: dict[str, Tensor]
    lengths: Tensor


def shrink_pair(
    *,
    reference: Tensor,
    neighbour: Tensor,
    aligned: Mapping[str, Tensor],
    motions: Mapping[str, Tensor],
) -> SmallPair:
    """Shrinks a frame, its neighbour, and the neighbour aligned by each method, on their device.

    Frames are (3, H, W) on the 0-255 scale, `motions` (2, H, W) = (dx, dy) in pixels, both by
    method.
    """
    frames = {"reference": reference, "neighbour": neighbour, **aligned}
    errors = {"neighbour": neighbour, **aligned}
    return SmallPair(
        {name: _levels(_small(frame)) for name, frame in frames.items()},
        {name: _small((frame - reference).abs().mean(0)) for name, frame in errors.items()},
        {name: _small(motion) for name, motion in motions.items()},
        torch.cat([*map(_some_lengths, motions.values()), reference.new_zeros(0)]),
    )


def paint_pair(
    small: SmallPair, *, clip: str, t: int, dt: int, scores: Mapping[str, float | None]
) -> PairPictures:
    """Pictures of frame t and its neighbour t + dt. All motions have the colours of one scale."""
    images = {name: _frame(frame) for name, frame in small.frames.items()}
    images.update({f"error {name}": _heat(error) for name, error in small.errors.items()})
    longest = 0.0
    if small.motions:
        longest = max(float(torch.quantile(small.lengths.cpu(), 0.99)), 0.5)
        for name, motion in small.motions.items():
            images[f"motion {name}"] = jpeg(wheel_colours(motion, longest))
    told = {
        "clip": clip,
        "t": t,
        "dt": dt,
        "psnr": {name: score for name, score in scores.items() if score is not None},
        "motion_scale": round(longest, 2),
        "images": list(images),
    }
    return PairPictures(images, told)


def save_small_pair(path: Path, small: SmallPair) -> None:
    """Keeps a pair for `load_small_pair`; the file is whole or absent."""
    arrays: dict[str, Any] = {"lengths": small.lengths.cpu().numpy()}
    for kind in ("frames", "errors", "motions"):
        for name, values in getattr(small, kind).items():
            arrays[f"{kind} {name}"] = values.cpu().numpy()
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)


def load_small_pair(path: Path) -> SmallPair:
    """The inverse of `save_small_pair`."""
    kinds: dict[str, dict[str, Tensor]] = {"frames": {}, "errors": {}, "motions": {}}
    with PARSING, storage_errors(path, "read"), np.load(path) as stored:
        for key in stored.files:
            kind, _, name = key.partition(" ")
            if kind in kinds:
                kinds[kind][name] = torch.from_numpy(stored[key])
        return SmallPair(**kinds, lengths=torch.from_numpy(stored["lengths"]))


def save_pair(folder: Path, pictures: PairPictures) -> None:
    """Writes the pictures into `folder`, which is whole or absent."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    with storage_errors(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, data in pictures.images.items():
            (temporary / _file(name)).write_bytes(data)
        write_text(temporary / JSON_NAME, json.dumps(plain(pictures.told), allow_nan=False) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)


def load_pair(folder: Path) -> PairPictures:
    """The inverse of `save_pair`; UserError where something is missing."""
    try:
        told = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
        images = {name: (folder / _file(name)).read_bytes() for name in told["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: the stored pictures cannot be read ({error})") from None
    return PairPictures(images, told)


def jpeg(pixels: Pixels) -> bytes:
    """(H, W, 3) as a JPEG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _heat(error: Tensor) -> bytes:
    levels = (error * (256 / HEAT_RANGE)).nan_to_num().clamp(0, 255)
    return jpeg(_heat_colours()[levels.cpu().numpy().astype(np.uint8)])


@functools.cache
def _heat_colours() -> Pixels:
    """Of 256 levels, (256, 3)."""
    from matplotlib import colormaps

    colours: Pixels = np.rint(colormaps[HEAT_COLOURS](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return colours


def _frame(frame: Tensor) -> bytes:
    return jpeg(frame.permute(1, 2, 0).contiguous().cpu().numpy())


def _small(values: Tensor) -> Tensor:
    """(..., H, W) averaged down to at most 640 columns. Where these are no whole number of columns
    each, a GPU averages over all that they touch, a CPU by how far they do."""
    height, width = values.shape[-2:]
    if width <= MOST_PIXELS_ACROSS:
        return values.float()
    size = (max(1, round(height * MOST_PIXELS_ACROSS / width)), MOST_PIXELS_ACROSS)
    planes = values.float().reshape(-1, height, width)
    if planes.device.type == "cpu":  # several times as fast there
        small = torch.stack([_shrunk(plane, size) for plane in planes])
    else:
        small = interpolate(planes[None], size=size, mode="area")
    return small.reshape(*values.shape[:-2], *size)


def _shrunk(plane: Tensor, size: tuple[int, int]) -> Tensor:
    import cv2

    small = cv2.resize(plane.numpy(), size[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small)


def _levels(frame: Tensor) -> Tensor:
    return frame.clamp(0, 255).round().to(torch.uint8)


def _some_lengths(motion: Tensor) -> Tensor:
    """Of a motion (2, H, W), in pixels, at some 65,536 places or all."""
    places = motion.flatten(1)
    return places[:, :: max(1, places.shape[1] // 65536)].float().square().sum(0).sqrt()


def _file(name: str) -> str:
    return name.replace(" ", "-") + ".jpg"
