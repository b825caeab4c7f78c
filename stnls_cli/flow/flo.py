"""The Middlebury .flo file: one flow.

Little-endian throughout: the four bytes PIEH (the float32 202021.25), width and height as int32,
then (dx, dy) float32 for each pixel, row by row.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stnls_cli.errors import UserError

Flow = npt.NDArray[np.float32]

MAGIC = b"PIEH"
HEADER = struct.Struct("<4sii")
UNKNOWN = 1e9
"""Components whose magnitude is above this mark pixels of unknown flow."""


def read_flo(path: str | Path) -> Flow:
    """The flow in the file, (H, W, 2) float32 in the order (dx, dy); NaN where it is unknown."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    width, height = parse_header(data, path)
    expected = HEADER.size + 8 * width * height
    if len(data) != expected:
        fault = "truncated" if len(data) < expected else "too long"
        raise UserError(
            f"{path}: {fault}: a {width}x{height} flow takes {expected} bytes, here are {len(data)}"
        )
    flow = np.frombuffer(data, dtype="<f4", offset=HEADER.size).reshape(height, width, 2)
    known = np.abs(flow) <= UNKNOWN
    return np.where(known.all(axis=2, keepdims=True), flow, np.float32(np.nan))


def read_flo_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header alone."""
    try:
        with path.open("rb") as file:
            return parse_header(file.read(HEADER.size), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def parse_header(data: bytes, path: Path) -> tuple[int, int]:
    """Width and height, checked."""
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(
            f"{path}: not a .flo file: it begins with {data[:4]!r} in place of {MAGIC!r}"
        )
    if len(data) < HEADER.size:
        raise UserError(f"{path}: truncated: the header alone takes {HEADER.size} bytes")
    _, width, height = HEADER.unpack_from(data)
    if width < 1 or height < 1:
        raise UserError(f"{path}: damaged: the header says {width}x{height} pixels")
    return width, height


def write_flo(path: str | Path, flow: npt.NDArray[np.floating]) -> None:
    """Write an (H, W, 2) flow under a temporary name, then rename it."""
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"expected a flow of the shape (H, W, 2), got {flow.shape}")
    path = Path(path)
    height, width = flow.shape[:2]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(HEADER.pack(MAGIC, width, height))
            file.write(np.ascontiguousarray(flow, dtype="<f4").data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
