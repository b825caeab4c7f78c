"""One clip: every flow between neighbouring frames, written as it is there."""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stnls_cli.cores import usable_cores
from stnls_cli.devices import resolve_device
from stnls_cli.errors import StorageError, UserError
from stnls_cli.few_frames import fewer_than_asked, single_frame
from stnls_cli.flow import FlowSource, batched_flow, thread_seconds, write_flow_folder
from stnls_cli.flow.clip_flow import KINDS, Kind
from stnls_cli.flow.flo import Flow, read_flo
from stnls_cli.flow.npz_flow import NPZ_NAME, write_flow_npz
from stnls_cli.flow_run.document import (
    FlowDocument,
    FlowRecord,
    read_flow_document,
    write_flow_document,
)
from stnls_cli.flow_run.options import FlowOptions
from stnls_cli.flow_run.pictures import FOLDER as PICTURES
from stnls_cli.flow_run.pictures import WHEEL_NAME, draw_flows
from stnls_cli.metrics import psnr
from stnls_cli.outputs import drop_temporary
from stnls_cli.pipeline import device_name, known_by, open_flow, torch_threads
from stnls_cli.plan import plan_for
from stnls_cli.progress import Listener
from stnls_cli.report import InputRecord
from stnls_cli.rundir import FLOW_RUN, Finished, RunDirectory
from stnls_cli.storage import storage_errors
from stnls_cli.stored import check_damage, check_files
from stnls_cli.timings import Timings
from stnls_cli.video import Clip, clip_digest, open_clip
from stnls_cli.warp import warp
from stnls_cli.window import TemporalWindow

WriteFlow = Callable[[Kind, int, Flow], Path]


@dataclass(frozen=True)
class Computed:
    """What became of one input."""

    folder: Path
    document: FlowDocument
    already_done: bool


def compute_clip_flow(
    path: Path, folder: Path, options: FlowOptions, listener: Listener | None = None
) -> Computed:
    """Writes the flows of one clip into `folder`. Raises UserError for what the user can put
    right."""
    listener = listener or Listener()
    base = options.base
    device = resolve_device(base.device)
    threads = base.threads or usable_cores()
    # Threads inside operators would only get in the way of those that have whole tasks.
    with torch_threads(1), contextlib.ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        clip = stack.enter_context(
            open_clip(
                path,
                start=base.start,
                frames=base.frames,
                size=base.frame_size(),
                stream=base.stream,
                allow_damaged=base.allow_damaged,
            )
        )
        source = stack.enter_context(open_flow(clip.info, base, threads))
        parameters = {**options.parameters(), "flow": source.describe()}
        digest = clip_digest(path)
        fingerprint = {"input": digest, "device": device.type, **known_by(parameters)}
        run = RunDirectory.open(folder, fingerprint, overwrite=base.overwrite, kind=FLOW_RUN)
        if isinstance(run, Finished):
            document = read_flow_document(run.document_path)
            check_files(run, list(_written(document, options)))
            check_damage(run, document.input, path, allowed=base.allow_damaged)
            return Computed(run.path, document, already_done=True)
        stack.enter_context(run)
        job = stack.enter_context(_Job(clip, source, run, options, device, threads, listener))
        try:
            records = job.work()
        except StorageError:
            raise
        except UserError:
            # Nothing that these parameters allow will finish it.
            run.give_up()
            raise
        document = FlowDocument(
            input=InputRecord.of_clip(clip.info, digest, job.frames, clip.damage, job.notes),
            parameters={**parameters, "threads": threads},
            device=device_name(device),
            scale=job.scale,
            flows=tuple(records),
            timings=job.stage_seconds(),
        )
        write_flow_document(run.path, document)
        return Computed(run.finish(), document, already_done=False)


def _written(document: FlowDocument, options: FlowOptions) -> Iterator[str]:
    """Files of a finished run, besides its document."""
    if "npz" in options.formats():
        yield NPZ_NAME
    names = [f"{record.direction}/{record.t:05d}" for record in document.flows]
    if "flo" in options.formats():
        yield from (f"{name}.flo" for name in names)
    if options.pictures:
        yield from (f"{PICTURES}/{name}.png" for name in names)
        yield f"{PICTURES}/{WHEEL_NAME}"


