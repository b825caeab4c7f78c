"""A process that aligns clips for another one: see `workers.py`.

`python -m stnls_cli.worker FD DEVICE` takes its orders from the socket FD and answers there. They
are probably for DEVICE, which may be empty.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stnls_cli.progress import Listener

if TYPE_CHECKING:
    from stnls_cli.options import AlignOptions


class SendingListener(Listener):
    """Tells every step to the other process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # frames are finished on another thread

    def note(self, text: str) -> None:
        """A note."""
        self._tell("note", text)

    def start(self, frames: int | None, *, flows: bool) -> None:
        """The clip is open."""
        self._tell("start", frames, flows)

    def frames_aligned(self, count: int) -> None:
        """Frames are finished. Those that were read, and flows, are not told: there is one bar."""
        self._tell("frames_aligned", count)

    def _tell(self, name: str, *values: Any) -> None:
        with self._lock:
            self._connection.send(("step", name, values))


def serve(connection: Connection, likely: str) -> None:
    """Aligns one clip after the other until the other process says None, or is gone."""
    # Takes seconds; what it lacks is told as the outcome of the first order.
    with contextlib.suppress(Exception):
        import stnls_cli.pipeline  # noqa: F401

        if likely:
            from stnls_cli.devices import begin_with

            begin_with(likely)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            connection.send(("ready",))
            order = connection.recv()
            if order is None:
                return
            connection.send(_outcome(connection, *order))


def _outcome(
    connection: Connection, path: Path, folder: Path, options: AlignOptions, sharing: int
) -> tuple[Any, ...]:
    from stnls_cli.console import described
    from stnls_cli.errors import UserError
    from stnls_cli.pipeline import align_clip
    from stnls_cli.plan import gpu_shared_by

    try:
        with gpu_shared_by(sharing):
            aligned = align_clip(path, folder, options, SendingListener(connection))
    except ConnectionError:
        raise
    except Exception as error:
        if os.environ.pop("STNLS_TRACEBACK", None) and not isinstance(error, UserError):
            traceback.print_exc()
        return "failed", isinstance(error, UserError), described(error)
    return "done", aligned.folder, aligned.already_done, aligned.speed


def _interrupted_once(*_: object) -> None:
    # A terminal sends Ctrl-C to us too, and the process that we work for passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Begins to serve; quiet when interrupted."""
    code = 0
    try:
        signal.signal(signal.SIGINT, _interrupted_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        serve(Connection(int(sys.argv[1])), *sys.argv[2:])
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    os._exit(code)  # threads that compute flow are not waited for


if __name__ == "__main__":
    main()
