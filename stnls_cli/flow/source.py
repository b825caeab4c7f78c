"""Where the flows of a clip come from: a method by name, or files."""

from __future__ import annotations

import contextlib
import difflib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from stnls_cli.errors import UserError
from stnls_cli.flow.clip_flow import FlowFiles, Kind
from stnls_cli.flow.files import open_flow_files
from stnls_cli.flow.flo import Flow
from stnls_cli.flow.methods import FLOW_METHODS, FlowMethod, Gray
from stnls_cli.flow.opencv import import_cv2, opencv_single_threaded


class FlowSource(ABC):
    """Flows between neighbouring frames, worked out in the background.

    Nothing bounds how many are under way: the caller decides how far to submit ahead of what it
    has taken. Close it (or use `with`) when done.
    """

    label: str
    """What the report's column `flow` says."""
    needs_frames: bool
    """False when `submit` ignores the frames, which may then be None."""

    def __init__(self, threads: int, initializer: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(
            max(1, threads), thread_name_prefix="flow", initializer=initializer
        )
        self._lock = threading.Lock()
        self._seconds = 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the flows have taken so far, all threads together."""
        with self._lock:
            return self._seconds

    def submit(
        self, t: int, kind: Kind, gray0: Gray | None = None, gray1: Gray | None = None
    ) -> Future[Flow]:
        """Flow of source frame t to t+1 ("forward") or t-1 ("backward"), (H, W, 2) float32.

        `gray0` is frame t and `gray1` the neighbour, both (H, W) uint8.
        """
        return self._pool.submit(self._timed, t, kind, gray0, gray1)

    def _timed(self, t: int, kind: Kind, gray0: Gray | None, gray1: Gray | None) -> Flow:
        before = time.thread_time()
        flow = self._flow(t, kind, gray0, gray1)
        with self._lock:
            self._seconds += time.thread_time() - before
        return flow

    @abstractmethod
    def _flow(self, t: int, kind: Kind, gray0: Gray | None, gray1: Gray | None) -> Flow:
        """One flow, on a thread of the pool."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the report says about the flow: plain values, everything that has an influence."""

    def close(self, *, wait: bool = True) -> None:
        """Drop what has not begun, wait for what has, free the threads."""
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def __enter__(self) -> FlowSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Someone who interrupts does not wait for pairs of frames that take many seconds.
        self.close(wait=kind is not KeyboardInterrupt)


class MethodSource(FlowSource):
    """Flows computed from the frames; every thread takes whole pairs."""

    def __init__(self, method: FlowMethod, threads: int) -> None:
        self.method = method
        self.label = method.name
        self.needs_frames = True
        # Asked for before any work, so that a missing or broken OpenCV is found out at once.
        self._description: dict[str, Any] = {"name": method.name, "parameters": method.parameters}
        self._stack = contextlib.ExitStack()
        if method.create is not None:
            self._description["opencv"] = str(import_cv2().__version__)
            self._stack.enter_context(opencv_single_threaded())
        elif method.native is not None:
            from stnls import __version__

            self._description["stnls"] = __version__
        super().__init__(threads, None if method.native is None else _one_torch_thread)

    def _flow(self, t: int, kind: Kind, gray0: Gray | None, gray1: Gray | None) -> Flow:
        if gray0 is None or gray1 is None:
            raise ValueError(f"{self.label} needs both frames")
        return self.method.compute(gray0, gray1)

    def describe(self) -> dict[str, Any]:
        """Name, every parameter, and the version of OpenCV where it is used."""
        return {**self._description, "parameters": dict(self._description["parameters"])}

    def close(self, *, wait: bool = True) -> None:
        """As above, and give OpenCV its own threads back."""
        super().close(wait=wait)
        self._stack.close()


def _one_torch_thread() -> None:
    """For the calling thread: others compute other pairs meanwhile."""
    import torch

    torch.set_num_threads(1)


class FileSource(FlowSource):
    """Flows read from files, one thread ahead of the caller."""

    def __init__(self, files: FlowFiles) -> None:
        self.files = files
        self.label = files.path.name
        self.needs_frames = False
        self._digest: str | None = None
        super().__init__(threads=1)

    def _flow(self, t: int, kind: Kind, gray0: Gray | None, gray1: Gray | None) -> Flow:
        return self.files.read(kind, t)

    def describe(self) -> dict[str, Any]:
        """Reads all the files once, for the digest."""
        if self._digest is None:
            self._digest = self.files.digest()
        return {
            "name": "files",
            "path": str(self.files.path),
            "layout": self.files.layout,
            "digest": self._digest,
        }

    def close(self, *, wait: bool = True) -> None:
        """As above, and close the files."""
        super().close(wait=wait)
        self.files.close()


def thread_seconds(source: FlowSource | None, most: int = 0) -> dict[str, float]:
    """Processor time of the threads of `source` so far, as the stage `flow_cpu`; empty where they
    compute nothing: flows are read, or `most` of them are computed together (see BatchedFlow)."""
    if source is None or not source.needs_frames or most:
        return {}
    return {"flow_cpu": source.cpu_seconds}


def open_flow_source(
    spec: str | Path,
    *,
    height: int,
    width: int,
    threads: int = 1,
    start: int = 0,
    stop: int | None = None,
) -> FlowSource:
    """Flow by the name of a method or the path of flow files (`./tvl1` if it is named like one).

    Frames are height x width pixels and numbered start <= t < stop in their source clip; `stop`
    is None while the length is not known.
    """
    name = str(spec)
    if isinstance(spec, str) and name in FLOW_METHODS:
        return MethodSource(FLOW_METHODS[name], threads)
    check_flow_name(name)
    return FileSource(open_flow_files(name, height=height, width=width, start=start, stop=stop))


def check_flow_name(spec: str) -> None:
    """Refuse what is neither a method's name nor a path that is there."""
    if spec not in FLOW_METHODS and not (spec and os.path.exists(spec)):
        raise UserError(unknown_flow(spec))


def unknown_flow(name: str) -> str:
    """What to tell someone who asked for a flow that is neither a method nor a path."""
    if os.sep in name or Path(name).suffix.lower() in (".npz", ".flo"):
        problem = f"no such file or folder of flows: {name}"
    else:
        problem = f"unknown flow {name!r}"
        close = difflib.get_close_matches(name.lower(), FLOW_METHODS, n=1)
        if close:
            problem += f" (did you mean {close[0]}?)"
    known = ", ".join(FLOW_METHODS)
    return f"{problem}; use one of {known}, an .npz file or a folder of .flo files"
