"""The job of `stnls align`: video in, flow, search, aggregate, frames and report out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from stnls_cli.devices import resolve_device
from stnls_cli.errors import UserError
from stnls_cli.flow import FlowSource, open_flow_source
from stnls_cli.matching import Matcher, flow_to_neighbours
from stnls_cli.metrics import compare_frames, measure_flow
from stnls_cli.options import AlignOptions
from stnls_cli.outputs import Outputs
from stnls_cli.progress import Listener
from stnls_cli.report import InputRecord, Report, Row, RowSettings, read_report, write_reports
from stnls_cli.rundir import Finished, RunDirectory
from stnls_cli.storage import storage_errors
from stnls_cli.timings import Timings
from stnls_cli.video import Clip, ClipInfo, clip_digest, open_clip
from stnls_cli.warp import warp
from stnls_cli.window import Picture, TemporalWindow

SUFFIX = ".stnls"


@dataclass(frozen=True)
class Aligned:
    """What became of one input."""

    folder: Path
    report: Report
    already_done: bool


def align_clip(
    path: Path, folder: Path, options: AlignOptions, listener: Listener | None = None
) -> Aligned:
    """Aligns one clip into `folder`. Raises UserError for what the user can put right."""
    listener = listener or Listener()
    device = resolve_device(options.device)
    threads = options.threads or os.cpu_count() or 1
    with _torch_threads(threads), contextlib.ExitStack() as stack:
        size = options.frame_size()
        clip = stack.enter_context(
            open_clip(
                path,
                start=options.start,
                frames=options.frames,
                size=size,
                stream=options.stream,
                allow_damaged=options.allow_damaged,
            )
        )
        _check_clip(clip.info, options)
        for note in clip.info.notes:
            listener.note(note)
        source = _open_flow(clip.info, options, threads)
        if source is not None:
            stack.enter_context(source)
        parameters = {
            **options.parameters(),
            "flow": source.describe() if source is not None else None,
        }
        digest = clip_digest(path)
        fingerprint = {"input": digest, "device": device.type, **parameters}
        run = RunDirectory.open(folder, fingerprint, overwrite=options.overwrite)
        if isinstance(run, Finished):
            return Aligned(run.path, read_report(run.report_path), already_done=True)
        stack.enter_context(run)
        if run.resumed:
            listener.note(f"resuming after {len(run.done_frames)} finished frames")
        job = stack.enter_context(_Job(clip, source, run, options, device, threads, listener))
        rows = job.work()
        report = Report(
            input=InputRecord.of_clip(clip.info, digest, job.window.count, clip.damage),
            parameters=parameters,
            device=_device_name(device),
            metrics=options.metric_names(),
            rows=tuple(rows),
            timings=job.stage_seconds(),
        )
        with storage_errors(run.path):
            write_reports(run.path, report)
        return Aligned(run.finish(), report, already_done=False)


class _Job:
    """One clip under way."""

    def __init__(
        self,
        clip: Clip,
        source: FlowSource | None,
        run: RunDirectory,
        options: AlignOptions,
        device: torch.device,
        threads: int,
        listener: Listener,
    ) -> None:
        self._clip = clip
        self._source = source
        self._run = run
        self._options = options
        self._threads = threads
        self._listener = listener
        self._methods = options.method_names()
        self._metrics = options.metric_names()
        self._matcher = Matcher(options)
        self._timings = Timings(device)
        self._pool = ThreadPoolExecutor(
            1 if device.type == "cuda" else threads,
            thread_name_prefix="align",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        self._settings = RowSettings(
            flow=source.label if source is not None else "",
            ws=options.ws,
            wt=options.wt,
            ps=options.ps,
            stride1=float(options.stride1),
            k=options.k,
            dist=options.dist,
            grid=options.grid,
            aggregate=options.aggregate,
            sigma=options.sigma,
            seed=options.seed,
        )
        estimate = clip.info.frames_expected or clip.info.frames_estimate
        listener.start(estimate, flows=source is not None and source.needs_frames)
        self.window = TemporalWindow(
            clip,
            source,
            wt=options.wt,
            sigma=options.sigma,
            seed=options.seed,
            device=device,
            ahead=threads,
            done=run.done_frames,
            timings=self._timings,
            on_frame=listener.frame_read,
            on_flow=listener.flow_done,
        )

    def work(self) -> list[Row]:
        """Aligns every reference frame that an earlier run has not; all rows, in order."""
        done = {
            t: [Row.from_json(row) for row in payload["rows"]]
            for t, payload in self._run.done_frames.items()
        }
        earlier = [payload["seconds"] for payload in self._run.done_frames.values()]
        self._listener.frames_aligned(len(done))
        options = self._options
        with Outputs(
            self._run.path, options.saved(), options.format, self._clip.info, self._threads
        ) as outputs:
            for t in self.window:
                if self.window.count < 2:
                    raise UserError(
                        f"{self._clip.info.path}: a single frame, so there is no neighbour to "
                        "align; give a clip of two frames or more"
                    )
                before = dict(self._timings.seconds)
                rows = self._reference(t, outputs)
                seconds = {
                    name: value - before.get(name, 0.0)
                    for name, value in self._timings.seconds.items()
                }
                with self._timings.stage("write"):
                    outputs.flush()
                self._run.record(t, {"rows": [row.to_json() for row in rows], "seconds": seconds})
                done[t] = rows
                self._listener.frames_aligned(1)
            if self.window.count < 2 and not done:
                raise UserError(f"{self._clip.info.path}: no frame could be read")
            if self.window.count < 2 * options.wt + 1:
                self._listener.note(
                    f"{self.window.count} frames are fewer than 2*wt+1 = {2 * options.wt + 1}: "
                    "every frame has fewer neighbours"
                )
            with self._timings.stage("write"):
                outputs.finish(sorted(done), options.wt)
        for seconds in earlier:
            for name, value in seconds.items():
                self._timings.add(name, value)
        return [row for t in sorted(done) for row in done[t]]

    def __enter__(self) -> _Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage; "flow" is processor time over all its threads."""
        seconds = dict(self._timings.seconds)
        if self._source is not None and self._source.needs_frames:
            seconds["flow (processor)"] = self._source.cpu_seconds
        return {name: round(value, 6) for name, value in seconds.items()}

    def _reference(self, t: int, outputs: Outputs) -> list[Row]:
        window, timings = self.window, self._timings
        neighbours = window.neighbours(t)
        flows: dict[int, Tensor] = {}
        if self._source is not None:
            forward, backward = ([dt for dt in neighbours if dt * sign > 0] for sign in (1, -1))
            ahead = window.steps(t, max(forward, default=0)) if forward else []
            behind = window.steps(t, min(backward, default=0)) if backward else []
            with timings.stage("compose"):
                flows = flow_to_neighbours(ahead, behind)
            if forward:
                outputs.flow("forward", t, partial(window.raw_flow, "forward", t))
            if backward:
                outputs.flow("backward", t, partial(window.raw_flow, "backward", t))
        # One task for each neighbour, each on one thread: whole tasks side by side keep every core
        # busy, where threads inside the operators would wait for each other and for the flow.
        tasks = [
            self._pool.submit(self._neighbour, t, dt, flows.get(dt), outputs) for dt in neighbours
        ]
        return [row for task in tasks for row in task.result()]

    def _neighbour(self, t: int, dt: int, flow: Tensor | None, outputs: Outputs) -> list[Row]:
        """All methods for one neighbour."""
        reference, neighbour = self.window.picture(t), self.window.picture(t + dt)
        rows = []
        for method in self._methods:
            aligned = self._align(method, reference.noisy, neighbour, flow, t, dt, outputs)
            with self._timings.stage("metrics"):
                scores = compare_frames(self._metrics, reference.clean, aligned)
                if flow is not None:
                    scores.update(measure_flow(self._metrics, flow))
            rows.append(self._settings.row(self._clip.info.stem, t, dt, method, scores))
        return rows

    def _align(
        self,
        method: str,
        reference: Tensor,
        neighbour: Picture,
        flow: Tensor | None,
        t: int,
        dt: int,
        outputs: Outputs,
    ) -> Tensor:
        """The neighbour's clean frame, aligned by one method."""
        clean: Tensor = neighbour.clean
        if method == "none":
            return clean
        if method == "flow":
            assert flow is not None
            with self._timings.stage("warp"):
                return warp(clean, flow)
        shift = flow if method == "shifted-nls" else None
        if shift is None:
            shift = clean.new_zeros((2, *clean.shape[1:]))
        with self._timings.stage("search"):
            matches = self._matcher.search(reference, neighbour.noisy, shift)
        with self._timings.stage("aggregate"):
            aligned = self._matcher.align(clean, matches)
        if method == "shifted-nls":
            with self._timings.stage("write"):
                outputs.aligned(t, dt, aligned)
                outputs.matches(t, dt, matches)
        return aligned


