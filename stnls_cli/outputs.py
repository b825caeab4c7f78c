"""The files of a run: aligned frames, flow, offsets, distances, and a video for each dt."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from stnls_cli.flow import write_flow_folder
from stnls_cli.storage import storage_errors
from stnls_cli.transfer import Downloads, Leaving
from stnls_cli.video import IMAGE_SUFFIX, VideoWriter, read_image, write_image

if TYPE_CHECKING:
    from stnls_cli.flow.clip_flow import Kind
    from stnls_cli.matching import Matches
    from stnls_cli.timings import Timings
    from stnls_cli.video import ClipInfo

_FOR_VIDEO = ".for-video"

Place = tuple[int, int]
"""A reference frame and the dt of its neighbour."""


def dt_name(dt: int) -> str:
    """Name of the folder of one temporal offset: dt+1, dt-2."""
    return f"dt{dt:+d}"


class Outputs:
    """Writes what was asked for on a pool of threads; `flush` waits for the files of one reference
    frame and raises their errors. What lies on a GPU comes back beside its work.

    All files of one reference frame can be written again: a run that died is resumed there.
    """

    def __init__(
        self,
        folder: Path,
        saved: set[str],
        image_format: str,
        info: ClipInfo,
        threads: int,
        timings: Timings,
    ) -> None:
        self._folder = folder
        self._saved = saved
        self._format = image_format
        self._info = info
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="write")
        self._timings = timings
        self._downloads = Downloads(timings.device)
        self._waiting: dict[int, list[Future[None]]] = {}
        self._lock = threading.Lock()
        self._made: set[Path] = set()
        with storage_errors(folder):
            drop_temporary(folder)
            self._write_flo = write_flow_folder(folder / "flow") if "flow" in saved else None
        # The video is made of the frames at the end; deeper sources keep their depth.
        self._video_bits: Literal[8, 16] = 16 if info.bit_depth > 8 else 8
        self._video_format = "png16" if self._video_bits == 16 else "png"

    def aligned(self, places: Sequence[Place], images: Tensor) -> None:
        """Aligned neighbours by frame and dt, (N, 3, H, W) on the 0-255 scale."""
        wanted: list[tuple[str, str]] = []
        if "aligned" in self._saved:
            wanted.append(("aligned", self._format))
        if "video" in self._saved and not self._video_frames_are_aligned:
            wanted.append((_FOR_VIDEO, self._video_format))
        if not wanted:
            return
        rgb = images.permute(0, 2, 3, 1)
        if {image_format for _, image_format in wanted} == {"png"}:
            rgb = rgb.clamp(0, 255).round_().byte()  # a quarter of the bytes to bring back
        pixels = self._downloads.get(rgb)
        for folder, image_format in wanted:
            for n, (t, dt) in enumerate(places):
                path = self._path(folder, t, dt, IMAGE_SUFFIX[image_format])
                self._submit(t, path, partial(_write_image, path, pixels, n, image_format))

    @property
    def _video_frames_are_aligned(self) -> bool:
        return "aligned" in self._saved and self._format == self._video_format

    def matches(self, places: Sequence[Place], matches: Matches) -> None:
        """Of these neighbours: offsets in the order (dx, dy) and distances; a leading k where it
        is above 1."""
        if "offsets" in self._saved:
            for (t, dt), offset in zip(places, matches.offset, strict=True):
                values = offset.flip(-1).permute(2, 0, 1, 3).float()
                self._npz("offsets", t, dt, offset=self._downloads.get(_without_single(values)))
        if "distance" in self._saved:
            for (t, dt), distance in zip(places, matches.distance, strict=True):
                values = distance.permute(2, 0, 1)
                self._npz("distance", t, dt, distance=self._downloads.get(_without_single(values)))

    def flow(self, kind: Kind, t: int, flow: Tensor) -> None:
        """A neighbouring flow, (2, H, W), in a folder that `--flow` reads."""
        if self._write_flo is not None:
            values = self._downloads.get(flow.permute(1, 2, 0))
            write = self._write_flo
            self._submit(t, self._folder / "flow", lambda: write(kind, t, values.numpy()))

    def flush(self, t: int) -> None:
        """Waits for the files of reference frame t, all of which were handed over."""
        with self._lock:
            waiting = self._waiting.pop(t, [])
        for future in waiting:
            future.result()

    def finish(self, runs: list[range], wt: int) -> None:
        """Makes the videos of the source frames in `runs`, from the aligned images in order."""
        if "video" not in self._saved:
            return
        source = "aligned" if self._video_frames_are_aligned else _FOR_VIDEO
        suffix = IMAGE_SUFFIX[self._video_format]
        reach = min(wt, max(map(len, runs)) - 1)
        for dt in range(-reach, reach + 1):
            images = [
                self._path(source, t, dt, suffix) for run in runs for t in run if t + dt in run
            ]
            path = self._folder / "video" / f"{dt_name(dt)}.mkv"
            # A run that died after this point left whole videos, and perhaps not all images.
            if dt != 0 and images and not path.exists():
                self._video(path, images)
        with storage_errors(self._folder, "delete from"):
            if (self._folder / _FOR_VIDEO).exists():
                shutil.rmtree(self._folder / _FOR_VIDEO)

    def _video(self, path: Path, frames: list[Path]) -> None:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            info = self._info
            with VideoWriter(
                path, info.width, info.height, info.rate, bits=self._video_bits
            ) as writer:
                for frame in frames:
                    writer.write(read_image(frame))

    def _path(self, folder: str, t: int, dt: int, suffix: str) -> Path:
        return self._folder / folder / dt_name(dt) / f"{t:05d}{suffix}"

    def _npz(self, folder: str, t: int, dt: int, **arrays: Leaving) -> None:
        path = self._path(folder, t, dt, ".npz")

        def write() -> None:
            temporary = path.with_name(f".{path.name}.tmp")
            values: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
            with temporary.open("wb") as file:
                np.savez_compressed(file, **values)
            temporary.replace(path)

        self._submit(t, path, write)

    def _submit(self, t: int, path: Path, write: Callable[[], object]) -> None:
        def job() -> None:
            with self._timings.host("encode"), storage_errors(path):
                if path.parent not in self._made:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._made.add(path.parent)
                write()

        future = self._pool.submit(job)
        with self._lock:
            self._waiting.setdefault(t, []).append(future)

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is being written is waited for: it takes milliseconds, and leaves no half files.
        self._pool.shutdown(wait=True, cancel_futures=error is not None)


def drop_temporary(folder: Path) -> None:
    """Deletes what a killed run was writing; every writer here uses a name of this form first."""
    for path in folder.rglob(".*.tmp*"):
        path.unlink(missing_ok=True)


def _write_image(path: Path, images: Leaving, n: int, image_format: str) -> None:
    write_image(path, images.numpy()[n], image_format)


def _without_single(values: Tensor) -> Tensor:
    return values[0] if values.shape[0] == 1 else values
