"""The job of `stnls compare`: every setting of the grid on every clip, each flow computed once."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stnls_cli.code_digest import computed_by
from stnls_cli.compare.clip_pass import Aligner, Cell, PassContext, run_pass
from stnls_cli.compare.estimate import Survey
from stnls_cli.compare.flow_cache import FlowCache
from stnls_cli.compare.grey import GREY_OF
from stnls_cli.compare.inputs import MARK, ClipInput, Inputs
from stnls_cli.compare.joined import joined, renamed, run_names
from stnls_cli.compare.masks import FLOW as MASK_FLOW
from stnls_cli.compare.masks import Masks, flow_along, make_masks
from stnls_cli.compare.options import CompareOptions
from stnls_cli.compare.outcome import CellRows, Outcome
from stnls_cli.compare.protocol import slots
from stnls_cli.compare.scores import Scorer
from stnls_cli.compare.setting import Setting, settings_of
from stnls_cli.compare.store import CellStore, StoredCell
from stnls_cli.compare.truth import TrueMotion, true_motion
from stnls_cli.cores import usable_cores
from stnls_cli.devices import resolve_device
from stnls_cli.errors import StorageError, UserError
from stnls_cli.flow import FLOW_METHODS, FlowSource, thread_seconds
from stnls_cli.lock import LOCK_NAME, FolderLock
from stnls_cli.progress import Listener
from stnls_cli.report import Row
from stnls_cli.storage import storage_errors, write_text
from stnls_cli.timings import Timings
from stnls_cli.video import Clip, ClipInfo, clip_digest, open_clip
from stnls_cli.window import TemporalWindow

ListenerFor = Callable[[str], contextlib.AbstractContextManager[Listener]]
"""From a title, what is told of a pass."""


@dataclass(frozen=True)
class AlignedPair:
    """A pair of clean frames (3, H, W); by method the neighbour aligned, and the motion (2, H, W) =
    (dx, dy) by which it was."""

    reference: Tensor
    neighbour: Tensor
    aligned: dict[str, Tensor]
    motions: dict[str, Tensor]


@contextlib.contextmanager
def comparison_folder(folder: Path) -> Iterator[Path]:
    """The folder of a comparison, made where it is not there, for this process alone."""
    check_folder(folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    try:
        if not (folder / MARK).is_file():
            write_text(
                folder / MARK, json.dumps({"format": "stnls-comparison", "version": 1}) + "\n"
            )
        yield folder
    finally:
        lock.release()


def check_folder(folder: Path) -> None:
    """Raises UserError where a comparison could not go to `folder` without touching what is not
    ours."""
    with storage_errors(folder, "read"):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder; choose another -o")
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    # A comparison that died in its first moments left no more than a lock.
    if MARK not in names and names - {LOCK_NAME, f".{MARK}.tmp"}:
        raise UserError(f"{folder} holds files that are no comparison of stnls; choose another -o")


class Comparison:
    """Computes what is not there yet of a grid, in `folder`."""

    def __init__(
        self,
        inputs: Inputs,
        options: CompareOptions,
        folder: Path,
        listener: ListenerFor,
    ) -> None:
        self.options = options
        self._inputs = inputs
        self._folder = folder
        self._listener = listener
        self._settings = settings_of(options)
        self._metrics = options.metric_names()
        self._store = CellStore(folder / "cells")
        self._flows: dict[str, dict[str, Any]] = {}
        self._counts = {"computed": 0, "kept": 0}
        self._device = resolve_device(options.base.device)
        self._threads = options.base.threads or usable_cores()
        self._timings = Timings(self._device)
        cache = options.flow_cache or os.environ.get("STNLS_FLOW_CACHE") or folder / "flow"
        self._cache = FlowCache(Path(cache))
        if Path(cache) == folder / "flow":
            self._cache.drop_unfinished()

    def work(self) -> Outcome:
        """All clips; one that fails is left out, and named in the outcome.

        Raises UserError where nothing can be compared on this machine, or nothing be written.
        """
        for name in {setting.flow for setting in self._settings if setting.flow is not None}:
            FLOW_METHODS[name].check()
        if self._inputs.clips and self.options.wants_masks():
            FLOW_METHODS[MASK_FLOW].check()
        began = time.perf_counter()
        outcome = Outcome(device=_device_name(self._device))
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            for clip in self._inputs.clips:
                try:
                    told, cells = self._clip(clip)
                except StorageError:
                    raise
                except UserError as error:
                    outcome.failed[str(clip.path)] = str(error)
                    continue
                outcome.clips.append(told)
                outcome.cells += cells
        finally:
            torch.set_num_threads(before)
        names = run_names(self._inputs.runs, outcome.clips)
        for run, name in zip(self._inputs.runs, names, strict=True):
            told, cells = joined(run, name)
            outcome.clips.append(told)
            outcome.cells += cells
        outcome.counts = dict(self._counts)
        used = {setting.flow for setting in self._settings} | {MASK_FLOW}
        outcome.flows = {k: v for k, v in self._cache.counters().items() if k in used}
        self._timings.finish()
        outcome.timings = {k: round(v, 3) for k, v in self._timings.seconds.items()}
        outcome.seconds = round(time.perf_counter() - began, 3)
        return outcome

    def pair(self, name: str, t: int, dt: int, parameters: Mapping[str, Any]) -> AlignedPair:
        """One pair again, by the setting with these parameters and by the warp that it starts from:
        for pictures."""
        setting = next(s for s in self._settings if s.parameters() == parameters)
        clip = next(clip for clip in self._inputs.clips if clip.name == name)
        base, first = self.options.base, min(t, t + dt)
        settings = [setting]
        if setting.method == "shifted-nls":
            more = [m for m in ("flow", "nls") if m == "flow" or m in self.options.methods()]
            settings = [*(replace(setting, method=method) for method in more), setting]
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(
                open_clip(
                    clip.path,
                    start=first,
                    frames=abs(dt) + 1,
                    size=base.frame_size(),
                    stream=base.stream if not clip.path.is_dir() else None,
                    allow_damaged=base.allow_damaged,
                )
            )
            source = None
            if setting.flow is not None:
                source = stack.enter_context(self._cache.source(setting.flow, self._threads))
            window = stack.enter_context(
                TemporalWindow(
                    opened,
                    source,
                    wt=abs(dt),
                    sigma=setting.sigma or 0.0,
                    seed=base.seed,
                    device=self._device,
                    ahead=0,
                    done=(),
                    timings=self._timings,
                    on_frame=lambda: None,
                    on_flow=lambda: None,
                    grey=GREY_OF[self.options.grey],
                )
            )
            for reference in window:
                if reference == t:
                    break
            flow = flow_along(window, t, dt) if source is not None else None
            pictures = window.picture(t), window.picture(t + dt)
            aligned, motions = {}, {}
            for each in settings:
                aligner = Aligner(each, full_ws=self.options.full_ws)
                frame, motion, _ = aligner.align(*pictures, flow, self._timings)
                aligned[each.method], motions[each.method] = frame, motion
        return AlignedPair(pictures[0].clean, pictures[1].clean, aligned, motions)

    def survey(self) -> list[Survey]:
        """What there is to do, clip by clip; nothing is computed but digests."""
        surveys = []
        for clip in self._inputs.clips:
            with self._open(clip) as opened:
                info = opened.info
                frames = info.frames_expected or info.frames_estimate
            depends = self._depends_on(
                clip_digest(clip.path), info.width, info.height, self._truth(clip, info)
            )
            found = tuple(
                (setting, self._store.load(self._cell(clip, setting, depends)[0]) is not None)
                for setting in self._settings
            )
            if frames is None:
                frames = self._count(clip)
            surveys.append(Survey(clip.name, frames, info.width, info.height, found))
        return surveys

    def _truth(self, clip: ClipInput, info: ClipInfo) -> TrueMotion | None:
        if "epe" not in self._metrics:
            return None
        folder = self.options.truth_folder()
        return true_motion(clip.path, clip.name, info.width, info.height, folder)

    def _cell(
        self, clip: ClipInput, setting: Setting, depends: dict[str, Any]
    ) -> tuple[Path, dict[str, Any]]:
        """Where a cell lies, and all that it depends on."""
        depends_on = {**depends, "setting": self._setting_key(setting)}
        return self._store.path(clip.name, setting.name, depends_on), depends_on

    def _open(self, clip: ClipInput) -> Clip:
        base = self.options.base
        opened = open_clip(
            clip.path,
            start=base.start,
            frames=base.frames,
            size=base.frame_size(),
            stream=base.stream if not clip.path.is_dir() else None,
            allow_damaged=base.allow_damaged,
        )
        width, height = opened.info.width, opened.info.height
        smallest = max([1, *(s.options.ps for s in self._settings if s.searches)])
        if min(width, height) < smallest:
            opened.close()
            raise UserError(
                f"{clip.path}: frames of {width}x{height} are smaller than the patch "
                f"(--ps {smallest}); give a smaller --ps or a larger --size"
            )
        if min(width, height) <= 2 * self.options.margin:
            opened.close()
            raise UserError(
                f"{clip.path}: frames of {width}x{height} have nothing inside a margin of "
                f"{self.options.margin} pixels"
            )
        return opened

    def _clip(self, clip: ClipInput) -> tuple[dict[str, Any], list[CellRows]]:
        """All settings on one clip: what was read, and the cells."""
        digest = clip_digest(clip.path)
        with self._open(clip) as opened:
            info = opened.info
        truth = self._truth(clip, info)
        depends = self._depends_on(digest, info.width, info.height, truth)
        cells: list[CellRows] = []
        told: dict[str, Any] | None = None
        missing: list[Cell] = []
        stored: dict[str, StoredCell] = {}
        with contextlib.ExitStack() as stack:
            for setting in self._settings:
                path, depends_on = self._cell(clip, setting, depends)
                found = self._store.load(path)
                if found is not None:
                    stored[setting.name] = found
                    continue
                journal = self._store.journal(path)
                stack.callback(journal.close)
                done = {
                    t: [Row.from_json(row) for row in payload]
                    for t, payload in journal.done.items()
                }
                missing.append(Cell(setting, path, depends_on, journal, done))
            if missing:
                told = self._compute(clip, digest, truth, missing)
                for cell in missing:
                    rows = tuple(row for t in sorted(cell.done) for row in cell.done[t])
                    whole = StoredCell(rows, told)
                    self._store.finish(cell.path, cell.depends_on, whole, cell.journal)
                    stored[cell.setting.name] = whole
        self._counts["computed"] += len(missing)
        self._counts["kept"] += len(self._settings) - len(missing)
        for setting in self._settings:
            found = stored[setting.name]
            told = told or found.clip
            rows = tuple(renamed(row, clip.name) for row in found.rows)
            cells.append(CellRows(clip.name, setting, setting.parameters(), rows, digest))
        assert told is not None
        return {**told, "clip": clip.name, "path": str(clip.path), "digest": digest}, cells

    def _depends_on(
        self, digest: str, width: int, height: int, truth: TrueMotion | None
    ) -> dict[str, Any]:
        """What every cell of a clip depends on, beside its setting."""
        options, base = self.options, self.options.base
        return {
            "computed_by": computed_by(),
            "input": digest,
            "size": [width, height],
            "part": [base.start, base.frames, base.stream, base.allow_damaged],
            "pairs": [base.wt, options.slots],
            "metrics": list(self._metrics),
            "margin": options.margin,
            "truth": None if truth is None else truth.digest(),
            "masks": self._described(MASK_FLOW) if options.wants_masks() else None,
            "grey": options.grey,
            "full_ws": options.full_ws,
            "device": self._device.type,
        }

    def _setting_key(self, setting: Setting) -> dict[str, Any]:
        parameters = setting.parameters()
        if setting.flow is not None:
            parameters["flow"] = self._described(setting.flow)
        return parameters

    def _described(self, flow: str) -> dict[str, Any]:
        """A method of flow with every parameter and what computes it."""
        if flow not in self._flows:
            with self._cache.source(flow, 1) as source:
                self._flows[flow] = source.describe()
        return self._flows[flow]

    def _compute(
        self, clip: ClipInput, digest: str, truth: TrueMotion | None, missing: list[Cell]
    ) -> dict[str, Any]:
        """Fills the cells that are missing; what was read of the clip."""
        options, base = self.options, self.options.base
        count = self._count(clip) if options.slots else None
        reach = 2 * base.wt if options.slots else base.wt

        def pairs(t: int, neighbours: Iterable[int]) -> list[int]:
            if count is None:
                return list(neighbours)
            return [dt for dt in slots(t - base.start, base.wt, count) if dt in neighbours]

        masks = self._masks(clip, digest, pairs, reach) if self.options.wants_masks() else None
        told: dict[str, Any] | None = None
        for number, (flow, sigma, cells) in enumerate(passes(missing)):
            title = f"{clip.name} {flow or 'no flow'}, sigma {sigma:g}"
            with contextlib.ExitStack() as stack:
                opened = stack.enter_context(self._open(clip))
                listener = stack.enter_context(self._listener(title))
                source = None
                if flow is not None:
                    source = self._cache.source(flow, self._threads)
                    stack.enter_context(source)
                frames = opened.info.frames_expected or opened.info.frames_estimate
                listener.start(frames, flows=source is not None)
                for note in opened.info.notes if number == 0 else ():
                    listener.note(note)
                context = PassContext(
                    name=clip.name,
                    scorer=Scorer(self._metrics, options.margin),
                    masks=masks,
                    truth=truth,
                    pairs=pairs,
                    reach=reach,
                    seed=base.seed,
                    full_ws=options.full_ws,
                    grey=GREY_OF[options.grey],
                    device=self._device,
                    threads=self._threads,
                    timings=self._timings,
                    listener=listener,
                )
                read = run_pass(opened, source, sigma, cells, context)
                self._count_threads(source)
                told = self._told(opened, read)
            if not any(row for cell in cells for rows in cell.done.values() for row in rows):
                raise UserError(
                    f"{clip.path}: no two frames in a row in the part asked for, so there is no "
                    "neighbour to align"
                )
        assert told is not None
        return told

    def _told(self, opened: Clip, read: int) -> dict[str, Any]:
        info = opened.info
        return {
            "frames": read,
            "width": info.width,
            "height": info.height,
            "rate": None if info.rate is None else str(info.rate),
            "notes": list(info.notes),
            "damage": list(opened.damage),
        }

    def _count(self, clip: ClipInput) -> int:
        """Frames in the part asked for; read through where the headers do not say."""
        with self._open(clip) as opened:
            if opened.info.frames_expected is not None and not self.options.base.allow_damaged:
                return opened.info.frames_expected
            return sum(1 for _ in opened)

    def _masks(
        self,
        clip: ClipInput,
        digest: str,
        pairs: Callable[[int, Iterable[int]], list[int]],
        reach: int,
    ) -> Masks:
        """Masks of the visible pixels, made where they are not there."""
        base = self.options.base
        with self._open(clip) as opened:
            width, height = opened.info.width, opened.info.height
            key = self._store.path(
                clip.name,
                "visible",
                {
                    "input": digest,
                    "size": [width, height],
                    "stream": base.stream,
                    "start": base.start if base.allow_damaged else None,
                    "flow": self._described(MASK_FLOW),
                    "computed_by": computed_by(),
                },
            )
            masks = Masks(self._folder / "masks" / key.parent.name / key.stem, height, width)
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(self._open(clip))
            listener = stack.enter_context(self._listener(f"{clip.name} visible pixels"))
            source = self._cache.source(MASK_FLOW, self._threads)
            stack.enter_context(source)
            frames = opened.info.frames_expected or opened.info.frames_estimate
            listener.start(frames, flows=True)
            make_masks(
                opened,
                source,
                masks,
                pairs=pairs,
                reach=reach,
                device=self._device,
                timings=self._timings,
                listener=listener,
            )
            self._count_threads(source)
        return masks

    def _count_threads(self, source: FlowSource | None) -> None:
        for stage, seconds in thread_seconds(source).items():
            self._timings.add(stage, seconds)


def passes(cells: list[Cell]) -> list[tuple[str | None, float, list[Cell]]]:
    """Cells by flow and noise. Those without a flow go along with the first flow of their noise,
    and those without noise with any, where there is one."""
    groups: dict[tuple[str | None, float], list[Cell]] = {}
    for cell in cells:
        if cell.setting.flow is not None:
            groups.setdefault((cell.setting.flow, cell.setting.sigma or 0.0), []).append(cell)
    for cell in cells:
        if cell.setting.flow is None:
            sigma = cell.setting.sigma
            alike = [key for key in groups if sigma is None or key[1] == sigma]
            key = alike[0] if alike else (None, sigma or 0.0)
            groups.setdefault(key, []).append(cell)
    return [(flow, sigma, group) for (flow, sigma), group in groups.items()]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return "cpu"