def output_folders(inputs: Sequence[Path], outputs: Sequence[Path]) -> list[Path]:
    """Where the results of each input go: `-o` names the folder of one input, a folder for all,
    or (given once for each) the folder of each; without it they go beside where we were started."""
    stems = [_stem(path) for path in inputs]
    if len(outputs) == len(inputs):
        folders = list(outputs)
    elif len(outputs) == 0:
        folders = [Path(stem + SUFFIX) for stem in stems]
    elif len(outputs) == 1:
        folders = [outputs[0] / (stem + SUFFIX) for stem in stems]
    else:
        raise UserError(
            f"{len(outputs)} -o for {len(inputs)} inputs: give none, one, or one for each input"
        )
    seen: dict[Path, Path] = {}
    for path, folder in zip(inputs, folders, strict=True):
        place = folder.absolute()
        if place in seen:
            raise UserError(
                f"{seen[place]} and {path} would both be written to {folder}: tell them apart with "
                "one -o for each input"
            )
        seen[place] = path
    return folders


def _stem(path: Path) -> str:
    # A folder of frames keeps its whole name, dots and all.
    resolved = path.resolve()
    return resolved.name if resolved.is_dir() else resolved.stem


def _check_clip(info: ClipInfo, options: AlignOptions) -> None:
    if min(info.width, info.height) < options.ps:
        raise UserError(
            f"{info.path}: frames of {info.width}x{info.height} are smaller than the patch "
            f"(--ps {options.ps}); give a smaller --ps or a larger --size"
        )


def _open_flow(info: ClipInfo, options: AlignOptions, threads: int) -> FlowSource | None:
    if not {"flow", "shifted-nls"} & set(options.method_names()) and "flow" not in options.saved():
        return None
    expected = info.frames_expected
    stop = options.start + expected if expected is not None else None
    return open_flow_source(
        options.flow,
        height=info.height,
        width=info.width,
        threads=threads,
        start=options.start,
        stop=stop,
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return "cpu"


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
