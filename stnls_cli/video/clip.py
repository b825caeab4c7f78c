"""Opening any clip: a video file or a folder of frames."""

from __future__ import annotations

import os
from pathlib import Path

from stnls_cli.errors import UserError
from stnls_cli.video.base import Clip
from stnls_cli.video.container import import_av
from stnls_cli.video.digest import clip_digest
from stnls_cli.video.file_clip import FileClip
from stnls_cli.video.folder import FolderClip
from stnls_cli.video.info import ClipInfo, Frame
from stnls_cli.video.kinds import no_such_input

# FFmpeg's av_image_check_size.
MOST_PIXELS = (2**31 - 1) // 8

__all__ = ["Clip", "ClipInfo", "Frame", "clip_digest", "open_clip"]


def open_clip(
    path: Path | str,
    *,
    start: int = 0,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    stream: int | None = None,
    allow_damaged: bool = False,
) -> Clip:
    """Open a clip, up to its first frame.

    `start` skips that many frames; `frames` is the most to read (a shorter clip is no error);
    `size` the displayed (width, height) to resize to; `stream` the file's stream number (default:
    FFmpeg's best video stream). A clip that is missing, is no video, or is damaged raises a
    UserError here or while iterating; with `allow_damaged` iteration goes on with what decodes,
    and `Clip.damage` lists what was wrong.
    """
    path = Path(path)
    if start < 0:
        raise UserError(f"--start {start}: must be 0 or more")
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames}: must be 1 or more")
    if size is not None and min(size) < 1:
        raise UserError(f"--size {size[0]}x{size[1]}: must be 1x1 or more")
    if size is not None and (size[0] + 128) * (size[1] + 128) >= MOST_PIXELS:
        raise UserError(f"--size {size[0]}x{size[1]}: more pixels than FFmpeg makes frames of")
    if os.path.isdir(path):  # unlike Path's, no error where the name is too long
        import_av()
        if stream is not None:
            raise UserError(f"{path}: a folder of frames has no streams (--stream {stream})")
        return FolderClip(path, start, frames, size, allow_damaged)
    if not os.path.exists(path):
        raise no_such_input(path)
    if not path.is_file():
        raise UserError(f"{path}: neither a file nor a folder")
    import_av()
    return FileClip(path, start, frames, size, stream, allow_damaged)
