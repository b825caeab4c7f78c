"""A folder of frames read as a clip."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stnls_cli.errors import DamagedClipError, UserError
from stnls_cli.video.base import Clip
from stnls_cli.video.frames import FrameMaker
from stnls_cli.video.images import IMAGE_KINDS, BadImageError, decode_image, image_size
from stnls_cli.video.info import ClipInfo, Frame
from stnls_cli.video.kinds import no_frames


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which `frame10` follows `frame9`."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]


def list_frames(folder: Path) -> list[Path]:
    """The frames of a folder in natural order; hidden files and other kinds are passed over."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror or error}") from None
    names = [entry for entry in entries if not entry.name.startswith(".")]
    frames = [f for f in names if f.suffix.lower() in IMAGE_KINDS and f.is_file()]
    if not frames:
        raise no_frames(folder, names, IMAGE_KINDS)
    kinds = Counter(IMAGE_KINDS[f.suffix.lower()] for f in frames)
    if len(kinds) > 1:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise UserError(f"{folder}: frames of several kinds ({found}): keep one kind in the folder")
    return sorted(frames, key=lambda f: (natural_key(f.name), f.name))


class FolderClip(Clip):
    """Images of a folder as frames; they have no rate and no times."""

    def __init__(
        self,
        folder: Path,
        start: int,
        frames: int | None,
        size: tuple[int, int] | None,
        allow_damaged: bool,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._start = start
        self._allow_damaged = allow_damaged
        everything = list_frames(folder)
        if start >= len(everything):
            raise UserError(
                f"{folder}: --start {start} is beyond the end: the folder has {len(everything)} "
                f"{'frame' if len(everything) == 1 else 'frames'}, counted from 0"
            )
        end = len(everything) if frames is None else start + frames
        self._files = everything[start:end]
        self._check_sizes()
        # The first file that decodes settles depth and size.
        for file in self._files:
            try:
                first, codec = decode_image(file)
                break
            except BadImageError as error:
                if not allow_damaged:
                    raise DamagedClipError(str(error), "--allow-damaged leaves it out") from None
        else:
            raise UserError(f"{folder}: no frame could be decoded")
        self._maker = FrameMaker(first, codec, size, stills=True)
        self.info = ClipInfo(
            path=folder,
            stem=Path(os.path.abspath(folder)).name,
            width=self._maker.width,
            height=self._maker.height,
            source_width=first.width,
            source_height=first.height,
            rate=None,
            stream=None,
            frames_expected=len(self._files),
            pixel_format=first.format.name,
            bit_depth=self._maker.layout.bits,
            notes=tuple(self._maker.notes(first)),
            codec=codec,
            frames_estimate=len(self._files),
        )

    def _check_sizes(self) -> None:
        """Compare the headers before any work: a change is better said now than at frame 900."""
        first: tuple[Path, tuple[int, int]] | None = None
        for file in self._files:
            size = image_size(file)
            if size is None:
                continue
            if first is None:
                first = (file, size)
            elif size != first[1]:
                raise self._unequal(first[0], first[1], file, size)

    def _unequal(
        self, file: Path, size: tuple[int, int], other: Path, other_size: tuple[int, int]
    ) -> UserError:
        return UserError(
            f"{self._folder}: frames of unequal size: {file.name} is {size[0]}x{size[1]}, "
            f"{other.name} is {other_size[0]}x{other_size[1]}"
        )

    def _frames(self) -> Iterator[Frame]:
        shown_file: Path | None = None
        # A frame that is left out keeps its number: the others keep theirs.
        for index, file in enumerate(self._files, self._start):
            try:
                frame, _ = decode_image(file)
            except BadImageError as error:
                if not self._allow_damaged:
                    raise DamagedClipError(str(error), "--allow-damaged leaves it out") from None
                self._log.skipped.append(str(error))
                continue
            # Only orientation tags can still differ here; stored sizes were compared above.
            other = self._maker.other_size(frame)
            if other is not None and shown_file is not None:
                raise self._unequal(shown_file, self._maker.shown, file, other)
            shown_file = shown_file or file
            yield self._maker.make(frame, index, None)
