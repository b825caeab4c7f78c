"""Rotation and mirroring that a file asks players to apply (its display matrix)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

POINT = 0x10  # swscale's nearest-neighbour filter


@dataclass(frozen=True)
class Orientation:
    """Transpose first, then mirror columns (`flip_x`) and rows (`flip_y`)."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    note: str = ""

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Stored (H, W, 3) to displayed pixels; C-contiguous."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.flip_x:
            pixels = pixels[:, ::-1]
        if self.flip_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)

    def displayed(self, width: int, height: int) -> tuple[int, int]:
        """Displayed (width, height) of a stored size; its own inverse."""
        return (height, width) if self.transpose else (width, height)


NAMES = {
    (False, False, False): "",
    (False, True, False): "mirrored left to right as its metadata says",
    (False, False, True): "mirrored top to bottom as its metadata says",
    (False, True, True): "rotated by 180 degrees as its metadata says",
    (True, False, False): "transposed as its metadata says",
    (True, True, False): "rotated by 90 degrees clockwise as its metadata says",
    (True, False, True): "rotated by 90 degrees anticlockwise as its metadata says",
    (True, True, True): "transposed about the other diagonal as its metadata says",
}


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """Nearest of the eight orientations to FFmpeg's display matrix (a b u c d v x y w).

    A stored pixel (p, q) is shown at (a p + c q + x, b p + d q + y).
    """
    a, b, _, c, d = matrix[:5]
    if not (a or b) or not (c or d):
        return Orientation(note="display matrix is degenerate, ignored")
    if min(abs(a), abs(d)) > 8 * max(abs(b), abs(c)):
        key = (False, a < 0, d < 0)
    elif min(abs(b), abs(c)) > 8 * max(abs(a), abs(d)):
        key = (True, c < 0, b < 0)
    else:
        return Orientation(note="rotation that is no multiple of 90 degrees ignored")
    return Orientation(*key, note=NAMES[key])


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation to show a decoded frame in."""
    # A PyAV frame whose side data was looked at is a reference cycle and keeps its pixels until
    # the garbage collector comes by: look at the side data of a tiny copy.
    copy = frame.reformat(width=8, height=8, format="gray", interpolation=POINT)
    try:
        entries: Any = copy.side_data
    except ValueError:
        _accept_unknown_kinds()
        entries = copy.side_data
    # PyAV's stubs take the container for a mapping; iterating it gives the side data.
    for entry in entries:
        if entry.type.name == "DISPLAYMATRIX":
            values = np.frombuffer(bytes(entry), np.int32)
            return from_matrix(tuple(int(v) for v in values))
    return Orientation()


def _accept_unknown_kinds() -> None:
    """Let PyAV list side data that is newer than its enumeration.

    PyAV 18 does not know FFmpeg 8's EXIF entry and raises ValueError for every TIFF and for JPEGs
    from cameras, the display matrix included.
    """
    from av.sidedata import sidedata

    kinds: Any = sidedata.Type

    def unnamed(cls: Any, value: int) -> Any:
        kind = object.__new__(cls)
        kind._name_ = f"UNKNOWN_{value}"
        kind._value_ = value
        return kind

    kinds._missing_ = classmethod(unnamed)
