"""An append-only record of finished reference frames: one line of JSON for each, on the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from stnls_cli.storage import storage_errors


class Journal:
    """`frames.ndjson`: a frame is in it wholly or not at all, whatever kills the process.

    `done` maps frame indices to the payloads that were there at the start, or to None for those
    recorded since; a frame recorded twice keeps the later one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[int, Any] = {}
        with storage_errors(path):
            self._descriptor: int | None = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666
            )
        try:
            with storage_errors(path, "read"):
                whole = self._load(path.read_bytes())
            with storage_errors(path):
                os.ftruncate(self._descriptor, whole)
        except BaseException:
            self.close()
            raise

    def record(self, t: int, payload: Any) -> None:
        """Append frame `t`, and return once the line is on the disk.

        `payload` is strict JSON: plain values, no NaN, no infinity (ValueError otherwise).
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        line = json.dumps({"t": t, "payload": payload}, allow_nan=False, ensure_ascii=True)
        data = line.encode("ascii") + b"\n"
        with storage_errors(self.path):
            start = os.fstat(self._descriptor).st_size
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
                os.fsync(self._descriptor)
            except OSError:
                # Full disk: the next line must not continue half of this one.
                os.ftruncate(self._descriptor, start)
                raise
        # What was written in this run is not kept in memory a second time.
        self.done[t] = None

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _load(self, data: bytes) -> int:
        """Fill `done` from the whole lines; where the first torn or damaged one begins."""
        position = 0
        while (end := data.find(b"\n", position)) >= 0:
            try:
                entry = json.loads(data[position:end])
                t, payload = entry["t"], entry["payload"]
            except (ValueError, KeyError, TypeError):
                break
            self.done[int(t)] = payload
            position = end + 1
        return position
