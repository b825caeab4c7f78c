"""Which pairs of a run are shown: the worst, a median and the best one.

What they are made of is kept while the frames are at hand. Nobody knows yet which pair will be the
median, so a few pairs drawn by chance are kept until the end; the one nearest to the median is
shown. All choices depend on the scores alone, not on the order of the threads or on interruptions.
Pictures are painted at the end: a page has three pairs of the hundreds that a clip has.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from stnls_cli.errors import StorageError
from stnls_cli.metrics import IDENTICAL_DB
from stnls_cli.page.pictures import (
    SmallPair,
    load_small_pair,
    paint_pair,
    save_pair,
    save_small_pair,
)
from stnls_cli.storage import storage_errors, write_text

DRAWN = 9
FOLDER = "pictures"
JSON_NAME = "pairs.json"
ROLES = ("worst", "median", "best")
SMALL = ".npz"

Pair = tuple[int, int]
"""(t, dt)"""


Scores = Mapping[str, float | None]
"""PSNR by method."""


class Gallery:
    """The pictures of a run under way, in `folder`/pictures; `done` holds the scores so far: PSNR
    by method, the last one ranking the pairs. `expected`: all pairs that the run will have, where
    that is known; then no more than these are drawn from."""

    def __init__(
        self,
        folder: Path,
        done: Iterable[tuple[Pair, Scores]],
        expected: Collection[Pair] | None = None,
    ) -> None:
        self._folder = folder / FOLDER
        self._scores: dict[Pair, Scores] = {}
        self._ranks: dict[Pair, float] = {}
        self._drawn: list[Pair] = []
        self._fixed = expected is not None
        if expected is not None:
            self._drawn = heapq.nsmallest(DRAWN, expected, key=_drawn)
        self._ends: tuple[Pair, Pair] | None = None
        self._lock = threading.Lock()
        for pair, scores in done:
            self._add(pair, scores)

    def consider(self, pair: Pair, scores: Scores, shrink: Callable[[], SmallPair]) -> None:
        """Keeps a pair where it may be one of those shown. Thread-safe."""
        with self._lock:
            wanted = self._add(pair, scores)
        if wanted:
            save_small_pair(self._kept_at(pair), shrink())
            with self._lock:
                self._drop()

    def finish(self) -> None:
        """Chooses, paints the pictures, and writes down which pair is which."""
        kept = [p for p in self._kept() if p in self._ranks and self._kept_at(p).is_file()]
        if not kept:
            return
        order = sorted(kept, key=self._rank)
        median = float(np.median(list(self._ranks.values())))
        middle = min(order, key=lambda pair: (abs(self._ranks[pair] - median), pair))
        roles = dict(zip(ROLES, (order[0], middle, order[-1]), strict=True))
        chosen = set(roles.values())
        with ThreadPoolExecutor(len(chosen), thread_name_prefix="paint") as pool:
            list(pool.map(self._paint, chosen))  # and raises what painting raised
        write_pairs(self._folder, {role: pair_name(*pair) for role, pair in roles.items()})
        for path in self._folder.glob(f"*{SMALL}"):
            path.unlink(missing_ok=True)

    def _paint(self, pair: Pair) -> None:
        t, dt = pair
        small = load_small_pair(self._kept_at(pair))
        pictures = paint_pair(small, clip="", t=t, dt=dt, scores=self._scores[pair])
        save_pair(self._folder / pair_name(t, dt), pictures)

    def _add(self, pair: Pair, scores: Scores) -> bool:
        """Takes note of a pair; whether it is to be kept so far."""
        rank = list(scores.values())[-1] if scores else None
        if rank is None:
            return False
        self._scores[pair] = scores
        self._ranks[pair] = min(rank, IDENTICAL_DB)
        if not self._fixed:
            self._drawn = sorted({*self._drawn, pair}, key=_drawn)[:DRAWN]
        first, last = self._ends or (pair, pair)
        self._ends = min(first, pair, key=self._rank), max(last, pair, key=self._rank)
        return pair in self._kept()

    def _kept(self) -> set[Pair]:
        return {*self._drawn, *(self._ends or ())}

    def _rank(self, pair: Pair) -> tuple[float, Pair]:
        return self._ranks[pair], pair

    def _drop(self) -> None:
        names = {self._kept_at(pair).name for pair in self._kept()}
        for path in self._folder.glob(f"*{SMALL}"):
            if path.name not in names and not path.name.startswith("."):
                path.unlink(missing_ok=True)

    def _kept_at(self, pair: Pair) -> Path:
        return self._folder / f"{pair_name(*pair)}{SMALL}"


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
    except (StorageError, ValueError):  # a page without pictures is better than none
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
