"""Digest of an input: tells a report which footage it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stnls_cli.errors import UserError
from stnls_cli.video.folder import list_frames

BLOCK = 1 << 20


def clip_digest(path: Path | str) -> str:
    """`sha256:...` of a file's bytes, or of the names, lengths and bytes of a folder's frames."""
    path = Path(path)
    digest = hashlib.sha256()
    frames = list_frames(path) if path.is_dir() else None
    try:
        if frames is None:
            _feed(digest, path)
        else:
            for frame in frames:
                digest.update(f"{frame.name}\0{frame.stat().st_size}\0".encode())
                _feed(digest, frame)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return f"sha256:{digest.hexdigest()}"


def _feed(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
