"""The inputs of a comparison: clips, folders of clips, and earlier runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stnls_cli.errors import UserError
from stnls_cli.report import JSON_NAME, Report, is_report, read_report
from stnls_cli.rundir import is_run
from stnls_cli.video.images import IMAGE_KINDS
from stnls_cli.video.kinds import VIDEO_KINDS, no_such_input

MARK = "stnls-comparison.json"
"""By which the folder of a comparison is known as ours."""

ANNOTATIONS = "Annotations"
"""Of DAVIS: pictures that are no frames."""
FRAMES = "JPEGImages"
DEEPEST = 4
"""Levels of folders below the one given: links may lead back."""
RESOLUTIONS = ("480p", "Full-Resolution", "1080p")


@dataclass(frozen=True)
class ClipInput:
    """A video or a folder of frames, and the name that tells it from the others."""

    path: Path
    name: str


@dataclass(frozen=True)
class EarlierRun:
    """A folder that `stnls align` wrote."""

    path: Path
    report: Report


@dataclass(frozen=True)
class Inputs:
    """What a comparison is made of."""

    clips: tuple[ClipInput, ...]
    runs: tuple[EarlierRun, ...]


def find_inputs(paths: Sequence[Path]) -> Inputs:
    """Videos and folders of frames as they are; of other folders every video and folder of frames
    below, one clip each; and folders with a report.json, which are earlier runs. A folder that
    holds no clips but such runs gives those.

    What stnls wrote is no clip: folders of runs and comparisons are passed over.

    Raises UserError for a path that is none of these.
    """
    clips: list[Path] = []
    runs: list[EarlierRun] = []
    for path in paths:
        if not os.path.exists(path):
            raise no_such_input(path)
        if not path.is_dir():
            clips.append(path)
        elif is_report(path / JSON_NAME):
            runs.append(EarlierRun(path, read_report(path)))
        else:
            _refuse_ours(path)
            found = list(_below(path))
            own = [place for place in found if not is_report(place / JSON_NAME)]
            if not found:
                raise UserError(
                    f"{path}: neither videos, nor frames, nor folders of frames, nor a {JSON_NAME} "
                    f"of an earlier run (looked for {', '.join((*VIDEO_KINDS, *IMAGE_KINDS))})"
                )
            clips.extend(own)
            runs.extend(EarlierRun(place, read_report(place)) for place in found if not own)
    return Inputs(tuple(_named(clips)), tuple(runs))


def _refuse_ours(folder: Path) -> None:
    """The folder of a comparison, or of a run that has no report, has pictures but no clips."""
    if (folder / MARK).is_file():
        raise UserError(
            f"{folder} is a comparison of stnls, not a clip; give the clips that it is of, or "
            f"build its page again by `stnls report {folder}`"
        )
    if is_run(folder):
        raise UserError(
            f"{folder} is the folder of a run of stnls without a {JSON_NAME} (an unfinished one, "
            "or flows); give the clip that it is of"
        )


def _below(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The folder itself where it holds frames, else the videos and folders of frames below it, and
    earlier runs; of a DAVIS folder the frames of its smallest resolution."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror or error}") from None
    frames = [e for e in entries if e.suffix.lower() in IMAGE_KINDS and e.is_file()]
    videos = [e for e in entries if e.suffix.lower() in VIDEO_KINDS and e.is_file()]
    # One picture among videos is a cover; one alone is said to be too few, later.
    if frames and not (videos and len(frames) == 1):
        yield folder
        return
    yield from videos
    below = [entry for entry in entries if entry.is_dir() and entry.name != ANNOTATIONS]
    names = [entry.name for entry in below]
    for wanted in ((FRAMES,), RESOLUTIONS if folder.name == FRAMES else ()):
        present = [name for name in wanted if name in names]
        if present:
            below = [folder / present[0]]
    for entry in below:
        if is_report(entry / JSON_NAME):
            yield entry
        elif depth < DEEPEST and not ((entry / MARK).is_file() or is_run(entry)):
            yield from _below(entry, depth + 1)


def _named(paths: list[Path]) -> Iterator[ClipInput]:
    """Names that differ: where two clips have one name, the folder's is put before it."""
    places = [Path(os.path.abspath(path)) for path in paths]
    for place, count in Counter(map(os.path.realpath, places)).items():
        if count > 1:
            raise UserError(f"{place} is given more than once")
    short = [_stem(place) for place in places]
    counts = Counter(short)
    names = [
        name if counts[name] == 1 else f"{place.parent.name}-{name}"
        for name, place in zip(short, places, strict=True)
    ]
    again = Counter(names)
    seen: Counter[str] = Counter()
    for path, name in zip(paths, names, strict=True):
        seen[name] += 1
        yield ClipInput(path, name if again[name] == 1 else f"{name}-{seen[name]}")


def _stem(place: Path) -> str:
    return place.name if place.is_dir() else place.stem
