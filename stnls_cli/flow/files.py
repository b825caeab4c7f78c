"""Flow of a whole clip, from files.

Two layouts, both indexed by the frame's number in the source clip (from 0, also with --start), on
the displayed grid of that frame, in the order (dx, dy):

- a folder with `forward/00000.flo` (frame t to t+1) and `backward/00001.flo` (t to t-1);
- an .npz file with the keys `forward` and `backward`, each (T, H, W, 2) float32 or float64, also by
  the name of the folder that `stnls flow --format npz` wrote it to.

The last forward and the first backward flow lead out of the clip and are never read: `forward` may
have T-1 entries, and in folders neither file has to be there.
"""

from __future__ import annotations

from pathlib import Path

from stnls_cli.errors import UserError
from stnls_cli.flow.clip_flow import KINDS, FlowFiles
from stnls_cli.flow.flo_folder import FloFolder
from stnls_cli.flow.npz_flow import NPZ_NAME, NpzFlow


def open_flow_files(
    path: str | Path,
    *,
    height: int | None,
    width: int | None,
    start: int = 0,
    stop: int | None = None,
) -> FlowFiles:
    """Flow files for frames of height x width pixels, numbered start <= t < stop in the source.

    A size of None is that of the flows. UserError where flows are of another size, or missing.
    `stop` is None while the clip's length is not known; a flow that is not there is then found
    missing only when it is asked for.
    """
    path = Path(path)
    if (path / NPZ_NAME).is_file() and not any((path / kind).is_dir() for kind in KINDS):
        path /= NPZ_NAME
    if path.is_dir():
        files: FlowFiles = FloFolder(path, height, width)
    elif path.suffix.lower() == ".npz" and path.is_file():
        files = NpzFlow(path, height, width)
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder of flows")
    else:
        raise UserError(f"{path}: flows are read from an .npz file or a folder of .flo files")
    if stop is not None:
        try:
            files.require(start, stop)
        except UserError:
            files.close()
            raise
    return files
