"""0-255 values to stored samples, and samples to FFmpeg's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av


def to_uint8(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    """0-255 values clipped and rounded to 8 bits."""
    if rgb.dtype == np.uint8:
        return rgb
    rounded: NDArray[np.uint8] = np.rint(np.clip(rgb, 0, 255)).astype(np.uint8)
    return rounded


def to_uint16(rgb: NDArray[Any]) -> NDArray[np.uint16]:
    """0-255 values as 0-65535, clipped and rounded (an 8-bit level is 257)."""
    clipped = np.clip(rgb.astype(np.float32), 0, 255)
    rounded: NDArray[np.uint16] = np.rint(clipped * np.float32(257)).astype(np.uint16)
    return rounded


def packed_frame(pixels: NDArray[Any], pixel_format: str) -> av.VideoFrame:
    """(H, W, C) samples as a frame of a packed format, byte for byte."""
    import av

    height, width, _ = pixels.shape
    frame = av.VideoFrame(width, height, pixel_format)
    target = frame.planes[0]
    rows = np.zeros((height, target.line_size), np.uint8)
    samples = np.ascontiguousarray(pixels).reshape(height, -1).view(np.uint8)
    rows[:, : samples.shape[1]] = samples
    target.update(rows.tobytes())
    return frame


def planar_frame(pixels: NDArray[np.uint16]) -> av.VideoFrame:
    """(H, W, 3) 16-bit RGB as a `gbrp16le` frame."""
    import av

    height, width, _ = pixels.shape
    frame = av.VideoFrame(width, height, "gbrp16le")
    for number, channel in enumerate((1, 2, 0)):
        target = frame.planes[number]
        rows = np.zeros((height, target.line_size // 2), "<u2")
        rows[:, :width] = pixels[..., channel]
        target.update(rows.tobytes())
    return frame
