"""Does a file end before its own container says it should?

FFmpeg reads a cut Matroska, AVI, MPEG-TS, MPEG-PS, YUV4MPEG2 or GIF file to its end without a
word, and a cut MP4 sometimes. The sizes that their elements carry tell it; an MPEG-TS has only its
packets (one cut exactly between two of them cannot be told from a shorter recording), a GIF its
trailer.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from stnls_cli.video.soundness import program, raw
from stnls_cli.video.soundness.matroska import end_of_elements
from stnls_cli.video.soundness.transport import layout_of

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"
BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"pnot", b"sidx"}


def promised_size(path: Path) -> int | None:
    """Bytes that a whole file would have at least; None when the format does not say."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == EBML:
            return _matroska(file)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little")
        if head[4:8] in BOXES:
            return max((end for _, end in _boxes(file)), default=None)
        if head[:4] == b"GIF8":
            return _gif(file)
        if head[:10] == raw.MAGIC:
            return raw.end_of_frames(file)
        if head[:4] == program.START:
            return program.end_of_packets(file)
        return _transport_stream(file)


def is_cut(path: Path) -> bool:
    """True when the file ends inside an element that it has begun."""
    promised = promised_size(path)
    return promised is not None and promised > path.stat().st_size


def lacks_index(path: Path) -> bool:
    """True for an MP4 or MOV file without its `moov` box, from which nothing can be decoded."""
    with path.open("rb") as file:
        if file.read(12)[4:8] not in BOXES:
            return False
        return not any(kind == b"moov" for kind, _ in _boxes(file))


def _boxes(file: BinaryIO) -> list[tuple[bytes, int]]:
    """Top-level boxes that begin inside the file: (type, offset of their end)."""
    total = file.seek(0, 2)
    found = []
    start = 0
    while start + 8 <= total:
        file.seek(start)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:
            size = total - start
        if size < 8:
            break
        start += size
        found.append((head[4:8], start))
    return found


def _gif(file: BinaryIO) -> int:
    total = file.seek(0, 2)
    file.seek(max(0, total - 64))
    # Some writers pad behind the trailer.
    return total if file.read().rstrip(b"\0\r\n ").endswith(b";") else total + 1


def _transport_stream(file: BinaryIO) -> int | None:
    total = file.seek(0, 2)
    layout = layout_of(file)
    return None if layout is None else -(-total // layout[0]) * layout[0]


def _matroska(file: BinaryIO) -> int | None:
    file.seek(4)
    header = _ebml_number(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != SEGMENT:
        return None
    size = _ebml_number(file)
    return end_of_elements(file) if size is None else file.tell() + size


def _ebml_number(file: BinaryIO) -> int | None:
    """Variable-length size; None when it is the reserved "unknown" (a live recording)."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + rest, "big")
    return None if value == (1 << 7 * length) - 1 else value
