"""MPEG-TS: packets of one size that begin with a sync byte and are counted for each stream."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

SYNC = 0x47
# Packet size and place of the sync byte: plain, M2TS with its time stamps, with error correction.
LAYOUTS = ((188, 0), (192, 4), (204, 0))
PACKETS = 1 << 14


def layout_of(file: BinaryIO) -> tuple[int, int] | None:
    """Packet size and place of the sync byte."""
    for size, place in LAYOUTS:
        file.seek(0)
        head = file.read(4 * size)
        if len(head) == 4 * size and all(byte == SYNC for byte in head[place::size]):
            return size, place
    return None


def sound_until(file: BinaryIO, pid: int) -> int | None:
    """Offset of the unit of stream `pid` in which the first packet is missing or damaged."""
    layout = layout_of(file)
    if layout is None:
        return None
    size, place = layout
    stream = _Stream(pid)
    file.seek(0)
    at = 0
    while len(data := file.read(size * PACKETS)) >= size:
        count = len(data) // size
        packets = np.frombuffer(data, np.uint8, count * size).reshape(count, size)
        packets = packets[:, place : place + 188]
        bad = (packets[:, 0] != SYNC) | (packets[:, 1] & 0x80 != 0)
        end = int(bad.argmax()) if bad.any() else count
        if stream.has_hole(packets[:end], at, size) or end < count:
            return stream.unit
        at += count * size
    return None


class _Stream:
    """The packets of one stream: those with a payload are numbered modulo 16."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.unit = 0
        """Offset of the packet with which the unit (frame) under way began."""
        self._last: NDArray[np.uint8] | None = None
        self._spliced = False

    def has_hole(self, packets: NDArray[np.uint8], at: int, size: int) -> bool:
        """Whether one is missing among these packets, the first of which is at offset `at`."""
        pids = (packets[:, 1] & 0x1F).astype(np.int64) << 8 | packets[:, 2]
        table = pids == 0
        ours = (pids == self.pid) & (packets[:, 3] & 0x10 != 0)
        for index in np.flatnonzero(ours | table):
            packet = packets[index]
            if table[index]:
                self._spliced = True
                continue
            begins = bool(packet[1] & 0x40)
            if not self._follows(packet) and not (begins and self._spliced):
                return True
            if begins:
                self.unit = at + int(index) * size
            self._last, self._spliced = packet, False
        return False

    def _follows(self, packet: NDArray[np.uint8]) -> bool:
        """Whether a packet is the next, the last one again, or says that the count was reset."""
        if self._last is None or _is_reset(packet):
            return True
        step = (int(packet[3]) - int(self._last[3])) & 15
        return step == 1 or (step == 0 and bool(np.array_equal(packet, self._last)))


def _is_reset(packet: NDArray[Any]) -> bool:
    return bool(packet[3] & 0x20 and packet[4] and packet[5] & 0x80)
