"""Stored arrays are read on several threads at once: some releases of Python 3.11 fail where two
threads parse at a time, when the garbage collector changes over between them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from stnls_cli.arrays import load_array
from stnls_cli.page.pictures import SmallPair, load_small_pair, save_small_pair


class Litter:
    """Garbage whose end takes long enough for another thread to come in."""

    def __init__(self) -> None:
        self.own = self

    def __del__(self) -> None:
        for _ in range(50):
            pass


@pytest.fixture
def changes_of_threads() -> Iterator[None]:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.freeze()  # what is there is not looked at each time
    gc.set_threshold(20, 2, 2)
    yield
    gc.unfreeze()
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)


def a_pair(path: Path) -> Callable[[], object]:
    frames = {name: torch.zeros(3, 4, 5, dtype=torch.uint8) for name in ("reference", "neighbour")}
    motions = {name: torch.zeros(2, 4, 5) for name in ("flow", "nls", "shifted-nls")}
    errors = {name: torch.zeros(4, 5) for name in ("neighbour", "flow")}
    save_small_pair(path / "pair.npz", SmallPair(frames, errors, motions, torch.zeros(9)))
    return lambda: load_small_pair(path / "pair.npz")


def an_array(path: Path) -> Callable[[], object]:
    np.save(path / "array.npy", np.zeros((3, 4)))
    return lambda: load_array(path / "array.npy")


@pytest.mark.usefixtures("changes_of_threads")
@pytest.mark.parametrize(("make", "times"), [(a_pair, 500), (an_array, 5000)])
def test_threads_read_at_once(
    tmp_path: Path, make: Callable[[Path], Callable[[], object]], times: int
) -> None:
    load = make(tmp_path)

    def read() -> None:
        for _ in range(times):
            Litter()
            load()

    with ThreadPoolExecutor(3) as pool:
        for ended in [pool.submit(read) for _ in range(3)]:
            ended.result()
