"""Timing of one call, and the memory that it takes at its peak. Needs torch alone."""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
FEWEST = 3
"""Runs of a call that takes long."""


@dataclass(frozen=True)
class Plan:
    """How often a call is timed: `repeat` times, or fewer when `seconds` have passed."""

    repeat: int
    seconds: float


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each run, and bytes at the peak above those in use before the call."""

    times: list[float]
    peak_bytes: int | None

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.times)

    @property
    def spread(self) -> float:
        """Median absolute deviation."""
        return statistics.median(abs(t - self.median) for t in self.times)


def measure(call: Callable[[], T], device: torch.device, plan: Plan) -> tuple[Timing, T]:
    """Runs once or more to warm up, then as planned. Memory is watched in the first of these runs,
    whose result is handed over as well."""
    _warm_up(call, device)
    peak = Peak(device)
    first, result = timed(call, device)
    above = peak.above_start()
    times = [first]
    began = time.perf_counter()
    while len(times) < plan.repeat:
        times.append(timed(call, device)[0])
        if time.perf_counter() - began > plan.seconds and len(times) >= FEWEST:
            break
    return Timing(times, above), result


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Milliseconds and result of one call: by CUDA events on an idle GPU, from the launch to the
    last kernel; by the clock on a processor. Caches stay as the call before left them."""
    if device.type != "cuda":
        began = time.perf_counter()
        result = call()
        return 1e3 * (time.perf_counter() - began), result
    torch.cuda.synchronize(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    result = call()
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)), result


def _warm_up(call: Callable[[], object], device: torch.device) -> None:
    """Once on a processor; for a tenth of a second on a GPU, whose clock rises first."""
    began = time.perf_counter()
    timed(call, device)
    while device.type == "cuda" and time.perf_counter() - began < 0.1:
        timed(call, device)


class Peak:
    """Bytes in use since it was made: PyTorch's on a GPU, the process's on Linux, else unknown."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._start: int | None = None
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self._start = torch.cuda.memory_allocated(self._cuda)
        elif sys.platform == "linux":
            try:
                _return_free_memory()
                Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
                self._start = _status("VmRSS")
            except OSError:
                self._start = None

    def above_start(self) -> int | None:
        """Bytes at the peak above those at the start."""
        if self._start is None:
            return None
        if self._cuda is not None:
            return int(torch.cuda.max_memory_allocated(self._cuda)) - self._start
        return max(0, _status("VmHWM") - self._start)


def _return_free_memory() -> None:
    """What the allocator keeps of earlier calls would count as there already."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
