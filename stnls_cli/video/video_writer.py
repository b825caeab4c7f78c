"""Lossless video out."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from stnls_cli.video.atomic import temporary_name
from stnls_cli.video.container import hush
from stnls_cli.video.info import Pixels
from stnls_cli.video.samples import packed_frame, planar_frame, to_uint8, to_uint16


class VideoWriter:
    """Lossless RGB video, FFV1 in Matroska: what is decoded is what was written.

    8 bits by default (`bgr0`); `bits=16` stores float32 frames at 257 levels to one (`gbrp16le`).
    The file appears under its name on `close()`; left by an exception, nothing remains.
    `rate` in frames/s, 25 when None. Failures to write are OSErrors.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        rate: Fraction | int | None = None,
        *,
        bits: Literal[8, 16] = 8,
    ) -> None:
        self.path = Path(path)
        self.size = (width, height)
        self.bits = bits
        self.frames = 0
        self._name = temporary_name(self.path)
        self._closed = False
        hush()
        self._guarded(lambda: self._open(Fraction(rate or 25)))

    def _open(self, rate: Fraction) -> None:
        import av

        # FFmpeg would open the file only with the first packet: take its errors now.
        self._name.write_bytes(b"")
        # Bit-exact: without a date and random numbers, so that the same frames are the same file.
        self._container = av.open(
            f"file:{self._name}", "w", format="matroska", options={"fflags": "+bitexact"}
        )
        stream: Any = self._container.add_stream("ffv1", rate=rate)
        stream.width, stream.height = self.size
        stream.pix_fmt = "bgr0" if self.bits == 8 else "gbrp16le"
        stream.time_base = 1 / rate
        # Version 3 in slices with checksums: coded in parallel, damage is detected.
        stream.codec_context.options = {"level": "3", "slicecrc": "1"}
        if min(self.size) < 16:
            # FFmpeg finds no way to slice a picture one pixel wide.
            stream.codec_context.options["slices"] = "1"
        stream.codec_context.thread_count = 0
        self._stream = stream

    def write(self, rgb: Pixels) -> None:
        """Add one (height, width, 3) frame on the 0-255 scale."""
        width, height = self.size
        if rgb.shape != (height, width, 3):
            raise ValueError(f"frame of shape {rgb.shape}, ({height}, {width}, 3) expected")
        self._guarded(lambda: self._write(rgb))

    def _write(self, rgb: Pixels) -> None:
        if self.bits == 8:
            pixels = np.zeros((*rgb.shape[:2], 4), np.uint8)
            pixels[..., :3] = to_uint8(rgb)[..., ::-1]
            frame = packed_frame(pixels, "bgr0")
        else:
            frame = planar_frame(to_uint16(rgb))
        frame.pts = self.frames
        frame.time_base = self._stream.time_base
        self.frames += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._closed:
            return
        self._guarded(self._finish)
        self._closed = True

    def _finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        os.replace(self._name, self.path)

    def discard(self) -> None:
        """Give up: nothing remains."""
        if self._closed:
            return
        self._closed = True
        container = getattr(self, "_container", None)
        if container is not None:
            import av

            try:
                container.close()
            except (av.FFmpegError, OSError):
                # The trailer cannot be written either; the file goes anyway.
                self.frames = 0
        self._name.unlink(missing_ok=True)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Run; on failure leave no file, and raise FFmpeg's I/O errors as plain OSErrors."""
        import av

        try:
            action()
        except BaseException as error:
            self.discard()
            if isinstance(error, av.FFmpegError):
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            raise

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
