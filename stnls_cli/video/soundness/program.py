"""MPEG program stream: packs and packets, each behind a start code, packets with a length."""

from __future__ import annotations

from typing import BinaryIO

PACK, END = 0xBA, 0xB9
FIRST_WITH_LENGTH = 0xBB
"""System header; every code from it on is followed by a length."""
START = b"\0\0\1\xba"


def end_of_packets(file: BinaryIO) -> int | None:
    """Where the last packet that was begun ends; None where the stream makes no sense."""
    total = file.seek(0, 2)
    at = 0
    while at < total:
        file.seek(at)
        head = file.read(14)
        if head[:3] != b"\0\0\1":
            # Zeros may stand between packets, and at the end.
            return total if not (head + file.read()).strip(b"\0") else None
        if len(head) < 6:
            return at + 4 if len(head) > 3 and head[3] == END else total + 1
        if head[3] == END:
            at += 4
        elif head[3] == PACK:
            if len(head) < 14:
                return total + 1
            mpeg2 = head[4] >> 6 == 1
            at += 14 + (head[13] & 7) if mpeg2 else 12
        elif head[3] >= FIRST_WITH_LENGTH:
            at += 6 + int.from_bytes(head[4:6], "big")
        else:
            return None
    return at
