"""Seconds that each stage of a run takes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch

MOST_OPEN = 4096
"""Stages on a GPU whose time is not known yet; beyond, the oldest are waited for."""


Events = tuple[torch.cuda.Event, torch.cuda.Event]


class Timings:
    """Adds up seconds by stage, over all threads.

    Stages of the processor are wall seconds. Those of a GPU lie between two events of its stream,
    which are read when they have happened: nothing waits for the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self.device = device
        self._lock = threading.Lock()
        self._open: deque[tuple[str, Events]] = deque()
        self._spare: list[Events] = []

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, as far as it is known."""
        with self._lock:
            self._read(wait=False)
            return dict(self._seconds)

    def told(self, elsewhere: Mapping[str, float]) -> dict[str, float]:
        """As they are written down, with the seconds by stage that are counted elsewhere."""
        seconds = self.seconds
        for name, value in elsewhere.items():
            seconds[name] = seconds.get(name, 0.0) + value
        return {name: round(value, 6) for name, value in seconds.items()}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the body towards `name`: on a GPU the time of what it launches."""
        if self.device.type != "cuda":
            with self.host(name):
                yield
            return
        stream = torch.cuda.current_stream(self.device)
        with self._lock:
            events = self._spare.pop() if self._spare else None
        begin, end = events or (_event(), _event())
        begin.record(stream)
        with _span(name):
            yield
        end.record(stream)
        with self._lock:
            self._open.append((name, (begin, end)))
            if len(self._open) > MOST_OPEN:
                self._read(wait=False)

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[None]:
        """Counts the body, which does not run on a GPU, towards `name`."""
        before = time.perf_counter()
        with _span(name):
            yield
        self.add(name, time.perf_counter() - before)

    def add(self, name: str, seconds: float) -> None:
        """Counts seconds measured elsewhere."""
        with self._lock:
            self._seconds[name] += seconds

    def finish(self) -> None:
        """Waits for the stages that the GPU has not finished."""
        with self._lock:
            self._read(wait=True)

    def _read(self, *, wait: bool) -> None:
        while self._open:
            name, (begin, end) = self._open[0]
            if wait or len(self._open) > MOST_OPEN:
                end.synchronize()
            elif not end.query():
                return
            self._open.popleft()
            self._seconds[name] += begin.elapsed_time(end) / 1000
            self._spare.append((begin, end))


def _span(name: str) -> contextlib.AbstractContextManager[Any]:
    """In a trace, if there is one: to begin and to end it takes two calls of PyTorch's dispatcher,
    each of which lets other threads go first."""
    if getattr(torch.autograd.profiler, "_is_profiler_enabled", True):
        return torch.profiler.record_function(name)
    return contextlib.nullcontext()


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
