"""Matroska and WebM: elements with sizes, one inside the other; clusters may have a checksum."""

from __future__ import annotations

import zlib
from typing import BinaryIO, NamedTuple

SEGMENT, CLUSTER, VOID, CRC = 0x18538067, 0x1F43B675, 0xEC, 0xBF
# SeekHead, Info, Tracks, Cues, Attachments, Chapters, Tags
OUTER = {
    CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367,
}  # fmt: skip
# Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup, EncryptedBlock
INNER = {0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, VOID, CRC}
LONGEST_HEAD = 12
BLOCK = 1 << 20


class Element(NamedTuple):
    """`stop` is None where the size is said to be unknown (a live recording)."""

    kind: int
    body: int
    stop: int | None


def sound_until(file: BinaryIO) -> int | None:
    """Offset of the first element that cannot be trusted."""
    return _Walk(file).run()


def end_of_elements(file: BinaryIO) -> int | None:
    """Where the last element that was begun ends, by its own size: beyond the end of the file where
    that is cut. For files whose segment has no size; None where they make no sense."""
    return _Walk(file).end()


class _Walk:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.total = file.seek(0, 2)
        self.last = 0
        """The element before the one that is looked at: damage may begin in its bytes."""

    def run(self) -> int | None:
        header = self._element(0)
        segment = self._element(header.stop) if header and header.stop else None
        if segment is None or segment.kind != SEGMENT:
            return None
        at = self.last = segment.body
        while at < min(self.total, segment.stop or self.total):
            element = self._element(at)
            if element is None or element.kind not in OUTER | {VOID, CRC}:
                return self._break(at)
            if segment.stop and element.stop and element.stop > segment.stop:
                return self._break(at)
            if element.kind == CLUSTER and not self._is_checked(element):
                broken, after = self._cluster(at, element)
                if broken is not None:
                    return broken
                at = after
                continue
            if element.stop is None:
                return None
            at = self.last = element.stop
        return None

    def end(self) -> int | None:
        """The end of the last element, clusters without a size taken apart."""
        header = self._element(0)
        segment = self._element(header.stop) if header and header.stop else None
        if segment is None or segment.kind != SEGMENT:
            return None
        at = segment.body
        while at < self.total:
            element = self._element(at)
            if element is None:  # its head alone may be cut
                return self.total + 1 if at + LONGEST_HEAD > self.total else None
            if element.kind == CLUSTER and element.stop is None:
                at = element.body
            elif element.kind not in OUTER | INNER or element.stop is None:
                return None
            else:
                at = element.stop
        return at

    def _break(self, at: int) -> int | None:
        """None where the file merely ends inside the head of an element."""
        return None if at + LONGEST_HEAD > self.total else self.last

    def _is_checked(self, cluster: Element) -> bool:
        """Whether a cluster has a checksum, and it is right."""
        first = self._element(cluster.body)
        if cluster.stop is None or cluster.stop > self.total or first is None or first.kind != CRC:
            return False
        self.file.seek(first.body)
        wanted = int.from_bytes(self.file.read(4), "little")
        left, value = cluster.stop - first.body - 4, 0
        while left > 0 and (data := self.file.read(min(BLOCK, left))):
            value = zlib.crc32(data, value)
            left -= len(data)
        return value == wanted

    def _cluster(self, start: int, cluster: Element) -> tuple[int | None, int]:
        """Where a cluster is broken, and where it ends."""
        has_sum = False
        at = cluster.body
        while at < min(self.total, cluster.stop or self.total):
            element = self._element(at)
            if cluster.stop is None and element is not None and element.kind in OUTER:
                return None, at
            if element is None or element.kind not in INNER or element.stop is None:
                return self._break(at), at if at + LONGEST_HEAD <= self.total else self.total
            if cluster.stop and element.stop > cluster.stop:
                return self.last, at
            has_sum = has_sum or element.kind == CRC
            self.last, at = at, element.stop
        # Every size fits and the sum is wrong: the damage is anywhere in it.
        whole = cluster.stop is not None and cluster.stop <= self.total
        return (start if has_sum and whole else None), at

    def _element(self, at: int) -> Element | None:
        """The element at an offset; None where there is none."""
        self.file.seek(at)
        head = self.file.read(LONGEST_HEAD)
        length = 9 - head[0].bit_length() if head else 9
        if length > 4 or len(head) <= length or not head[length]:
            return None
        wide = 9 - head[length].bit_length()
        body = length + wide
        if body > len(head):
            return None
        size = int.from_bytes(head[length:body], "big") - (1 << 7 * wide)
        unknown = size == (1 << 7 * wide) - 1
        stop = None if unknown else at + body + size
        return Element(int.from_bytes(head[:length], "big"), at + body, stop)
