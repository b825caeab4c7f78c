"""True motion of a clip, where it is known: rendered clips, and files of flow."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stnls_cli.compare.scores import Truth
from stnls_cli.errors import UserError
from stnls_cli.flow import read_flo
from stnls_cli.flow.clip_flow import sha256
from stnls_cli.flow.flo import read_flo_size
from stnls_cli.ground_truth import SCHEMA, load_motion
from stnls_cli.video.folder import list_frames

KITTI_ZERO, KITTI_SCALE = 2.0**15, 64.0


class TrueMotion(ABC):
    """The true motion of one clip."""

    @abstractmethod
    def between(self, t: int, dt: int) -> Truth | None:
        """From frame t to frame t + dt; None where it is not known."""

    @abstractmethod
    def digest(self) -> str:
        """Of all that it was read from."""


class RenderedMotion(TrueMotion):
    """Of a rendered clip; known wherever the surface is seen in both frames."""

    def __init__(self, path: Path) -> None:
        self.motion = load_motion(path)
        self._path = path

    def digest(self) -> str:
        """Of the motion file."""
        return sha256(self._path)

    def between(self, t: int, dt: int) -> Truth | None:
        """Every pair of frames that the clip has."""
        if not (0 <= t < self.motion.frames and 0 <= t + dt < self.motion.frames):
            return None
        flow = torch.from_numpy(self.motion.flow(t, dt)).permute(2, 0, 1)
        return Truth(flow, torch.from_numpy(self.motion.visible(t, dt)))


class FlowFilesMotion(TrueMotion):
    """From files, one for each frame, that lead to the next frame."""

    def __init__(self, files: dict[int, Path], width: int, height: int) -> None:
        self._files = files
        self._size = width, height

    def digest(self) -> str:
        """Of all the files."""
        digests = (f"{t} {sha256(path)}" for t, path in sorted(self._files.items()))
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def between(self, t: int, dt: int) -> Truth | None:
        """Only to the next frame."""
        path = self._files.get(t)
        if dt != 1 or path is None:
            return None
        flow = read_flo(path) if path.suffix.lower() == ".flo" else read_kitti(path)
        height, width = flow.shape[:2]
        if (width, height) != self._size:
            raise UserError(
                f"{path}: the true flow is {width}x{height}, the frames are "
                f"{self._size[0]}x{self._size[1]}"
            )
        known: NDArray[np.bool_] = np.asarray(np.isfinite(flow).all(axis=2))
        values = torch.from_numpy(np.where(known[..., None], flow, np.float32(0)))
        return Truth(values.permute(2, 0, 1), torch.from_numpy(known))


def true_motion(
    clip: Path, name: str, width: int, height: int, folder: Path | None
) -> TrueMotion | None:
    """What is known of a clip's motion.

    From `folder` (or its subfolder `name`) the flow files that are named like the frames (`.flo`,
    or KITTI's 16-bit PNG), or numbered like them. Without `folder`: the motion file beside a
    rendered clip (`clip.json` beside `clip.mp4`), and Middlebury's `flow10.flo` beside
    `frame10.png`; where their sizes do not fit (the frames were resized) nothing is known.
    """
    if folder is not None:
        below = folder / name
        files = _beside(clip, below if below.is_dir() else folder)
        if not files:
            raise UserError(
                f"{folder}: no flow files (.flo or .png) that are named like {clip}'s frames"
            )
        return FlowFilesMotion(files, width, height)
    if clip.is_dir():
        files = _middlebury(clip)
        fits = files and read_flo_size(min(files.values())) == (width, height)
        return FlowFilesMotion(files, width, height) if fits else None
    described = clip.with_suffix(".json")
    if not described.is_file() or SCHEMA.encode() not in described.read_bytes()[:4096]:
        return None
    rendered = RenderedMotion(described)
    fits = (rendered.motion.width, rendered.motion.height) == (width, height)
    return rendered if fits else None


def _beside(clip: Path, folder: Path) -> dict[int, Path]:
    """By frame: files of the same name, or else of the same number."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of true flows")
    found = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in (".flo", ".png")]
    by_stem = {file.stem: file for file in found}
    if clip.is_dir():
        frames = {n: frame.stem for n, frame in enumerate(list_frames(clip))}
        same = {n: by_stem[stem] for n, stem in frames.items() if stem in by_stem}
        if same:
            return same
    return {int(file.stem): file for file in found if file.stem.isdecimal()}


def _middlebury(clip: Path) -> dict[int, Path]:
    files = {}
    for n, frame in enumerate(list_frames(clip)):
        number = re.fullmatch(r"frame(\d+)", frame.stem)
        if number is not None:
            path = clip / f"flow{number[1]}.flo"
            if path.is_file():
                files[n] = path
    return files


def read_kitti(path: Path) -> NDArray[np.float32]:
    """A flow in KITTI's 16-bit PNG: (H, W, 2) float32 in the order (dx, dy), NaN where unknown.

    Red and green hold dx and dy as 64 dx + 2^15, blue is 0 where the flow is not known.
    """
    values = _rgb16(path)
    flow = (values[..., :2].astype(np.float32) - np.float32(KITTI_ZERO)) / np.float32(KITTI_SCALE)
    known: NDArray[np.float32] = np.where(values[..., 2:] > 0, flow, np.float32(np.nan))
    return known


def _rgb16(path: Path) -> NDArray[np.uint16]:
    import av

    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
    except (OSError, StopIteration, ValueError) as error:  # FFmpeg's errors are of these kinds
        raise UserError(f"{path}: cannot be read as a PNG ({error})") from None
    if not frame.format.name.startswith("rgb48"):
        raise UserError(
            f"{path}: a true flow in PNG has 16 bits and three channels (KITTI), this is "
            f"{frame.format.name}"
        )
    values: NDArray[np.uint16] = frame.to_ndarray(format="rgb48le")
    return values
