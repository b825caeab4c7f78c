"""Flows kept on the disk, known by the frames that they were computed from and by every parameter:
each is computed once, whatever asks for it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stnls_cli.arrays import load_array
from stnls_cli.code_digest import library_digest
from stnls_cli.flow import FLOW_METHODS
from stnls_cli.flow.source import MethodSource
from stnls_cli.storage import storage_errors

if TYPE_CHECKING:
    from stnls_cli.flow.clip_flow import Kind
    from stnls_cli.flow.flo import Flow
    from stnls_cli.flow.methods import Gray

LOG_NAME = "computed.ndjson"


class FlowCache:
    """A folder of flows. Safe for several threads, and for several processes, which at worst
    compute the same flow twice.

    `computed.ndjson` has a line for each flow that was ever computed into it: {"key", "flow",
    "seconds"}.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed: dict[str, int] = {}
        """By method: flows that this process computed."""
        self.read: dict[str, int] = {}
        """By method: flows that were there."""
        self._lock = threading.Lock()

    def source(self, name: str, threads: int) -> CachedSource:
        """The flows of a method by its name, from the cache where they are there."""
        return CachedSource(self, name, threads)

    def get(self, key: str, method: str) -> Flow | None:
        """The flow kept under `key`, None where there is none that is whole."""
        try:
            flow: Flow = load_array(self._path(key))
        except (OSError, ValueError, EOFError):
            return None
        if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
            return None
        with self._lock:
            self.read[method] = self.read.get(method, 0) + 1
        return flow

    def put(self, key: str, method: str, flow: Flow, seconds: float) -> None:
        """Keeps a flow; whole or not at all."""
        path = self._path(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    np.save(file, flow)
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        line = json.dumps({"key": key, "flow": method, "seconds": round(seconds, 3)}) + "\n"
        with self._lock, storage_errors(self.folder / LOG_NAME):
            self.computed[method] = self.computed.get(method, 0) + 1
            with (self.folder / LOG_NAME).open("ab") as log:
                log.write(line.encode())

    def counters(self) -> dict[str, dict[str, int]]:
        """By method: `computed` and `read` by this process, and over all processes that used the
        cache how many were ever computed and how many different ones these are."""
        ever: dict[str, list[str]] = {}
        for entry in self.log():
            ever.setdefault(str(entry.get("flow")), []).append(entry["key"])
        return {
            name: {
                "computed": self.computed.get(name, 0),
                "read": self.read.get(name, 0),
                "ever_computed": len(ever.get(name, ())),
                "different": len(set(ever.get(name, ()))),
            }
            for name in sorted({*ever, *self.read, *self.computed})
        }

    def log(self) -> list[dict[str, Any]]:
        """What was ever computed into this cache; torn lines are passed over."""
        entries = []
        with contextlib.suppress(OSError):
            for line in (self.folder / LOG_NAME).read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and "key" in entry:
                        entries.append(entry)
        return entries

    def drop_unfinished(self) -> None:
        """Deletes what a killed process was writing. Only for one that has the folder to itself."""
        for path in self.folder.rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"


class CachedSource(MethodSource):
    """A method's flows, each looked up before it is computed."""

    def __init__(self, cache: FlowCache, name: str, threads: int) -> None:
        super().__init__(FLOW_METHODS[name], threads)
        self._cache = cache
        known_by = self.describe()
        if self.method.native is not None:
            known_by["library"] = library_digest()
        self._known_by = json.dumps(known_by, sort_keys=True).encode()

    def _flow(self, t: int, kind: Kind, gray0: Gray | None, gray1: Gray | None) -> Flow:
        computed = self.method.create is not None or self.method.native is not None
        if gray0 is None or gray1 is None or not computed:
            return super()._flow(t, kind, gray0, gray1)  # zero flow is not worth a file
        key = flow_key(self._known_by, gray0, gray1)
        flow = self._cache.get(key, self.label)
        if flow is None:
            began = time.perf_counter()
            flow = super()._flow(t, kind, gray0, gray1)
            self._cache.put(key, self.label, flow, time.perf_counter() - began)
        return flow


def flow_key(known_by: bytes, gray0: Gray, gray1: Gray) -> str:
    """SHA-256 over the method and both frames, the first 40 digits."""
    digest = hashlib.sha256(known_by)
    for gray in (gray0, gray1):
        digest.update(str(gray.shape).encode())
        digest.update(np.ascontiguousarray(gray).data)
    return digest.hexdigest()[:40]
