"""Still images, decoded by FFmpeg from their bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from stnls_cli.errors import UserError
from stnls_cli.video.container import hush

if TYPE_CHECKING:
    import av

# One name for each kind; extensions that mean the same share it.
IMAGE_KINDS = {
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".tif": "tif",
    ".tiff": "tif",
    ".bmp": "bmp",
    ".webp": "webp",
    ".ppm": "ppm",
    ".pgm": "ppm",
    ".pbm": "ppm",
    ".pnm": "ppm",
    ".pam": "ppm",
    ".jp2": "jp2",
}


class BadImageError(UserError):
    """An image file that does not decode; the message names it."""


def decode_image(path: Path) -> tuple[av.VideoFrame, str]:
    """First picture in an image file, and the name of its codec."""
    import av

    hush()
    data = _read(path)
    if _jpeg_cut(data):
        raise BadImageError(f"{path}: truncated JPEG (its end marker is missing)")
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            codec = stream.codec_context.codec.canonical_name
    except (av.FFmpegError, OSError, ValueError, IndexError, StopIteration):
        raise BadImageError(f"{path}: not an image that FFmpeg can decode") from None
    if frame.is_corrupt:
        raise BadImageError(f"{path}: damaged image")
    return frame, codec


def image_size(path: Path) -> tuple[int, int] | None:
    """Stored (width, height) from the header alone; None when it cannot be told."""
    import av

    hush()
    try:
        with path.open("rb") as file, av.open(file, mode="r") as container:
            context = container.streams.video[0].codec_context
            return (context.width, context.height) if context.width else None
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data:
        raise BadImageError(f"{path}: the file is empty (0 bytes)")
    return data


def _jpeg_cut(data: bytes) -> bool:
    # FFmpeg fills the missing part of a cut JPEG with grey and says nothing. Inside the scan every
    # 0xFF is escaped, so an end marker behind the last scan header is a real one.
    return data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
