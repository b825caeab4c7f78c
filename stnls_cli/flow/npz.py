"""Arrays in .npz files, one frame at a time.

`numpy.load` reads a member of an .npz whole, and cannot map it. Here memory holds one frame: a
member that `numpy.savez` stored as it is gets read at the frame's place in the file; one that
`numpy.savez_compressed` packed is decompressed up to the frame, and on from there for the next.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from stnls_cli.arrays import PARSING
from stnls_cli.errors import UserError

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a zip member: signature, ..., the lengths of its name and of its extra field."""

DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError)


class NpzArray:
    """One array of an open .npz, indexed along its first axis. Not thread-safe."""

    def __init__(self, archive: zipfile.ZipFile, member: str, where: str) -> None:
        self._archive = archive
        self._info = archive.getinfo(member)
        self._where = where
        self._next = 0
        self._file: IO[bytes] | None = None
        try:
            with archive.open(self._info) as file:
                self.shape, fortran, self.dtype = read_npy_header(file)
                self._header = file.tell()
        except DAMAGE as error:
            raise UserError(f"{where}: not a readable NumPy array ({error})") from None
        if self.dtype.hasobject:
            raise UserError(f"{where}: holds Python objects in place of numbers")
        if fortran and sum(length > 1 for length in self.shape) > 1:
            raise UserError(
                f"{where}: stored in Fortran order; save it with numpy.ascontiguousarray"
            )
        self._frame_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        held = self._info.file_size - self._header
        expected = self._frame_bytes * (self.shape[0] if self.shape else 1)
        if held != expected:
            raise UserError(f"{where}: {self.shape} {self.dtype} take {expected} bytes, not {held}")

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, index: int) -> npt.NDArray[Any]:
        """Frame `index` of the array, in the array's own type."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        try:
            data = self._stored(index) if self._is_stored() else self._decompressed(index)
        except DAMAGE as error:
            raise UserError(f"{self._where}: frame {index} cannot be read ({error})") from None
        if len(data) != self._frame_bytes:
            raise UserError(f"{self._where}: frame {index} is truncated")
        return np.frombuffer(data, dtype=self.dtype).reshape(self.shape[1:])

    def close(self) -> None:
        """Let go of the stream into a compressed array."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_stored(self) -> bool:
        return self._info.compress_type == zipfile.ZIP_STORED

    def _stored(self, index: int) -> bytes:
        with open(str(self._archive.filename), "rb") as file:
            file.seek(self._info.header_offset)
            header = file.read(LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise zipfile.BadZipFile("no local header")
            _, name_length, extra_length = LOCAL_HEADER.unpack(header)
            start = self._info.header_offset + LOCAL_HEADER.size + name_length + extra_length
            file.seek(start + self._header + index * self._frame_bytes)
            return file.read(self._frame_bytes)

    def _decompressed(self, index: int) -> bytes:
        if self._file is None or index < self._next:
            self.close()
            self._file = self._archive.open(self._info)
            self._skip(self._header)
            self._next = 0
        while self._next < index:
            self._skip(self._frame_bytes)
            self._next += 1
        self._next += 1
        return self._file.read(self._frame_bytes)

    def _skip(self, count: int) -> None:
        assert self._file is not None
        if len(self._file.read(count)) != count:
            raise EOFError("truncated")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type; the file is left where the data begin."""
    version = npy.read_magic(file)
    with PARSING:
        if version == (1, 0):
            return npy.read_array_header_1_0(file)
        if version == (2, 0):
            return npy.read_array_header_2_0(file)
    raise ValueError(f"unsupported .npy version {version}")


def write_npz(
    path: str | Path,
    arrays: Mapping[str, tuple[tuple[int, ...], Iterable[npt.NDArray[np.float32]]]],
) -> None:
    """Write float32 arrays, each given as its shape and its frames in order.

    Stored as they are, so that a frame can be found again; one frame is in memory at a time.
    The file is written under a temporary name, then renamed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, (shape, frames) in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    npy.write_array_header_1_0(file, header)
                    count = 0
                    for frame in frames:
                        if frame.shape != shape[1:]:
                            raise ValueError(f"{name}[{count}] is {frame.shape}, not {shape[1:]}")
                        file.write(np.ascontiguousarray(frame, dtype="<f4").tobytes())
                        count += 1
                    if count != shape[0]:
                        raise ValueError(f"{name} has {count} frames, its shape says {shape[0]}")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
