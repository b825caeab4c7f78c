"""Flow of a clip in an .npz file with the keys `forward` and `backward`."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stnls_cli.errors import UserError
from stnls_cli.flow.clip_flow import KINDS, LEADS_TO, FlowFiles, Kind, needed, sha256
from stnls_cli.flow.flo import Flow
from stnls_cli.flow.npz import DAMAGE, NpzArray, write_npz

NPZ_NAME = "flow.npz"
"""In the folder of a run of `stnls flow`."""


class NpzFlow(FlowFiles):
    """An .npz with the keys `forward` and `backward`."""

    layout = "npz"

    def __init__(self, path: Path, height: int | None, width: int | None) -> None:
        super().__init__(path, height, width)
        self._lock = threading.Lock()
        try:
            self._archive = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise UserError(f"{path}: not an .npz file, or a damaged one ({error})") from None
        try:
            self._check_keys()
            self._arrays = {
                kind: NpzArray(self._archive, f"{kind}.npy", f"{path}, {kind}") for kind in KINDS
            }
            for kind, array in self._arrays.items():
                self._check_array(kind, array)
        except BaseException:
            self._archive.close()
            raise

    def _check_keys(self) -> None:
        members = self._archive.namelist()
        unknown = [member for member in members if member.removesuffix(".npy") not in KINDS]
        if unknown:
            raise UserError(
                f"{self.path}: unknown key {unknown[0].removesuffix('.npy')!r}; "
                "a flow file has the keys 'forward' and 'backward'"
            )
        for kind in KINDS:
            if f"{kind}.npy" not in members:
                raise UserError(f"{self.path}: no key {kind!r} ({LEADS_TO[kind]}); both are needed")

    def _check_array(self, kind: str, array: NpzArray) -> None:
        where = f"{self.path}, {kind}"
        if array.dtype.newbyteorder("=") not in (np.dtype("f4"), np.dtype("f8")):
            raise UserError(f"{where}: the type is {array.dtype}; float32 or float64 is needed")
        if len(array.shape) != 4 or array.shape[3] != 2:
            raise UserError(f"{where}: the shape is {array.shape}; (T, H, W, 2) is needed")
        self.check_size(array.shape[2], array.shape[1], where)

    def require(self, start: int, stop: int) -> None:
        """Compare with the lengths of the two arrays."""
        for kind, first, last in needed(start, stop):
            if first <= last:
                self._check_index(kind, last)

    def _check_index(self, kind: Kind, t: int) -> None:
        if not 0 <= t < len(self._arrays[kind]):
            raise UserError(
                f"{self.path}, {kind}: no flow for frame {t}; it has {len(self._arrays[kind])}"
            )

    def _load(self, kind: Kind, t: int) -> tuple[Flow, str]:
        self._check_index(kind, t)
        with self._lock:
            flow = self._arrays[kind].read(t)
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused as such
            return flow.astype(np.float32), f"{self.path}, {kind}, frame {t}"

    def digest(self) -> str:
        """Of the file as it is."""
        return f"sha256:{sha256(self.path)}"

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            for array in self._arrays.values():
                array.close()
            self._archive.close()


def write_flow_npz(
    path: str | Path,
    forward: Iterable[npt.NDArray[np.float32]],
    backward: Iterable[npt.NDArray[np.float32]],
    shape: tuple[int, int, int],
) -> None:
    """Write both directions of T frames, `shape` = (T, H, W), each flow (H, W, 2), in order.

    The last forward and the first backward flow have to be there; zeros will do.
    """
    full = (*shape, 2)
    write_npz(path, {"forward": (full, forward), "backward": (full, backward)})
