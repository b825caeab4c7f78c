"""MPEG-TS: packets of one size that begin with a sync byte and are counted for each stream."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Packet = NDArray[np.uint8]

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
        self._last: Packet | None = None
        self._table = False
        """Whether the program's table came after `_last`: there recordings are joined."""

    def has_hole(self, packets: NDArray[np.uint8], at: int, size: int) -> bool:
        """Whether one is missing among these packets, the first of which is at offset `at`."""
        pids = (packets[:, 1] & 0x1F).astype(np.int64) << 8 | packets[:, 2]
        tables = np.flatnonzero(pids == 0)
        ours = np.flatnonzero((pids == self.pid) & (packets[:, 3] & 0x10 != 0))
        if not len(ours):
            self._table = self._table or len(tables) > 0
            return False
        mine = packets[ours]
        before = mine[:1] if self._last is None else self._last[None]
        before = np.concatenate((before, mine[:-1]))
        begins = mine[:, 1] & 0x40 != 0
        hole = len(mine)
        for n in np.flatnonzero((mine[:, 3] - before[:, 3]) & 15 != 1):
            first = ours[n - 1] if n else 0
            joined = bool(((tables >= first) & (tables < ours[n])).any()) or (
                n == 0 and self._table
            )
            if not (_may_follow(before[n], mine[n]) or (begins[n] and joined)):
                hole = int(n)
                break
        if (starts := ours[:hole][begins[:hole]]).size:
            self.unit = at + int(starts[-1]) * size
        self._last, self._table = mine[-1], bool((tables > ours[-1]).any())
        return hole < len(mine)


def _may_follow(before: Packet, packet: Packet) -> bool:
    """Whether a packet out of count is the same again, or says that the count begins anew."""
    if packet[3] & 0x20 and packet[4] and packet[5] & 0x80:
        return True
    return bool(np.array_equal(packet, before))
