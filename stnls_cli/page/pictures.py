"""Pictures of one pair of frames, small enough for a page, as JPEG files in a folder."""

from __future__ import annotations

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


def draw_pair(
    *,
    clip: str,
    t: int,
    dt: int,
    reference: Tensor,
    neighbour: Tensor,
    aligned: Mapping[str, Tensor],
    motions: Mapping[str, Tensor],
    scores: Mapping[str, float | None],
) -> PairPictures:
    """Pictures of frame t, its neighbour t + dt, and the neighbour aligned by each method.

    Frames are (3, H, W) on the 0-255 scale, `motions` (2, H, W) = (dx, dy) in pixels, both by
    method. All motions have the colours of one scale.
    """
    images = {"reference": _frame(reference), "neighbour": _frame(neighbour)}
    errors = {"neighbour": neighbour, **aligned}
    for name, frame in aligned.items():
        images[name] = _frame(frame)
    for name, frame in errors.items():
        images[f"error {name}"] = _heat((frame - reference).abs().mean(0))
    longest = 0.0
    if motions:
        lengths = [motion.square().sum(0).sqrt().flatten() for motion in motions.values()]
        every = torch.cat([length[:: max(1, length.numel() // 65536)] for length in lengths])
        longest = max(float(torch.quantile(every.float(), 0.99)), 0.5)
        for name, motion in motions.items():
            images[f"motion {name}"] = jpeg(wheel_colours(_small(motion), longest))
    told = {
        "clip": clip,
        "t": t,
        "dt": dt,
        "psnr": {name: score for name, score in scores.items() if score is not None},
        "motion_scale": round(longest, 2),
        "images": list(images),
    }
    return PairPictures(images, told)


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
    from matplotlib import colormaps

    share = (_small(error[None])[0] / HEAT_RANGE).clamp(0, 1).cpu().numpy()
    return jpeg(np.rint(colormaps[HEAT_COLOURS](share)[..., :3] * 255).astype(np.uint8))


def _frame(frame: Tensor) -> bytes:
    small = _small(frame).clamp(0, 255).round().to(torch.uint8)
    return jpeg(small.permute(1, 2, 0).contiguous().cpu().numpy())


def _small(values: Tensor) -> Tensor:
    """Averaged down to at most 640 columns."""
    width = values.shape[-1]
    if width <= MOST_PIXELS_ACROSS:
        return values.float()
    height = max(1, round(values.shape[-2] * MOST_PIXELS_ACROSS / width))
    size = (height, MOST_PIXELS_ACROSS)
    return interpolate(values[None].float(), size=size, mode="area")[0]


def _file(name: str) -> str:
    return name.replace(" ", "-") + ".jpg"
