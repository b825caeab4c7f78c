"""Frames out: images and arrays here, video in `video_writer`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stnls_cli.arrays import load_array
from stnls_cli.errors import UserError
from stnls_cli.video.atomic import temporary
from stnls_cli.video.frames import FrameMaker
from stnls_cli.video.images import decode_image
from stnls_cli.video.info import Pixels
from stnls_cli.video.png import encode_png
from stnls_cli.video.samples import to_uint8, to_uint16
from stnls_cli.video.video_writer import VideoWriter

__all__ = ["IMAGE_SUFFIX", "VideoWriter", "read_image", "write_image"]

IMAGE_SUFFIX: dict[str, str] = {"png": ".png", "png16": ".png", "npy": ".npy"}


def write_image(path: Path | str, rgb: Pixels, format: str = "png") -> None:
    """Write (H, W, 3) values on the 0-255 scale.

    `png`: 8 bits, rounded. `png16`: 16 bits, 255 is 65535. `npy`: float32 as they are.
    """
    path = Path(path)
    if format not in IMAGE_SUFFIX:
        raise ValueError(f"format {format!r}: one of {', '.join(IMAGE_SUFFIX)}")
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"shape {rgb.shape}: (H, W, 3) expected")
    if format == "npy":
        with temporary(path) as name, name.open("wb") as file:
            np.save(file, np.ascontiguousarray(rgb, np.float32))
        return
    data = encode_png(to_uint8(rgb) if format == "png" else to_uint16(rgb))
    with temporary(path) as name:
        name.write_bytes(data)


def read_image(path: Path | str) -> Pixels:
    """(H, W, 3) of an image or `.npy` file: uint8, or float32 on the 0-255 scale when deeper."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        try:
            array = load_array(path)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not a readable .npy file ({error})") from None
        if array.ndim != 3 or array.shape[2] != 3:
            raise UserError(f"{path}: shape {array.shape}, (H, W, 3) expected")
        return array if array.dtype == np.uint8 else array.astype(np.float32)
    frame, codec = decode_image(path)
    return FrameMaker(frame, codec, None).make(frame, 0, None).rgb
