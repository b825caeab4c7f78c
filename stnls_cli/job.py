"""One clip under way: every reference frame against its neighbours, by every method."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stnls_cli.batch_aligner import BatchAligner, Measured
from stnls_cli.errors import UserError
from stnls_cli.few_frames import fewer_than_asked, single_frame
from stnls_cli.flow import batched_flow, thread_seconds
from stnls_cli.frame_pairs import FramePair
from stnls_cli.matching import flow_to_neighbours
from stnls_cli.outputs import Outputs
from stnls_cli.page.gallery import Gallery
from stnls_cli.plan import plan_for, writer_threads
from stnls_cli.report import Row, RowSettings
from stnls_cli.scoring import score
from stnls_cli.speed import Speed, Stopwatch
from stnls_cli.timings import Timings
from stnls_cli.window import TemporalWindow

if TYPE_CHECKING:
    from stnls_cli.flow import FlowSource
    from stnls_cli.options import AlignOptions
    from stnls_cli.progress import Listener
    from stnls_cli.rundir import RunDirectory
    from stnls_cli.video import Clip


MOST_EXPECTED = 100_000
"""Pairs of which those to be shown are drawn before they are there."""


@dataclass(frozen=True)
class UnderWay:
    """A reference frame whose rows are being worked out, with those of frames begun together."""

    t: int
    tasks: list[Future[list[Row]]]

    def rows(self) -> list[Row]:
        """Its own, waited for."""
        return [row for task in self.tasks for row in task.result() if row.t == self.t]

    def scored(self) -> bool:
        """Whether nothing of it is wanted on the device any more."""
        return all(task.done() for task in self.tasks)


class Job:
    """Aligns the reference frames that an earlier run has not, and records each in `run`.

    Several frames are under way at a time. On a CPU every pair of frames is a task on one thread;
    on a GPU this thread launches the pairs of some frames together, and others take what comes
    back.
    """

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
        self._on_gpu = device.type == "cuda"
        self._plan = plan_for(options, clip.info, device, threads, source)
        self._settings = _row_settings(options, source)
        self._device = device
        self._timings = Timings(device)
        self._aligner = BatchAligner(options, self._plan, self._timings)
        self._stopwatch = Stopwatch()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        self._threads = threads
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="align", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._stopped = False
        self.notes: list[str] = []
        """What the report says beside the clip's own notes."""
        self._window = TemporalWindow(
            clip,
            source,
            wt=options.wt,
            sigma=options.sigma,
            seed=options.seed,
            device=device,
            ahead=self._plan.ahead,
            done=run.done_frames,
            timings=self._timings,
            on_frame=listener.frame_read,
            on_flow=listener.flow_done,
            batched=batched_flow(source, self._plan.flow_pairs),
        )

    @property
    def frames(self) -> int:
        """How many source frames were read so far."""
        return self._window.count

    def work(self) -> list[Row]:
        """Aligns every reference frame; the rows of all, in order."""
        done = self._resume()
        self._gallery = Gallery(self._run.path, self._shown_scores(done), self._expected_pairs())
        self._begin(len(done))
        recorded: deque[tuple[UnderWay, Future[None]]] = deque()
        with Outputs(
            self._run.path,
            self._options.saved(),
            self._options.format,
            self._clip.info,
            writer_threads(self._device, self._threads),
            self._timings,
        ) as outputs:
            try:
                for gathered in self._gathered(outputs):
                    # Those that wait and those that come, together.
                    most = self._plan.under_way - len(gathered)
                    self._take(recorded, max(0, most), self._plan.writing)
                    for frame in self._begun(gathered, outputs):
                        recording = self._recorder.submit(self._record, frame, outputs, done)
                        recorded.append((frame, recording))
            except Exception:
                # What is under way is kept for the next time.
                wait(recording for _, recording in recorded)
                raise
            self._take(recorded, 0, 0)
            with self._timings.host("write"):
                outputs.finish(self._window.runs, self._options.wt)
        self._timings.finish()
        rows = [row for t in sorted(done) for row in done[t]]
        self._check_end(rows)
        with self._timings.host("pictures"):
            self._gallery.finish()
        return rows

    def _take(
        self, recorded: deque[tuple[UnderWay, Future[None]]], most: int, writing: int
    ) -> None:
        """Takes note of frames that are recorded, and waits for the scores of all but `most`, and
        for the files of all but `writing` more."""
        while sum(not frame.scored() for frame, _ in recorded) > most:
            frame = next(frame for frame, _ in recorded if not frame.scored())
            with self._timings.host("wait"):
                wait(frame.tasks)
        while recorded and (len(recorded) > most + writing or recorded[0][1].done()):
            with self._timings.host("wait"):
                recorded.popleft()[1].result()

    def _record(self, frame: UnderWay, outputs: Outputs, done: dict[int, list[Row]]) -> None:
        """Waits for a frame and records it, on a thread of its own, one after the other. None is
        recorded behind one that failed."""
        if self._stopped:
            return
        try:
            rows = frame.rows()
            with self._timings.host("write"):
                outputs.flush(frame.t)
            payload = {"rows": [row.to_json() for row in rows], "seconds": self.stage_seconds()}
            if self._stopped:
                return
            self._run.record(frame.t, payload)
        except BaseException:
            self._stopped = True
            raise
        done[frame.t] = rows
        self._listener.frames_aligned(1)
        self._stopwatch.frame_done()

    def speed(self) -> Speed:
        """Of this run, without those that it resumes."""
        on_gpu = torch.cuda.max_memory_allocated(self._device) if self._on_gpu else None
        return self._stopwatch.read(on_gpu)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, added up over all threads and over the runs that this one resumes."""
        return self._timings.told(thread_seconds(self._source, self._plan.flow_pairs))

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = self._stopped or kind is not None
        self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)
        self._recorder.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)
        self._window.close()

    def _resume(self) -> dict[int, list[Row]]:
        """Rows of the reference frames that are done; their time counts as ours, and they bear the
        names that clip and flow have now."""
        clip = self._clip.info.stem
        seconds: dict[str, float] = {}
        rows = {}
        for t, payload in self._run.done_frames.items():
            rows[t] = [self._settings.named(clip, Row.from_json(row)) for row in payload["rows"]]
            seconds = payload["seconds"]
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
            raise single_frame(info, self._options, "to align")
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
        note = fewer_than_asked(self._options, self.frames)
        if note is not None:
            self.notes.append(note)
            self._listener.note(note)

    def _gathered(self, outputs: Outputs) -> Iterator[dict[int, list[FramePair]]]:
        """The pairs of the reference frames, as many frames at a time as are begun together. They
        are gone when the next are asked for: their frames and flows are not held meanwhile."""
        gathered: dict[int, list[FramePair]] = {}
        for t in self._window:
            gathered[t] = self._pairs(t, outputs)
            if len(gathered) == self._plan.references:
                yield gathered
                gathered.clear()
        if gathered:
            yield gathered

    def _pairs(self, t: int, outputs: Outputs) -> list[FramePair]:
        """A reference frame with all its neighbours."""
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
        reference = self._window.picture(t)
        return [
            FramePair(t, dt, reference, self._window.picture(t + dt), flows.get(dt))
            for dt in neighbours
        ]

    def _begun(self, gathered: dict[int, list[FramePair]], outputs: Outputs) -> list[UnderWay]:
        """Begins with the pairs of some reference frames."""
        pairs = [pair for of_frame in gathered.values() for pair in of_frame]
        count = self._plan.pairs
        batches = [pairs[first : first + count] for first in range(0, len(pairs), count)]
        tasks: dict[int, list[Future[list[Row]]]] = {t: [] for t in gathered}
        for batch in batches:
            if self._on_gpu:
                task = self._pool.submit(self._rows, self._aligner.align(batch, outputs))
            else:
                # Whole tasks side by side, each on one thread, keep every core busy, where threads
                # inside the operators would wait for each other and for the flow.
                task = self._pool.submit(self._task, batch, outputs)
            for t in {pair.t for pair in batch}:
                tasks[t].append(task)
        return [UnderWay(t, of_frame) for t, of_frame in tasks.items()]

    def _task(self, batch: Sequence[FramePair], outputs: Outputs) -> list[Row]:
        return self._rows(self._aligner.align(batch, outputs))

    def _rows(self, measured: Measured) -> list[Row]:
        """The rows of some pairs, once their scores have come back."""
        methods, names = self._aligner.methods, self._aligner.metrics
        rows = []
        tables = measured.scores.numpy()
        for n, (t, dt) in enumerate(measured.places):
            of_pair = []
            for method, values in zip(methods, tables[n].tolist(), strict=True):
                scores = {name: score(name, v) for name, v in zip(names, values, strict=True)}
                of_pair.append(self._settings.row(self._clip.info.stem, t, dt, method, scores))
            if measured.small:
                ranked = {row.method: row.psnr for row in of_pair}
                with self._timings.host("pictures"):
                    self._gallery.consider((t, dt), ranked, measured.small[n])
            rows += of_pair
        return rows

    def _expected_pairs(self) -> list[tuple[int, int]] | None:
        """Those that the headers promise; None where they do not say, or are many."""
        count, wt, start = self._clip.info.frames_expected, self._options.wt, self._options.start
        if count is None or 2 * wt * count > MOST_EXPECTED:
            return None
        run = range(start, start + count)
        return [(t, dt) for t in run for dt in range(-wt, wt + 1) if dt != 0 and t + dt in run]

    def _shown_scores(
        self, done: dict[int, list[Row]]
    ) -> Iterator[tuple[tuple[int, int], dict[str, float | None]]]:
        """PSNR by method of the pairs that may be shown."""
        if self._aligner.methods == ("none",):
            return
        for t, rows in done.items():
            for dt in {row.dt for row in rows}:
                yield (t, dt), {row.method: row.psnr for row in rows if row.dt == dt}


def _row_settings(options: AlignOptions, source: FlowSource | None) -> RowSettings:
    names = (field.name for field in fields(RowSettings) if field.name != "flow")
    parameters = options.parameters()
    settings: dict[str, Any] = {name: parameters[name] for name in names}
    return RowSettings(flow=source.label if source is not None else "", **settings)
