"""What is said of a clip that has fewer frames than a job needs, or than were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stnls_cli.errors import UserError
from stnls_cli.video.images import IMAGE_KINDS

if TYPE_CHECKING:
    from stnls_cli.options import AlignOptions
    from stnls_cli.video import ClipInfo


def single_frame(info: ClipInfo, options: AlignOptions, purpose: str) -> UserError:
    """There is no neighbour `purpose`: "to align"."""
    part = options.start > 0 or options.frames is not None
    picture = Path(info.path).suffix.lower() in IMAGE_KINDS and not part
    wanted = "give the folder that holds the frames" if picture else "two frames or more are needed"
    return UserError(
        f"{info.path}: a single frame{' in the part asked for' if part else ''}, so there is no "
        f"neighbour {purpose}; {wanted}"
    )


def fewer_than_asked(options: AlignOptions, count: int) -> str | None:
    """A note, where the clip had only `count` of the frames of --frames."""
    if options.frames is None or count >= options.frames:
        return None
    return f"--frames {options.frames}: only {count} were there"
