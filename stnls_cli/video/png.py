"""PNG files, encoded by FFmpeg."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stnls_cli.video.container import hush

# Level 1 with the "sub" filter: 25 ms and 0.54 MB for an 854x480 frame of real footage; level 6
# takes five times as long to save a tenth.
PNG_OPTIONS = {"compression_level": "1", "pred": "sub"}

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_kept = threading.local()


class PngEncoder:
    """Encodes images of one size and depth, one after the other.

    Setting up an encoder and a frame keeps all other threads of Python waiting, encoding and
    copying do not: many threads that write need an encoder each, which they keep.
    """

    def __init__(self, height: int, width: int, deep: bool) -> None:
        import av
        from av.codec.context import CodecContext

        hush()
        self.kind = (height, width, deep)
        context: Any = CodecContext.create("png", "w")
        context.width, context.height = width, height
        context.pix_fmt = "rgb48be" if deep else "rgb24"
        context.time_base = Fraction(1, 25)
        context.options = dict(PNG_OPTIONS)
        self._context = context
        self._frame = av.VideoFrame(width, height, context.pix_fmt)
        plane = self._frame.planes[0]
        samples = np.frombuffer(memoryview(plane), ">u2" if deep else np.uint8)
        rows = samples.reshape(height, plane.line_size // samples.itemsize)
        self._pixels = rows[:, : 3 * width].reshape(height, width, 3)

    def encode(self, pixels: Samples) -> memoryview:
        """The file of an image (H, W, 3), whose depth and size are the encoder's."""
        np.copyto(self._pixels, pixels)
        # PNG has no frames that lean on others: each leaves as it is put in.
        (packet,) = self._context.encode(self._frame)
        return memoryview(packet)


def encode_png(pixels: Samples) -> memoryview:
    """An 8- or 16-bit RGB PNG file of an image (H, W, 3)."""
    height, width, _ = pixels.shape
    kind = (height, width, pixels.dtype == np.uint16)
    encoder: PngEncoder | None = getattr(_kept, "encoder", None)
    if encoder is None or encoder.kind != kind:
        encoder = PngEncoder(*kind)
    # Not kept behind a failure, whatever state that leaves it in.
    _kept.encoder = None
    data = encoder.encode(pixels)
    _kept.encoder = encoder
    return data
