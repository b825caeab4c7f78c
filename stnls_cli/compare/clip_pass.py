"""One pass over a clip: all settings with one flow and one noise, for which frames, noise and flow
are made once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stnls_cli.compare.flow_cache import CachedSource
from stnls_cli.compare.masks import Masks, flow_along
from stnls_cli.compare.scores import Scorer, Truth, share_at_edge
from stnls_cli.compare.setting import Setting
from stnls_cli.compare.truth import TrueMotion
from stnls_cli.journal import Journal
from stnls_cli.matching import Matcher
from stnls_cli.progress import Listener
from stnls_cli.report import Row
from stnls_cli.timings import Timings
from stnls_cli.video import Clip
from stnls_cli.warp import warp
from stnls_cli.window import Picture, TemporalWindow

Pairs = Callable[[int, Iterable[int]], list[int]]
"""Frame t and the dt of its neighbours in the window: the dt that are compared."""


@dataclass
class Cell:
    """A setting on a clip, under way. `done`: rows by reference frame."""

    setting: Setting
    path: Path
    depends_on: dict[str, Any]
    journal: Journal
    done: dict[int, list[Row]]

    def record(self, t: int, rows: list[Row]) -> None:
        """Frame t is finished; survives a kill."""
        self.journal.record(t, [row.to_json() for row in rows])
        self.done[t] = rows


@dataclass(frozen=True)
class PassContext:
    """What all passes over a clip share."""

    name: str
    scorer: Scorer
    masks: Masks | None
    truth: TrueMotion | None
    pairs: Pairs
    reach: int
    seed: int
    full_ws: bool
    grey: Callable[..., Any]
    device: torch.device
    threads: int
    timings: Timings
    listener: Listener


def run_pass(
    clip: Clip, source: CachedSource | None, sigma: float, cells: list[Cell], context: PassContext
) -> int:
    """Aligns and scores what the cells lack; how many frames the clip had."""
    aligners = [Aligner(cell.setting, full_ws=context.full_ws) for cell in cells]
    finished = set.intersection(*(set(cell.done) for cell in cells))
    window = TemporalWindow(
        clip,
        source,
        wt=context.reach,
        sigma=sigma,
        seed=context.seed,
        device=context.device,
        ahead=min(context.threads // 2 + 1, 8),
        done=finished,
        timings=context.timings,
        on_frame=context.listener.frame_read,
        on_flow=context.listener.flow_done,
        grey=context.grey,
    )
    workers = 1 if context.device.type == "cuda" else context.threads
    with window, contextlib.closing(_Pool(workers)) as pool:
        for t in window:
            work = []
            for dt in context.pairs(t, window.neighbours(t)):
                flow = None
                if source is not None:
                    with context.timings.stage("compose"):
                        flow = flow_along(window, t, dt)
                pair = Pair(window, t, dt, flow, context)
                work += [
                    (cell, pool.submit(pair.row, aligner))
                    for cell, aligner in zip(cells, aligners, strict=True)
                    if t not in cell.done
                ]
            rows: dict[int, list[Row]] = {}
            for cell, future in work:
                rows.setdefault(id(cell), []).append(future.result())
            for cell in cells:
                if t not in cell.done:
                    cell.record(t, rows.get(id(cell), []))
            context.listener.frames_aligned(1)
    return window.count


class _Pool(ThreadPoolExecutor):
    """Whole tasks side by side, each on one thread; `close` drops what has not begun."""

    def __init__(self, workers: int) -> None:
        super().__init__(
            workers,
            thread_name_prefix="compare",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def close(self) -> None:
        self.shutdown(wait=True, cancel_futures=True)


class Aligner:
    """A method with its settings."""

    def __init__(self, setting: Setting, *, full_ws: bool = True) -> None:
        self.setting = setting
        self._matcher = Matcher(setting.options, full_ws=full_ws) if setting.searches else None

    def align(
        self, reference: Picture, neighbour: Picture, flow: Tensor | None, timings: Timings
    ) -> tuple[Tensor, Tensor, float | None]:
        """The neighbour's clean frame aligned (3, H, W), the motion (2, H, W) = (dx, dy) by which
        it was, and the share of matches at the window's edge."""
        clean = neighbour.clean
        still = clean.new_zeros((2, *clean.shape[1:]))
        if self.setting.method == "none":
            return clean, still, None
        if self.setting.method == "nls" or flow is None:
            flow = still
        if self._matcher is None:
            with timings.stage("warp"):
                return warp(clean, flow), flow, None
        with timings.stage("search"):
            matches = self._matcher.search(reference.noisy, neighbour.noisy, flow)
        with timings.stage("aggregate"):
            aligned = self._matcher.align(clean, matches)
        with timings.stage("metrics"):
            edge = share_at_edge(matches, flow, self.setting.options)
        return aligned, matches.motion(), edge


class Pair:
    """A reference frame and one neighbour."""

    def __init__(
        self, window: TemporalWindow, t: int, dt: int, flow: Tensor | None, context: PassContext
    ) -> None:
        self._t, self._dt, self._flow = t, dt, flow
        self._reference, self._neighbour = window.picture(t), window.picture(t + dt)
        self._context = context
        device = self._reference.clean.device
        mask = context.masks.get(t, dt) if context.masks is not None else None
        self._mask = None if mask is None else mask.to(device)
        truth = context.truth.between(t, dt) if context.truth is not None else None
        self._truth = (
            None if truth is None else Truth(truth.flow.to(device), truth.known.to(device))
        )

    def row(self, aligner: Aligner) -> Row:
        """One method's row."""
        context = self._context
        aligned, motion, edge = aligner.align(
            self._reference, self._neighbour, self._flow, context.timings
        )
        uses_flow = aligner.setting.flow is not None
        with context.timings.stage("metrics"):
            scores = context.scorer(
                self._reference.clean,
                aligned,
                flow=self._flow if uses_flow else None,
                motion=motion,
                mask=self._mask,
                truth=self._truth,
                at_edge=edge,
            )
        return aligner.setting.row(context.name, self._t, self._dt, scores)
