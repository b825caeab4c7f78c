"""Files that are never seen half-written under their own name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path`, of this process, with the same suffix."""
    return path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Write under the name given, renamed to `path` on success and removed on failure."""
    name = temporary_name(path)
    try:
        yield name
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
