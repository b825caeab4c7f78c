"""The visible pixels of every pair of a clip, computed once and shared by all methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stnls_cli.arrays import load_array
from stnls_cli.compare.flow_cache import CachedSource
from stnls_cli.compare.visible import visible
from stnls_cli.matching import flow_to_neighbours
from stnls_cli.progress import Listener
from stnls_cli.storage import storage_errors
from stnls_cli.timings import Timings
from stnls_cli.video import Clip
from stnls_cli.window import TemporalWindow

FLOW = "dis"
"""The check's flow, of the clean frames."""


class Masks:
    """A folder of masks of one clip, as bits."""

    def __init__(self, folder: Path, height: int, width: int) -> None:
        self._folder = folder
        self._height = height
        self._width = width

    def get(self, t: int, dt: int) -> Tensor | None:
        """The mask of frame t's pixels, (H, W) bool; None where there is none."""
        try:
            bits = load_array(self._path(t, dt))
        except (OSError, ValueError, EOFError):
            return None
        pixels = self._height * self._width
        if bits.dtype != np.uint8 or bits.size != -(-pixels // 8):
            return None
        flat = np.unpackbits(bits, count=pixels).astype(bool)
        return torch.from_numpy(flat.reshape(self._height, self._width))

    def put(self, t: int, dt: int, mask: Tensor) -> None:
        """Keeps a mask; whole or not at all."""
        path = self._path(t, dt)
        temporary = path.with_name(f".{path.name}.tmp")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, np.packbits(mask.cpu().numpy()))
            temporary.replace(path)

    def _path(self, t: int, dt: int) -> Path:
        return self._folder / f"{t:05d}{dt:+d}.npy"


def make_masks(
    clip: Clip,
    source: CachedSource,
    masks: Masks,
    *,
    pairs: Callable[[int, Iterable[int]], Iterable[int]],
    reach: int,
    device: torch.device,
    timings: Timings,
    listener: Listener,
) -> None:
    """Computes the masks of a clip that are not there: forward-backward check of two flows between
    the clean frames. `pairs(t, neighbours)` chooses the dt of frame t."""
    window = TemporalWindow(
        clip,
        source,
        wt=reach,
        sigma=0.0,
        seed=0,
        device=device,
        ahead=2,
        done=(),
        timings=timings,
        on_frame=listener.frame_read,
        on_flow=listener.flow_done,
        both_ways=True,
    )
    with window:
        for t in window:
            for dt in pairs(t, window.neighbours(t)):
                if masks.get(t, dt) is None:
                    there = flow_along(window, t, dt)
                    back = flow_along(window, t + dt, -dt)
                    with timings.stage("masks"):
                        masks.put(t, dt, visible(there, back))
            listener.frames_aligned(1)


def flow_along(window: TemporalWindow, t: int, dt: int) -> Tensor:
    """Flow from frame t to frame t + dt of the window, composed of the steps between."""
    steps = window.steps(t, dt)
    forward, backward = (steps, []) if dt > 0 else ([], steps)
    return flow_to_neighbours(forward, backward)[dt]
