"""Frames out: images and arrays here, video in `video_writer`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stnls_cli.arrays import load_array
from stnls_cli.errors import UserError
from stnls_cli.video.atomic import temporary
from stnls_cli.video.container import hush
from stnls_cli.video.frames import FrameMaker
from stnls_cli.video.images import decode_image
from stnls_cli.video.info import Pixels
from stnls_cli.video.samples import packed_frame, to_uint8, to_uint16
from stnls_cli.video.video_writer import VideoWriter

__all__ = ["IMAGE_SUFFIX", "VideoWriter", "encode_png", "read_image", "write_image"]

IMAGE_SUFFIX: dict[str, str] = {"png": ".png", "png16": ".png", "npy": ".npy"}
# Level 1 with the "sub" filter: 25 ms and 0.54 MB for an 854x480 frame of real footage; level 6
# takes five times as long to save a tenth.
PNG_OPTIONS = {"compression_level": "1", "pred": "sub"}


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


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """An 8- or 16-bit RGB PNG file."""
    import av
    from av.codec.context import CodecContext

    hush()
    deep = pixels.dtype == np.uint16
    height, width, _ = pixels.shape
    context: Any = CodecContext.create("png", "w")
    context.width, context.height = width, height
    context.pix_fmt = "rgb48be" if deep else "rgb24"
    context.time_base = Fraction(1, 25)
    context.options = dict(PNG_OPTIONS)
    frame: Any
    if deep:
        frame = packed_frame(pixels.astype(">u2"), context.pix_fmt)
    else:
        # Without a copy, which would keep other threads waiting.
        frame = av.VideoFrame.from_numpy_buffer(
            np.ascontiguousarray(to_uint8(pixels)), context.pix_fmt
        )
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


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
