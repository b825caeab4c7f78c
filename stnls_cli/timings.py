"""Seconds that each stage of a run takes."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

import torch


class Timings:
    """Adds up wall seconds by stage; on a GPU a stage ends when its kernels have."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the body towards `name`."""
        before = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] += time.perf_counter() - before
