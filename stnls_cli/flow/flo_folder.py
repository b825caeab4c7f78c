"""Flow of a clip in folders `forward` and `backward` of .flo files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from stnls_cli.errors import UserError
from stnls_cli.flow.clip_flow import KINDS, FlowFiles, Kind, needed, sha256
from stnls_cli.flow.flo import Flow, read_flo, read_flo_size, write_flo


class FloFolder(FlowFiles):
    """Folders `forward` and `backward` of .flo files named by frame number."""

    layout = "flo"

    def __init__(self, path: Path, height: int | None, width: int | None) -> None:
        super().__init__(path, height, width)
        self._files = {kind: _numbered(path, kind) for kind in KINDS}
        for kind in KINDS:
            first = next(iter(self._files[kind].values()))
            self.check_size(*read_flo_size(first), str(first))

    def require(self, start: int, stop: int) -> None:
        """Look for the names alone; nothing is opened."""
        for kind, first, last in needed(start, stop):
            for t in range(first, last + 1):
                self._file(kind, t)

    def _file(self, kind: Kind, t: int) -> Path:
        file = self._files[kind].get(t)
        if file is None:
            raise UserError(
                f"{self.path / kind}: no flow for frame {t} ({kind}/{t:05d}.flo); "
                f"{len(self._files[kind])} files there"
            )
        return file

    def _load(self, kind: Kind, t: int) -> tuple[Flow, str]:
        file = self._file(kind, t)
        flow = read_flo(file)
        self.check_size(flow.shape[1], flow.shape[0], str(file))
        return flow, str(file)

    def digest(self) -> str:
        """Of frame numbers and contents: zeros before the number make no difference."""
        total = hashlib.sha256()
        for kind in KINDS:
            for t, file in sorted(self._files[kind].items()):
                total.update(f"{kind} {t} {sha256(file)}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def close(self) -> None:
        """Nothing is open between two reads."""


def write_flow_folder(folder: str | Path) -> Callable[[Kind, int, Flow], Path]:
    """Make the folders of the .flo layout; the answer writes one flow and says where."""
    folder = Path(folder)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)

    def write(kind: Kind, t: int, flow: Flow) -> Path:
        file = folder / kind / f"{t:05d}.flo"
        write_flo(file, flow)
        return file

    return write


def _numbered(path: Path, kind: str) -> dict[int, Path]:
    """The .flo files of one direction by frame number, in order."""
    folder = path / kind
    if not folder.is_dir():
        raise UserError(
            f"{path}: no folder {kind!r} in it; flows are kept as "
            "forward/00000.flo (t -> t+1) and backward/00001.flo (t -> t-1)"
        )
    files: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() != ".flo" or file.name.startswith("."):
            continue
        if not (file.stem.isascii() and file.stem.isdigit()):
            raise UserError(f"{file}: the name has to be the frame's number, such as 00000.flo")
        if int(file.stem) in files:
            raise UserError(f"{file}: frame {int(file.stem)} has a second file in this folder")
        files[int(file.stem)] = file
    if not files:
        raise UserError(f"{folder}: no .flo files in it")
    return dict(sorted(files.items()))