class _Job:
    """Writes the flows that an earlier run has not, and records each reference frame in `run`.

    On a CPU each flow that is there is a task for one thread, which writes and measures it; on a
    GPU one is looked at at a time, for which its memory was reckoned.
    """

    def __init__(
        self,
        clip: Clip,
        source: FlowSource,
        run: RunDirectory,
        options: FlowOptions,
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
        self._timings = Timings(device)
        self.scale: float | None = None
        self.notes: list[str] = []
        """What the document says beside the clip's own notes."""
        plan = plan_for(options.base, clip.info, device, threads, source, flow_only=True)
        self._flow_pairs = plan.flow_pairs
        on_gpu = device.type == "cuda"
        self._under_way = 1 if on_gpu else plan.under_way
        self._pool = ThreadPoolExecutor(
            1 if on_gpu else threads,
            thread_name_prefix="write",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        self._window = TemporalWindow(
            clip,
            source,
            wt=1,
            sigma=options.base.sigma,
            seed=options.base.seed,
            device=device,
            ahead=plan.ahead,
            done=run.done_frames,
            timings=self._timings,
            on_frame=listener.frame_read,
            on_flow=listener.flow_done,
            batched=batched_flow(source, plan.flow_pairs),
        )

    def __enter__(self) -> _Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is being written is waited for: it takes milliseconds, and leaves no half files.
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._window.close()

    @property
    def frames(self) -> int:
        """How many source frames were read so far."""
        return self._window.count

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, added up over all threads and over the runs that this one resumes."""
        return self._timings.told(thread_seconds(self._source, self._flow_pairs))

    def work(self) -> list[FlowRecord]:
        """All flows of the clip, written; what is recorded of them, in order."""
        done = self._resume()
        self._begin(len(done))
        with storage_errors(self._run.path):
            drop_temporary(self._run.path)
            write = write_flow_folder(self._run.path)
        under_way: deque[tuple[int, list[Future[FlowRecord]]]] = deque()
        try:
            for t in self._window:
                under_way.append((t, self._reference(t, write)))
                self._take(under_way, self._under_way - 1, done)
        except Exception:
            # What is under way is kept for the next time.
            self._take(under_way, 0, done)
            raise
        self._take(under_way, 0, done)
        records = [record for t in sorted(done) for record in done[t]]
        if not records:
            raise UserError(
                f"{self._clip.info.path}: no two frames in a row could be read, so there is no "
                "flow between neighbours"
            )
        note = fewer_than_asked(self._options.base, self.frames)
        if note is not None:
            self.notes.append(note)
            self._listener.note(note)
        self._finish(records)
        self._timings.finish()
        return records

    def _resume(self) -> dict[int, list[FlowRecord]]:
        """Records of the reference frames that are done; their time counts as ours."""
        seconds: dict[str, float] = {}
        done = {}
        for t, payload in self._run.done_frames.items():
            done[t] = [FlowRecord.from_json(values) for values in payload["flows"]]
            seconds = payload["seconds"]
        for name, value in seconds.items():
            self._timings.add(name, value)
        return done

    def _begin(self, done: int) -> None:
        """Reads the first frames, and tells the person what there is to know."""
        info = self._clip.info
        self._listener.start(
            info.frames_expected or info.frames_estimate, flows=self._source.needs_frames
        )
        self._listener.frames_aligned(done)
        if self._window.begin() < 2:
            raise single_frame(info, self._options.base, "for a flow to lead to")
        for note in info.notes:
            self._listener.note(note)
        if done:
            self._listener.note(f"resuming after {done} finished frames")

    def _reference(self, t: int, write: WriteFlow) -> list[Future[FlowRecord]]:
        """Begins with the flows of one frame, to the next one and to the previous one."""
        tasks = []
        for kind, dt in zip(KINDS, (1, -1), strict=True):
            if dt in self._window.neighbours(t):
                flow = self._window.steps(t, dt)[0]
                frames = self._window.picture(t).clean, self._window.picture(t + dt).clean
                tasks.append(self._pool.submit(self._write, write, t, kind, flow, *frames))
        return tasks

    def _take(
        self,
        under_way: deque[tuple[int, list[Future[FlowRecord]]]],
        most: int,
        done: dict[int, list[FlowRecord]],
    ) -> None:
        """Records frames in order until no more than `most` are under way."""
        while len(under_way) > most:
            t, tasks = under_way.popleft()
            with self._timings.host("wait"):
                done[t] = [task.result() for task in tasks]
            records = [record.to_json() for record in done[t]]
            self._run.record(t, {"flows": records, "seconds": self.stage_seconds()})
            self._listener.frames_aligned(1)

    def _write(
        self, write: WriteFlow, t: int, kind: Kind, flow: Tensor, clean: Tensor, neighbour: Tensor
    ) -> FlowRecord:
        """Writes one flow, and measures it."""
        with self._timings.host("encode"), storage_errors(self._run.path / kind):
            write(kind, t, flow.permute(1, 2, 0).contiguous().cpu().numpy())
        with self._timings.stage("metrics"):
            length = flow.double().square().sum(0).sqrt().flatten()
            near = max(1, round(0.99 * length.numel()))
            return FlowRecord(
                t=t,
                direction=kind,
                mean=float(length.mean()),
                p99=float(length.kthvalue(near).values),
                most=float(length.max()),
                psnr=psnr(clean, warp(neighbour, flow)),
            )

    def _finish(self, records: list[FlowRecord]) -> None:
        """Pictures on one scale, and the archive, both from the files."""
        path = self._run.path
        # Written as the last thing made of the files: a run killed later may have lost those.
        archived = (path / NPZ_NAME).exists()
        if self._options.pictures:
            longest = max(record.p99 for record in records)
            self.scale = self._options.scale or max(round(longest, 2), 0.5)
            if not archived:
                with self._timings.host("pictures"):
                    draw_flows(path, self.scale, self._threads)
        if "npz" in self._options.formats() and not archived:
            with self._timings.host("encode"), storage_errors(path / NPZ_NAME):
                self._write_npz(path)
        if "flo" not in self._options.formats():
            with storage_errors(path, "delete from"):
                for kind in KINDS:
                    shutil.rmtree(path / kind)

    def _write_npz(self, folder: Path) -> None:
        info = self._clip.info
        shape = self._window.runs[-1].stop, info.height, info.width

        def flows(kind: Kind) -> Iterator[NDArray[np.float32]]:
            missing = np.full((*shape[1:], 2), np.nan, dtype=np.float32)
            for t in range(shape[0]):
                file = folder / kind / f"{t:05d}.flo"
                yield read_flo(file) if file.exists() else missing

        write_flow_npz(folder / NPZ_NAME, flows("forward"), flows("backward"), shape)
