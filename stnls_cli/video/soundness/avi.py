"""AVI: chunks with a name and a size, in lists."""

from __future__ import annotations

from typing import BinaryIO

HEAD = 8
# Their content is chunks again; that of other lists, such as the headers, is passed over.
OPENED = {b"movi", b"rec ", b"AVI ", b"AVIX"}


def sound_until(file: BinaryIO) -> int | None:
    """Offset of the first chunk that cannot be trusted."""
    total = file.seek(0, 2)
    at = last = 0
    ends = [total]
    while at + HEAD <= total:
        # Recordings that were never finished have lists of size 0.
        while len(ends) > 1 and at >= ends[-1]:
            ends.pop()
        file.seek(at)
        head = file.read(HEAD + 4)
        if not _is_name(head[:4]):
            # Some writers leave out the byte that makes sizes even.
            file.seek(at - 1)
            head = file.read(HEAD + 4)
            if not _is_name(head[:4]) or at % 2:
                return last
            at -= 1
        size = int.from_bytes(head[4:8], "little")
        end = at + HEAD + size + size % 2
        if head[:4] in (b"RIFF", b"LIST") and head[8:12] in OPENED:
            ends.append(end if size else total)
            last, at = at, at + HEAD + 4
            continue
        if len(ends) > 1 and end > ends[-1] + 1:
            return last
        last, at = at, end
    return None


def _is_name(text: bytes) -> bool:
    return len(text) == 4 and all(byte == 32 or chr(byte).isalnum() for byte in text)
