"""FLV: tags one after another, each followed by its size."""

from __future__ import annotations

from typing import BinaryIO

AUDIO, VIDEO, SCRIPT = 8, 9, 18
HEAD = 11


def sound_until(file: BinaryIO) -> int | None:
    """Offset of the first tag that cannot be trusted."""
    total = file.seek(0, 2)
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    last = at
    exact: bool | None = None
    while at + HEAD <= total:
        file.seek(at)
        head = file.read(HEAD)
        if head[0] not in (AUDIO, VIDEO, SCRIPT):
            return last
        end = at + HEAD + int.from_bytes(head[1:4], "big")
        file.seek(end)
        size = file.read(4)
        if len(size) < 4:
            return None
        # Some writers never get the size right; one that does never gets it wrong.
        fits = int.from_bytes(size, "big") == end - at
        if exact and not fits:
            return at
        exact = fits if exact is None else exact
        last, at = at, end + 4
    return None
