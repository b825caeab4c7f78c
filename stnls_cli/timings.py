"""Seconds that each stage of a run takes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import torch


class Timings:
    """Adds up wall seconds by stage, over all threads; on a GPU a stage ends when its kernels
    have."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the body towards `name`."""
        before = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.add(name, time.perf_counter() - before)

    def add(self, name: str, seconds: float) -> None:
        """Counts seconds measured elsewhere."""
        with self._lock:
            self.seconds[name] += seconds
