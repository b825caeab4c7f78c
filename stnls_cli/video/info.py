"""What is known of a clip before it is read, and the frames that come out of it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class ClipInfo:
    """A clip as it will be read: after `start`, `frames`, rotation and `size`.

    `width`, `height` are displayed pixels; `source_width`, `source_height` the stored ones.
    `frames_expected` is what the headers promise for the part asked for (None: they say nothing
    exact), `frames_estimate` a guess from duration and rate, good for a progress bar only.
    `bit_depth` is the source's; above 8 the frames are float32. `notes` are for the person: what
    was assumed, ignored or dropped.
    """

    path: Path
    stem: str
    width: int
    height: int
    source_width: int
    source_height: int
    rate: Fraction | None
    stream: int | None
    frames_expected: int | None
    pixel_format: str
    bit_depth: int
    notes: tuple[str, ...]
    codec: str = ""
    frames_estimate: int | None = None


@dataclass(frozen=True)
class Frame:
    """One frame.

    `index` counts the frames of the source from 0, also with `start`: files of a folder, those
    that do not decode included, and decoded frames of a video. `time` is its
    timestamp in seconds; `rgb` is (height, width, 3), C-contiguous, on the 0-255 scale: uint8 from
    8-bit sources, float32 from deeper ones. `corrupt`: FFmpeg concealed errors in it.
    """

    index: int
    time: float | None
    rgb: Pixels
    corrupt: bool
