"""How fast a run was, and how busy it kept the machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from stnls_cli.cores import usable_cores


@dataclass(frozen=True)
class Speed:
    """`seconds` of work on `frames` reference frames, of which the first and the last were finished
    after `first` and `last`; `processor` seconds of all threads, and the most bytes in use on a GPU
    (None on a CPU)."""

    frames: int
    seconds: float
    first: float
    last: float
    processor: float
    gpu_bytes: int | None

    def told(self) -> str:
        """One line for a person."""
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        words = f"{self.frames} frames in {self.seconds:.2f} s ({rate:.2f} a second"
        if self.frames > 1 and self.last > self.first:
            later = (self.frames - 1) / (self.last - self.first)
            words += f", {later:.2f} from the first to the last"
        busy = self.processor / self.seconds if self.seconds > 0 else 0.0
        words += f"), {busy:.1f} of {usable_cores()} cores busy"
        if self.gpu_bytes is not None:
            words += f", {self.gpu_bytes / 2**20:.0f} MiB on the GPU at most"
        return words


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._processor = time.process_time()
        self._first: float | None = None
        self._last = 0.0
        self._frames = 0

    def frame_done(self) -> None:
        """A reference frame is finished."""
        self._frames += 1
        self._last = time.perf_counter() - self._began
        if self._first is None:
            self._first = self._last

    def read(self, gpu_bytes: int | None = None) -> Speed:
        """What was measured so far."""
        return Speed(
            self._frames,
            time.perf_counter() - self._began,
            self._first or 0.0,
            self._last,
            time.process_time() - self._processor,
            gpu_bytes,
        )
