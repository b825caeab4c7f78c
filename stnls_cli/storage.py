"""Files that are whole or absent, and failures to write told in one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stnls_cli.errors import StorageError


@contextlib.contextmanager
def storage_errors(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the file and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StorageError(f"cannot {doing} {path}: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 under a temporary name beside `path`, flush to the disk, rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def check_writable(path: Path) -> None:
    """Raises a StorageError where `write_text` could not write `path`; nothing is left there."""
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        temporary.touch()
        temporary.unlink()


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
