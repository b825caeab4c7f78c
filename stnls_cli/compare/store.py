"""Finished cells of the grid on the disk, and the journals of those under way.

A cell is one setting on one clip. `cells/CLIP/SETTING-KEY.json` holds the rows of a finished one;
KEY is a digest of everything that they depend on. `….ndjson` beside it has a line for each frame
that is done of an unfinished one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stnls_cli.fingerprint import normalised
from stnls_cli.journal import Journal
from stnls_cli.report import Row
from stnls_cli.storage import storage_errors, write_text

SCHEMA = "stnls-cell"
VERSION = 1


@dataclass(frozen=True)
class StoredCell:
    """A finished cell."""

    rows: tuple[Row, ...]
    clip: dict[str, Any]
    """What was read: frames, size, notes, damage."""


class CellStore:
    """The folder `cells` of a comparison."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, clip: str, setting: str, depends_on: Mapping[str, Any]) -> Path:
        """Where a cell lies: also where its clip had another name."""
        text = json.dumps(normalised(depends_on), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        name = f"{_file_name(setting)}-{key}"
        own = self.folder / _file_name(clip) / f"{name}.json"
        places = [own, own.with_suffix(".ndjson")]
        places += sorted(self.folder.glob(f"*/{name}.json"))
        places += sorted(self.folder.glob(f"*/{name}.ndjson"))
        found = next((place for place in places if place.is_file()), own)
        return found.with_suffix(".json")

    def load(self, path: Path) -> StoredCell | None:
        """A finished cell; None where there is none that can be read."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["schema"] != SCHEMA or document["version"] != VERSION:
                return None
            rows = tuple(Row.from_json(row) for row in document["rows"])
            return StoredCell(rows, dict(document["clip"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def journal(self, path: Path) -> Journal:
        """The frames of an unfinished cell."""
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return Journal(path.with_suffix(".ndjson"))

    def finish(
        self, path: Path, depends_on: Mapping[str, Any], cell: StoredCell, journal: Journal
    ) -> None:
        """Writes a cell, whole; its journal goes."""
        document = {
            "schema": SCHEMA,
            "version": VERSION,
            "depends_on": normalised(depends_on),
            "clip": cell.clip,
            "rows": [row.to_json() for row in cell.rows],
        }
        write_text(path, json.dumps(document, allow_nan=False) + "\n")
        journal.close()
        with contextlib.suppress(OSError):
            journal.path.unlink()


def _file_name(text: str) -> str:
    """Letters that every file system takes, not too many."""
    plain = re.sub(r"[^A-Za-z0-9.,=+_-]", "_", text)[:100]
    return plain if plain.strip(".") else "_"
