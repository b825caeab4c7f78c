"""Several clips aligned side by side, each by a process of its own: one for each GPU, or as many as
are wanted.

The processes are programs of their own, so that callers need no guard around their main module.
They share nothing: a clip has the same results in any of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stnls_cli.cores import usable_cores
from stnls_cli.devices import resolve_devices
from stnls_cli.errors import UserError, WorkerError
from stnls_cli.progress import Listener
from stnls_cli.speed import Speed

if TYPE_CHECKING:
    from stnls_cli.options import AlignOptions
    from stnls_cli.pipeline import Aligned

PATIENCE = 10.0
"""Seconds that an interrupted process has to leave its folder in order."""


@dataclass(frozen=True)
class Outcome:
    """What became of input `number`: its folder with what was said of it, or an error."""

    number: int
    folder: Path | None = None
    already_done: bool = False
    speed: Speed | None = None
    error: Exception | None = None

    def aligned(self) -> Aligned:
        """With the report, which the other process has written."""
        from stnls_cli.pipeline import Aligned
        from stnls_cli.report import read_report

        assert self.folder is not None
        return Aligned(self.folder, read_report(self.folder), self.already_done, self.speed)


def worker_options(options: AlignOptions, inputs: int) -> list[AlignOptions]:
    """The options of each process that is worth starting; none where this one does it all.

    GPUs take turns, and processes share the processor's cores.
    """
    devices = resolve_devices(options.device)
    wanted = options.workers or (len(devices) if devices[0].type == "cuda" else 1)
    count = min(wanted, inputs)
    if count < 2:
        return []
    threads = max(1, (options.threads or usable_cores()) // count)
    return [
        replace(options, device=str(devices[n % len(devices)]), threads=threads, workers=None)
        for n in range(count)
    ]


@contextlib.contextmanager
def head_start(options: AlignOptions, inputs: int) -> Iterator[deque[WorkerProcess]]:
    """The processes that `worker_options` will probably ask for, begun before PyTorch is imported
    here: that takes seconds, in each of them, as does a GPU's first use. Those that nobody takes
    are stopped."""
    gpus = _gpus() if options.device in ("auto", "cuda") else 0
    count = min(options.workers or gpus, inputs)
    early = deque(
        WorkerProcess(f"cuda:{n % gpus}" if gpus else None)
        for n in range(count if count > 1 else 0)
    )
    try:
        yield early
    finally:
        for process in early:
            process.stop()


def _gpus() -> int:
    """A guess that needs no CUDA: the device files, as far as CUDA is to see them."""
    found = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if named is None else min(found, len([n for n in named.split(",") if n.strip()]))


def align_side_by_side(
    inputs: Sequence[tuple[Path, Path]],
    each: Sequence[AlignOptions],
    listener: Callable[[Path], contextlib.AbstractContextManager[Listener]],
    *,
    early: deque[WorkerProcess] | None = None,
    stop_at_error: bool = False,
) -> Iterator[Outcome]:
    """Aligns the inputs (path, folder) by a process for each of the options, of which some may have
    been begun `early`; outcomes come as they are there. `listener` makes one for a clip that
    begins.

    `stop_at_error`: inputs are no longer begun when one has failed.
    """
    waiting = deque(enumerate(inputs))
    sharing = Counter(options.device for options in each)
    with contextlib.ExitStack() as stack:
        working = [
            stack.enter_context(
                Worker(
                    early.popleft() if early else WorkerProcess(),
                    options,
                    listener,
                    sharing[options.device],
                )
            )
            for options in each
        ]
        while working:
            ready = wait([worker.connection for worker in working])
            for worker in [worker for worker in working if worker.connection in ready]:
                outcome = worker.take_message()
                if outcome is not None:
                    if outcome.error is not None and stop_at_error:
                        waiting.clear()
                    if not worker.ended:
                        # Its next input comes first: whoever takes the outcome may take a while.
                        worker.take_message()
                if worker.idle and not worker.ended:
                    worker.begin(waiting.popleft() if waiting else None)
                if worker.ended:
                    working.remove(worker)
                if outcome is not None:
                    yield outcome
    for number, (path, _) in waiting:
        yield Outcome(number, error=WorkerError(f"{path}: no process is left to align it"))


class WorkerProcess:
    """A process that `stnls_cli.worker` runs in, and our end of the socket to it. It begins with
    its `likely` device before it is given an order."""

    def __init__(self, likely: str | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        with theirs, _interrupts_blocked():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stnls_cli.worker", str(theirs.fileno()), likely or ""],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """Ends one that was given no order, and has nothing to put in order."""
        self.process.kill()
        self.connection.close()
        self.process.wait()


class Worker:
    """A process at work, of `sharing` that work on its device; `idle` when it waits for an order,
    `ended` when it takes none any more."""

    def __init__(
        self,
        process: WorkerProcess,
        options: AlignOptions,
        listener: Callable[[Path], contextlib.AbstractContextManager[Listener]],
        sharing: int,
    ) -> None:
        self.idle = False
        self.ended = False
        self._options = options
        self._sharing = sharing
        self._make_listener = listener
        self._number: int | None = None
        self._path = Path()
        self._telling: contextlib.AbstractContextManager[Listener] | None = None
        self._listener = Listener()
        self._started = False
        self.connection = process.connection
        self._process = process.process

    def begin(self, order: tuple[int, tuple[Path, Path]] | None) -> None:
        """Gives the next input, or none any more."""
        self.idle = False
        if order is None:
            self.ended = True
            with contextlib.suppress(ConnectionError):
                self.connection.send(None)
            return
        self._number, (self._path, folder) = order
        self._telling = self._make_listener(self._path)
        self._listener = self._telling.__enter__()
        with contextlib.suppress(ConnectionError):  # its end is noticed by the next message
            self.connection.send((self._path, folder, self._options, self._sharing))

    def take_message(self) -> Outcome | None:
        """What the process says next; the outcome of its input, if that is it."""
        try:
            kind, *values = self.connection.recv()
        except (EOFError, ConnectionError):
            return self._lost()
        if kind == "ready":
            self.idle = self._started = True
        elif kind == "step":
            name, given = values
            self._take_step(name, given)
        else:
            return self._settled(kind, *values)
        return None

    def _take_step(self, name: str, given: tuple[Any, ...]) -> None:
        if name == "start":
            self._listener.start(given[0], flows=given[1])
        elif name == "note":
            self._listener.note(given[0])
        else:
            self._listener.frames_aligned(given[0])

    def _settled(self, kind: str, *values: Any) -> Outcome:
        number = self._number
        assert number is not None
        self._number = None
        self._stop_telling()
        if kind == "done":
            folder, already_done, speed = values
            return Outcome(number, folder, already_done, speed)
        of_user, words = values
        return Outcome(number, error=UserError(words) if of_user else WorkerError(words))

    def _lost(self) -> Outcome | None:
        """The process has ended without being told to."""
        self.ended = True
        code = self._process.wait()
        if self._number is None:
            return None
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        words = f"{self._path}: the process that aligned it ended {how}"
        return self._settled("failed", False, f"{words}; the same command goes on where it stopped")

    def _stop_telling(self) -> None:
        if self._telling is not None:
            self._telling.__exit__(None, None, None)
            self._telling = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._process.poll() is None:
            # One that has not begun has nothing to put in order.
            if self._started:
                self._process.send_signal(signal.SIGINT)
            else:
                self._process.kill()
        self.connection.close()
        self._stop_telling()
        try:
            self._process.wait(PATIENCE if kind is not None else None)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that starts meanwhile is not interrupted before it is ready for that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
