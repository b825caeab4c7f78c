"""YUV4MPEG2: a line of text, then frames of one size, each behind a line."""

from __future__ import annotations

import re
from typing import BinaryIO

MAGIC = b"YUV4MPEG2 "
LONGEST_LINE = 1024
SUBSAMPLED = {"420": (2, 2), "422": (2, 1), "411": (4, 1), "440": (1, 2), "444": (1, 1)}


def end_of_frames(file: BinaryIO) -> int | None:
    """Where the last frame that was begun ends; None where the header is of another kind."""
    total = file.seek(0, 2)
    file.seek(0)
    header = file.readline(LONGEST_LINE)
    size = frame_size(header)
    if size is None:
        return None
    at = file.tell()
    while at < total:
        file.seek(at)
        line = file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            return total + 1 if at + LONGEST_LINE > total else None
        if not line.startswith(b"FRAME"):
            return None
        at += len(line) + size
    return at


def frame_size(header: bytes) -> int | None:
    """Bytes of a frame, by the tags W, H and C of the header."""
    if not (header.startswith(MAGIC) and header.endswith(b"\n")):
        return None
    tags = {chr(tag[0]): tag[1:].decode("ascii", "replace") for tag in header.split()[1:]}
    if not all(tags.get(name, "").isdecimal() for name in "WH"):
        return None
    width, height = int(tags["W"]), int(tags["H"])
    colour = re.fullmatch(r"(mono|4\d\d)(alpha)?[a-z]*?(?:p?(\d+))?", tags.get("C", "420jpeg"))
    if colour is None:
        return None
    values = width * height
    if colour[1] != "mono":
        if colour[1] not in SUBSAMPLED:
            return None
        across, down = SUBSAMPLED[colour[1]]
        values += 2 * -(-width // across) * -(-height // down)
    if colour[2]:
        values += width * height
    return values * (1 if int(colour[3] or 8) <= 8 else 2)
