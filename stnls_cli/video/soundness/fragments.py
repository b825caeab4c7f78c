"""Fragmented MP4: boxes one after another, an index (`moof`) before the frames of each fragment.

In other MP4 files one index lists every frame, so that none is lost without a word.
"""

from __future__ import annotations

from typing import BinaryIO

# Boxes that hold nothing but boxes.
OPENED = {b"moof", b"traf"}
HEAD = 8


def sound_until(file: BinaryIO) -> int | None:
    """Offset of the first fragment that cannot be trusted."""
    total = file.seek(0, 2)
    fragment: int | None = None
    at = 0
    while at + HEAD <= total:
        name, body, end = _box(file, at, total)
        if name == b"moof":
            if end <= total and not _is_tiled(file, body, end):
                return at if fragment is None else fragment
            fragment = at
        elif not _is_name(name) or end < body:
            return fragment
        at = end
    return None


def _is_tiled(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether boxes fill this place without a gap."""
    at = start
    while at + HEAD <= stop:
        name, body, end = _box(file, at, stop)
        if not _is_name(name) or not body <= end <= stop:
            return False
        if name in OPENED and not _is_tiled(file, body, end):
            return False
        at = end
    return at == stop


def _box(file: BinaryIO, at: int, stop: int) -> tuple[bytes, int, int]:
    """Name of a box, where its content begins, where it ends."""
    file.seek(at)
    head = file.read(16)
    size, body = int.from_bytes(head[:4], "big"), at + HEAD
    if size == 1:
        size, body = int.from_bytes(head[8:], "big"), at + 16
    return head[4:8], body, at + size if size else stop


def _is_name(text: bytes) -> bool:
    return all(32 <= byte < 127 or byte == 0xA9 for byte in text)
