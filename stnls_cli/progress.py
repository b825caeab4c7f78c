"""What a run tells while it goes on: nothing, or progress bars and notes on standard error."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Listener:
    """Told of every step; this one keeps silent."""

    def note(self, text: str) -> None:
        """Something that the person should know about the input or the run."""

    def start(self, frames: int | None, *, flows: bool) -> None:
        """The clip is open; it may have `frames` frames. `flows`: they are computed."""

    def frame_read(self) -> None:
        """One more frame was decoded."""

    def flow_done(self) -> None:
        """One more flow between neighbours is there (called on another thread)."""

    def frames_aligned(self, count: int) -> None:
        """`count` more reference frames are finished."""


def _bars(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<7}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


Shown = TypeVar("Shown", bound="OnConsole")


class OnConsole:
    """What has bars on a terminal, between its `with` and the end of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def __enter__(self: Shown) -> Shown:
        if self._console.is_terminal:
            self._progress = _bars(self._console)
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


class ConsoleListener(OnConsole, Listener):
    """Notes, and a bar for each stage with the time left; the bars only on a terminal. `work`: what
    is done to the reference frames; where that is "flow", it needs no other bar."""

    def __init__(
        self, console: Console, title: str, *, notes: bool = True, work: str = "align"
    ) -> None:
        super().__init__(console)
        self._title = title
        self._work = work
        self._notes = notes
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Prints the note, named by its input."""
        if self._notes:
            self._console.print(
                f"{self._title}: {text}", markup=False, highlight=False, soft_wrap=True
            )

    def start(self, frames: int | None, *, flows: bool) -> None:
        """Sets up the bars."""
        if self._progress is None:
            return
        totals = {"decode": frames, "align": frames}
        if flows and self._work != "flow":
            totals["flow"] = 2 * (frames - 1) if frames else None
        for name in ("decode", "flow", "align"):
            if name in totals:
                title = self._work if name == "align" else name
                self._tasks[name] = self._progress.add_task(title, total=totals[name])

    def frame_read(self) -> None:
        """Moves the bar of decoding."""
        self._advance("decode", 1)

    def flow_done(self) -> None:
        """Moves the bar of flow."""
        self._advance("flow", 1)

    def frames_aligned(self, count: int) -> None:
        """Moves the bar of the work."""
        self._advance("align", count)

    def _advance(self, name: str, count: int) -> None:
        with self._lock:
            if self._progress is not None and name in self._tasks:
                self._progress.advance(self._tasks[name], count)


class SharedProgress(OnConsole):
    """Notes of several clips that are aligned side by side, and a bar for each."""

    def __init__(self, console: Console, *, notes: bool = True) -> None:
        super().__init__(console)
        self._notes = notes

    @contextlib.contextmanager
    def listener(self, title: str) -> Iterator[Listener]:
        """For one clip, until it is finished."""
        task = None if self._progress is None else self._progress.add_task(title, total=None)
        try:
            yield _OneOfSeveral(self._console, title, self._notes, self._progress, task)
        finally:
            if self._progress is not None and task is not None:
                self._progress.remove_task(task)


class _OneOfSeveral(ConsoleListener):
    """Notes as ever, and one bar that belongs to others."""

    def __init__(
        self,
        console: Console,
        title: str,
        notes: bool,
        progress: Progress | None,
        task: TaskID | None,
    ) -> None:
        super().__init__(console, title, notes=notes)
        self._progress = progress
        if task is not None:
            self._tasks["align"] = task

    def start(self, frames: int | None, *, flows: bool) -> None:
        """The length of the bar is known."""
        if self._progress is not None:
            self._progress.update(self._tasks["align"], total=frames)
