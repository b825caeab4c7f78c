"""Two clips against each other, frame by frame: the job of `stnls diff`."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stnls_cli.aggregates import Aggregate, aggregate
from stnls_cli.errors import DamagedClipError, UserError
from stnls_cli.metrics import compare_frames
from stnls_cli.report.plain import plain
from stnls_cli.report.versions import tool_versions
from stnls_cli.video import Clip, Frame, open_clip
from stnls_cli.video.folder import list_frames

SCHEMA = "stnls-diff"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FramePair:
    """The scores of one frame, by metric; `t` counts the frames of the first clip's source."""

    t: int
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Difference:
    """All pairs of frames of two clips."""

    first: Path
    second: Path
    width: int
    height: int
    rate: Fraction | None
    metrics: tuple[str, ...]
    frames: tuple[FramePair, ...]

    def __repr__(self) -> str:
        return f"Difference of {self.first} and {self.second}: {len(self.frames)} frames"

    def summary(self) -> dict[str, Aggregate | None]:
        """Over the frames, by metric."""
        return {
            name: aggregate(name, {pair.t: pair.scores[name] for pair in self.frames})
            for name in self.metrics
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values only; docs/report.md describes them."""
        summary = {
            name: None
            if found is None
            else {
                "mean": found.mean,
                "median": found.median,
                "percentile_5": found.percentile_5,
                "worst": [{"t": t, "value": value} for t, value in found.worst],
            }
            for name, found in self.summary().items()
        }
        document: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "tool": tool_versions(),
                "first": self.first,
                "second": self.second,
                "width": self.width,
                "height": self.height,
                "rate": self.rate,
                "metrics": self.metrics,
                "summary": summary,
                "frames": [{"t": pair.t, **pair.scores} for pair in self.frames],
            }
        )
        return document

    def to_csv(self) -> str:
        """One row for each frame; identical frames have the PSNR `inf`."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["t", *self.metrics])
        for pair in self.frames:
            values = (pair.scores[name] for name in self.metrics)
            writer.writerow([pair.t, *("" if value is None else repr(value) for value in values)])
        return buffer.getvalue()


def compare_clips(
    first: Path,
    second: Path,
    metrics: tuple[str, ...],
    *,
    start: int = 0,
    frames: int | None = None,
) -> Difference:
    """Compares two clips of one size, rate and length; a folder of frames has no rate of its own.

    Raises UserError for clips that are not alike, with both values, and for those that `open_clip`
    refuses.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_damage_alone())
        clips = [
            stack.enter_context(open_clip(path, start=start, frames=frames))
            for path in (first, second)
        ]
        _check_alike(clips[0], clips[1])
        pairs = tuple(
            FramePair(a.index, compare_frames(metrics, _tensor(a), _tensor(b)))
            for a, b in _pairs(clips[0], clips[1])
        )
        info = clips[0].info
        rate = info.rate if info.rate is not None else clips[1].info.rate
        return Difference(first, second, info.width, info.height, rate, metrics, pairs)


@contextlib.contextmanager
def _damage_alone() -> Iterator[None]:
    """Frames that are left out cannot be compared: no word of how to go on without them."""
    try:
        yield
    except DamagedClipError as error:
        raise UserError(error.damage) from None


def misnumbered(first: Path, second: Path, start: int = 0, frames: int | None = None) -> str | None:
    """What to say of two folders whose frames, which are compared in order, have other numbers."""
    if not (first.is_dir() and second.is_dir()):
        return None
    part = slice(start, None if frames is None else start + frames)
    for a, b in zip(list_frames(first)[part], list_frames(second)[part], strict=False):
        numbers = [re.findall(r"\d+", path.stem)[-1:] for path in (a, b)]
        if all(numbers) and int(numbers[0][0]) != int(numbers[1][0]):
            return (
                f"{first} and {second}: frames are compared in order, and their numbers differ: "
                f"{a.name} with {b.name}"
            )
    return None


def _check_alike(first: Clip, second: Clip) -> None:
    a, b = first.info, second.info
    if (a.width, a.height) != (b.width, b.height):
        raise UserError(
            f"{a.path} has frames of {a.width}x{a.height} and {b.path} of {b.width}x{b.height}: "
            "only frames of one size can be compared"
        )
    if a.rate is not None and b.rate is not None and a.rate != b.rate:
        raise UserError(
            f"{a.path} has {_decimal(a.rate)} frames a second and {b.path} {_decimal(b.rate)}: "
            "their frames do not belong together"
        )
    lengths = a.frames_expected, b.frames_expected
    if None not in lengths and lengths[0] != lengths[1]:
        raise _unequal(first, second, *lengths)


def _pairs(first: Clip, second: Clip) -> Iterator[tuple[Frame, Frame]]:
    """The frames of both; an error where one clip ends first."""
    count, ended = 0, None
    lengths = [0, 0]
    for a, b in zip_longest(first, second):
        lengths[0] += a is not None
        lengths[1] += b is not None
        if a is None or b is None:
            ended = True  # the other is read to its end, to tell its length
        elif ended is None:
            count += 1
            yield a, b
    if lengths[0] != lengths[1]:
        raise _unequal(first, second, *lengths)
    if count == 0:
        raise UserError(f"{first.info.path} and {second.info.path} have no frames to compare")


def _unequal(first: Clip, second: Clip, *lengths: int | None) -> UserError:
    return UserError(
        f"{first.info.path} has {lengths[0]} frames and {second.info.path} {lengths[1]}: clips of "
        "one length can be compared; --start and --frames take a part of both"
    )


def _decimal(rate: Fraction) -> str:
    return f"{float(rate):.6g}"


def _tensor(frame: Frame) -> torch.Tensor:
    rgb = torch.from_numpy(np.ascontiguousarray(frame.rgb))
    return rgb.permute(2, 0, 1).to(torch.float32).contiguous()
