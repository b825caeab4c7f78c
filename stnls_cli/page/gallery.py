"""Which pairs of a run are shown: the worst, a median and the best one.

Their pictures are made while the frames are at hand. Nobody knows yet which pair will be the
median, so those of a few pairs drawn by chance are kept until the end; the one nearest to the
median is shown. All choices depend on the scores alone, not on the order of the threads or on
interruptions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from stnls_cli.metrics import IDENTICAL_DB
from stnls_cli.page.pictures import PairPictures, save_pair
from stnls_cli.storage import storage_errors, write_text

DRAWN = 9
FOLDER = "pictures"
JSON_NAME = "pairs.json"
ROLES = ("worst", "median", "best")

Pair = tuple[int, int]
"""(t, dt)"""


class Gallery:
    """The pictures of a run under way, in `folder`/pictures; `done` holds the scores so far."""

    def __init__(self, folder: Path, done: Iterable[tuple[Pair, float]]) -> None:
        self._folder = folder / FOLDER
        self._scores: dict[Pair, float] = {}
        self._lock = threading.Lock()
        for pair, score in done:
            self._scores[pair] = min(score, IDENTICAL_DB)

    def consider(self, pair: Pair, score: float | None, draw: Callable[[], PairPictures]) -> None:
        """Keeps the pictures of a pair where it may be one of those shown. Thread-safe."""
        if score is None:
            return
        with self._lock:
            self._scores[pair] = min(score, IDENTICAL_DB)
            wanted = pair in self._kept()
        if wanted:
            save_pair(self._path(pair), draw())
            with self._lock:
                self._drop(self._kept())

    def finish(self) -> None:
        """Chooses, deletes the others, and writes down which pair is which."""
        with self._lock:
            kept = [pair for pair in self._kept() if self._path(pair).is_dir()]
            if not kept:
                return
            order = sorted(kept, key=self._rank)
            median = float(np.median(list(self._scores.values())))
            middle = min(order, key=lambda pair: (abs(self._scores[pair] - median), pair))
            roles = dict(zip(ROLES, (order[0], middle, order[-1]), strict=True))
            self._drop(set(roles.values()))
            write_pairs(self._folder, {role: pair_name(*pair) for role, pair in roles.items()})

    def _kept(self) -> set[Pair]:
        order = sorted(self._scores, key=self._rank)
        return {*sorted(order, key=_drawn)[:DRAWN], order[0], order[-1]} if order else set()

    def _rank(self, pair: Pair) -> tuple[float, Pair]:
        return self._scores[pair], pair

    def _drop(self, kept: set[Pair]) -> None:
        names = {pair_name(*pair) for pair in kept}
        with contextlib.suppress(FileNotFoundError):
            for entry in self._folder.iterdir():
                if entry.is_dir() and not entry.name.startswith(".") and entry.name not in names:
                    shutil.rmtree(entry, ignore_errors=True)

    def _path(self, pair: Pair) -> Path:
        return self._folder / pair_name(*pair)


def pair_name(t: int, dt: int, clip: str = "") -> str:
    """Of a pair's folder: 00003dt+1."""
    return f"{clip}{'-' if clip else ''}{t:05d}dt{dt:+d}"


def write_pairs(folder: Path, roles: dict[str, str]) -> None:
    """Which of the folders in `folder` is the worst, median and best pair."""
    write_text(folder / JSON_NAME, json.dumps(roles, indent=2) + "\n")


def read_pairs(folder: Path) -> dict[str, Path]:
    """The folders of the pairs shown, by role; none where none were stored."""
    try:
        with storage_errors(folder, "read"):
            text = (folder / JSON_NAME).read_text(encoding="utf-8")
        roles = json.loads(text)
    except Exception:  # a page without pictures is better than none
        return {}
    return {
        role: folder / Path(str(roles[role])).name
        for role in ROLES
        if isinstance(roles, dict)
        and role in roles
        and (folder / Path(str(roles[role])).name).is_dir()
    }


def _drawn(pair: Pair) -> bytes:
    """A number drawn by chance, always the same for a pair."""
    return hashlib.sha256(repr(pair).encode()).digest()
