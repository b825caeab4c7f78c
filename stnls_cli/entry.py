"""Where the command `stnls` begins: Ctrl-C is heeded from the first moment on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

RESUMED = ("align", "compare", "flow")
"""Commands that keep what is finished."""
SHOW_CURSOR = b"\x1b[?25h"
EXIT_INTERRUPTED = 130


def main() -> None:
    """Runs the tool."""
    # Where Ctrl-C is ignored (a background job of a script), it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    from stnls_cli.app import main as run

    run()


def interrupted_words() -> str:
    """What is said after Ctrl-C."""
    if sys.argv[1:2] and sys.argv[1] in RESUMED:
        return "interrupted; the same command goes on where it stopped"
    return "interrupted"


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, but not in the middle of an import: extension modules turn it into
    other errors there. What is written then is as whole as after any kill."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def _leave() -> None:
    with contextlib.suppress(OSError):
        words = f"stnls: {interrupted_words()}\n".encode()
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + words)
    os._exit(EXIT_INTERRUPTED)
