"""One clip under way: every reference frame against its neighbours, by every method."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stnls_cli.errors import UserError
from stnls_cli.matching import Matcher, Matches, flow_to_neighbours
from stnls_cli.metrics import compare_frames, measure_flow
from stnls_cli.outputs import Outputs
from stnls_cli.page.gallery import Gallery
from stnls_cli.page.pictures import PairPictures, draw_pair
from stnls_cli.report import Row, RowSettings
from stnls_cli.timings import Timings
from stnls_cli.video.images import IMAGE_KINDS
from stnls_cli.warp import warp
from stnls_cli.window import Picture, TemporalWindow

if TYPE_CHECKING:
    from stnls_cli.flow import FlowSource
    from stnls_cli.options import AlignOptions
    from stnls_cli.progress import Listener
    from stnls_cli.rundir import RunDirectory
    from stnls_cli.video import Clip


class Job:
    """Aligns the reference frames that an earlier run has not, and records each in `run`."""

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
        self._listener = listener
        self._methods = options.method_names()
        self._metrics = options.metric_names()
        self._settings = _row_settings(options, source)
        self._matcher = Matcher(options)
        self._timings = Timings(device)
        self._flow_seconds = 0.0
        self._threads = threads
        self._pool = ThreadPoolExecutor(
            1 if device.type == "cuda" else threads,
            thread_name_prefix="align",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        self.notes: list[str] = []
        """What the report says beside the clip's own notes."""
        self._window = TemporalWindow(
            clip,
            source,
            wt=options.wt,
            sigma=options.sigma,
            seed=options.seed,
            device=device,
            ahead=frames_ahead(source, threads),
            done=run.done_frames,
            timings=self._timings,
            on_frame=listener.frame_read,
            on_flow=listener.flow_done,
        )

    @property
    def frames(self) -> int:
        """How many source frames were read so far."""
        return self._window.count

    def work(self) -> list[Row]:
        """Aligns every reference frame; the rows of all, in order."""
        done = self._resume()
        self._gallery = Gallery(self._run.path, self._shown_scores(done))
        self._begin(len(done))
        with Outputs(
            self._run.path,
            self._options.saved(),
            self._options.format,
            self._clip.info,
            self._threads,
        ) as outputs:
            for t in self._window:
                rows = self._reference(t, outputs)
                with self._timings.stage("write"):
                    outputs.flush()
                done[t] = rows
                self._run.record(
                    t, {"rows": [row.to_json() for row in rows], "seconds": self.stage_seconds()}
                )
                self._listener.frames_aligned(1)
            with self._timings.stage("write"):
                outputs.finish(self._window.runs, self._options.wt)
        rows = [row for t in sorted(done) for row in done[t]]
        self._check_end(rows)
        self._gallery.finish()
        return rows

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, added up over all threads and over the runs that this one resumes."""
        seconds = dict(self._timings.seconds)
        if self._source is not None and self._source.needs_frames:
            seconds["flow_cpu"] = self._flow_seconds + self._source.cpu_seconds
        return {name: round(value, 6) for name, value in seconds.items()}

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)

    def _resume(self) -> dict[int, list[Row]]:
        """Rows of the reference frames that are done; their time counts as ours."""
        seconds: dict[str, float] = {}
        rows = {}
        for t, payload in self._run.done_frames.items():
            rows[t] = [Row.from_json(row) for row in payload["rows"]]
            seconds = payload["seconds"]
        self._flow_seconds = seconds.pop("flow_cpu", 0.0)
        for name, value in seconds.items():
            self._timings.add(name, value)
        return rows

    def _begin(self, done: int) -> None:
        """Reads the first frames, and tells the person what there is to know."""
        info, wt = self._clip.info, self._options.wt
        computed = self._source is not None and self._source.needs_frames
        self._listener.start(info.frames_expected or info.frames_estimate, flows=computed)
        self._listener.frames_aligned(done)
        count = self._window.begin()
        if count < 2:
            part = self._options.start > 0 or self._options.frames is not None
            picture = Path(info.path).suffix.lower() in IMAGE_KINDS and not part
            wanted = (
                "give the folder that holds the frames"
                if picture
                else "two frames or more are needed"
            )
            raise UserError(
                f"{info.path}: a single frame{' in the part asked for' if part else ''}, so there "
                f"is no neighbour to align; {wanted}"
            )
        if count < 2 * wt + 1:
            self.notes.append(
                f"{count} frames are fewer than 2*wt+1 = {2 * wt + 1}: "
                "every frame has fewer neighbours"
            )
        for note in (*info.notes, *self.notes):
            self._listener.note(note)
        if done:
            self._listener.note(f"resuming after {done} finished frames")

    def _check_end(self, rows: list[Row]) -> None:
        """Says where the clip had fewer frames than asked for, or none beside each other."""
        if not rows:
            raise UserError(
                f"{self._clip.info.path}: no two frames in a row could be read, so there is no "
                "neighbour to align"
            )
        wanted = self._options.frames
        if wanted is not None and self.frames < wanted:
            self.notes.append(f"--frames {wanted}: only {self.frames} were there")
            self._listener.note(self.notes[-1])

    def _reference(self, t: int, outputs: Outputs) -> list[Row]:
        """All neighbours of one frame."""
        neighbours = self._window.neighbours(t)
        flows: dict[int, Tensor] = {}
        if self._source is not None:
            forward = self._window.steps(t, max([0, *neighbours]))
            backward = self._window.steps(t, min([0, *neighbours]))
            with self._timings.stage("compose"):
                flows = flow_to_neighbours(forward, backward)
            if forward:
                outputs.flow("forward", t, forward[0])
            if backward:
                outputs.flow("backward", t, backward[0])
        # One task for each neighbour, each on one thread: whole tasks side by side keep every core
        # busy, where threads inside the operators would wait for each other and for the flow.
        tasks = [
            self._pool.submit(self._neighbour, t, dt, flows.get(dt), outputs) for dt in neighbours
        ]
        return [row for task in tasks for row in task.result()]

    def _neighbour(self, t: int, dt: int, flow: Tensor | None, outputs: Outputs) -> list[Row]:
        """All methods for one neighbour."""
        reference, neighbour = self._window.picture(t), self._window.picture(t + dt)
        rows = []
        frames: dict[str, Tensor] = {}
        motions: dict[str, Tensor] = {} if flow is None else {"flow": flow}
        for method in self._methods:
            aligned, matches = self._align(method, reference, neighbour, flow)
            if method == "shifted-nls" and matches is not None:
                with self._timings.stage("write"):
                    outputs.aligned(t, dt, aligned)
                    outputs.matches(t, dt, matches)
            with self._timings.stage("metrics"):
                scores = compare_frames(self._metrics, reference.clean, aligned)
                if flow is not None:
                    scores.update(measure_flow(self._metrics, flow))
            rows.append(self._settings.row(self._clip.info.stem, t, dt, method, scores))
            if method != "none":
                frames[method] = aligned
            if matches is not None:
                motions[method] = matches.motion()

        def draw() -> PairPictures:
            return draw_pair(
                clip="",
                t=t,
                dt=dt,
                reference=reference.clean,
                neighbour=neighbour.clean,
                aligned=frames,
                motions={name: motions[name] for name in frames if name in motions},
                scores={row.method: row.psnr for row in rows},
            )

        with self._timings.stage("pictures"):
            self._gallery.consider((t, dt), self._shown_score(rows), draw)
        return rows

    def _shown_score(self, rows: list[Row]) -> float | None:
        """By which the pairs are ranked whose pictures are shown: PSNR of the last method."""
        return rows[-1].psnr if self._methods != ("none",) else None

    def _shown_scores(self, done: dict[int, list[Row]]) -> Iterator[tuple[tuple[int, int], float]]:
        for t, rows in done.items():
            for dt in {row.dt for row in rows}:
                score = self._shown_score([row for row in rows if row.dt == dt])
                if score is not None:
                    yield (t, dt), score

    def _align(
        self, method: str, reference: Picture, neighbour: Picture, flow: Tensor | None
    ) -> tuple[Tensor, Matches | None]:
        """The neighbour's clean frame aligned by one method, and the matches where it searches."""
        clean = neighbour.clean
        if method == "none":
            return clean, None
        if method == "nls":
            flow = clean.new_zeros((2, *clean.shape[1:]))
        assert flow is not None
        if method == "flow":
            with self._timings.stage("warp"):
                return warp(clean, flow), None
        with self._timings.stage("search"):
            matches = self._matcher.search(reference.noisy, neighbour.noisy, flow)
        with self._timings.stage("aggregate"):
            return self._matcher.align(clean, matches), matches


def frames_ahead(source: FlowSource | None, threads: int) -> int:
    """Frames to read beyond the window: each brings two flows for the threads to compute. At most
    eight, so that many cores do not cost much memory."""
    return min(threads // 2 + 1, 8) if source is not None and source.needs_frames else 1


def _row_settings(options: AlignOptions, source: FlowSource | None) -> RowSettings:
    names = (field.name for field in fields(RowSettings) if field.name != "flow")
    settings: dict[str, Any] = {name: getattr(options, name) for name in names}
    return RowSettings(flow=source.label if source is not None else "", **settings)
