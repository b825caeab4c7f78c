"""Files that are whole or absent, and failures to write told in one line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from stnls_cli.errors import StorageError, UserError

Document = TypeVar("Document")


@contextlib.contextmanager
def storage_errors(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the file and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StorageError(f"cannot {doing} {path}: {reason}") from error


def read_document(path: Path, what: str, parse: Callable[[dict[str, Any]], Document]) -> Document:
    """What `parse` makes of a JSON file. UserError where that is no object, or where `parse` raises
    a ValueError; `what` the file is meant to be."""
    try:
        with storage_errors(path, "read"):
            text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError(f"not {what} of stnls")
        return parse(document)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


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
    """Raises a StorageError where `write_text` could not write `path`, or would put a file in the
    place of what is none (a pipe, a device); nothing is left there."""
    with storage_errors(path):
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder")
        if path.exists() and not path.is_file():
            raise StorageError(f"cannot write {path}: it is no regular file")
        temporary = path.with_name(f".{path.name}.tmp")
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
