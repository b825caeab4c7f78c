"""By which names videos are known, and what to say of a path that is no clip."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from stnls_cli.errors import UserError

VIDEO_KINDS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".y4m", ".gif",
)  # fmt: skip
"""Of the files in a folder; a file that is given by its name may have any."""

SCHEMES = {"http:", "https:", "ftp:", "rtsp:", "rtmp:", "s3:", "file:"}


def no_such_input(path: Path) -> UserError:
    """What to say of a clip that is not there."""
    first = path.parts[0] if path.parts else ""
    if first.lower() not in SCHEMES:
        return UserError(f"{path}: no such file or folder")
    # A path has lost the slashes that an address was given with.
    slashes = "///" if first.lower() == "file:" else "//"
    address = first + slashes + "/".join(path.parts[1:])
    return UserError(f"{address}: addresses of the network are not read; load the file first")


def no_frames(folder: Path, entries: Iterable[Path], images: Collection[str]) -> UserError:
    """What to say of a folder with these visible `entries`, none of them an image of the kinds
    `images`: which clips it holds, if any."""
    ordered = sorted(entries)
    videos = [e for e in ordered if e.suffix.lower() in VIDEO_KINDS and e.is_file()]
    folders = [e for e in ordered if e.is_dir() and _holds(e, images)]
    found: list[str] = []
    named: list[str | Path] = []
    if videos:
        found.append("a video" if len(videos) == 1 else f"{len(videos)} videos")
        named.append(videos[0] if len(videos) == 1 else folder / f"*{videos[0].suffix}")
    if folders:
        single = len(folders) == 1
        found.append("a folder of frames" if single else f"{len(folders)} folders of frames")
        named.append(folders[0] if single else f"{folder / '*'}/")
    if not found:
        return UserError(
            f"{folder}: a folder without frames (looked for {', '.join(sorted(images))})"
        )
    several = len(videos) + len(folders) > 1
    return UserError(
        f"{folder}: a folder without frames, but with {' and '.join(found)}: name "
        f"{'them, for example' if several else 'it:'} {' '.join(map(str, named))}"
    )


def _holds(folder: Path, images: Collection[str]) -> bool:
    try:
        return any(entry.suffix.lower() in images for entry in folder.iterdir())
    except OSError:
        return False
