"""One clip: every flow between neighbouring frames, written as it is there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
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
from stnls_cli.flow import BatchedFlow, FlowSource, MethodSource, write_flow_folder
from stnls_cli.flow.clip_flow import KINDS, Kind
from stnls_cli.flow.flo import read_flo
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
    with torch_threads(threads), contextlib.ExitStack() as stack:
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
            input=InputRecord.of_clip(clip.info, digest, job.frames, clip.damage),
            parameters={**parameters, "threads": threads},
            device=device_name(device),
            scale=job.scale,
            flows=tuple(records),
            timings=job.seconds,
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
    """Writes the flows that an earlier run has not, and records each reference frame in `run`."""

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
        plan = plan_for(options.base, clip.info, device, threads, source, flow_only=True)
        batched = None
        if plan.flow_pairs and isinstance(source, MethodSource):
            batched = BatchedFlow(source.method, plan.flow_pairs)
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
            batched=batched,
        )

    def __enter__(self) -> _Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._window.close()

    @property
    def frames(self) -> int:
        """How many source frames were read so far."""
        return self._window.count

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, over all threads."""
        seconds = dict(self._timings.seconds)
        if self._source.needs_frames:
            seconds["flow_cpu"] = self._source.cpu_seconds
        return {name: round(value, 6) for name, value in seconds.items()}

    def work(self) -> list[FlowRecord]:
        """All flows of the clip, written; what is recorded of them, in order."""
        done = {
            t: [FlowRecord.from_json(values) for values in payload]
            for t, payload in self._run.done_frames.items()
        }
        self._begin(len(done))
        with storage_errors(self._run.path):
            drop_temporary(self._run.path)
            write = write_flow_folder(self._run.path)
        for t in self._window:
            records = []
            for kind, dt in zip(KINDS, (1, -1), strict=True):
                if dt in self._window.neighbours(t):
                    flow = self._window.steps(t, dt)[0]
                    with self._timings.stage("write"), storage_errors(self._run.path / kind):
                        write(kind, t, flow.permute(1, 2, 0).contiguous().cpu().numpy())
                    with self._timings.stage("metrics"):
                        records.append(self._record(t, kind, dt, flow))
            done[t] = records
            self._run.record(t, [record.to_json() for record in records])
            self._listener.frames_aligned(1)
        records = [record for t in sorted(done) for record in done[t]]
        if not records:
            raise UserError(
                f"{self._clip.info.path}: no two frames in a row could be read, so there is no "
                "flow between neighbours"
            )
        self._finish(records)
        return records

    def _begin(self, done: int) -> None:
        """Reads the first frames, and tells the person what there is to know."""
        info = self._clip.info
        self._listener.start(
            info.frames_expected or info.frames_estimate, flows=self._source.needs_frames
        )
        self._listener.frames_aligned(done)
        if self._window.begin() < 2:
            raise UserError(
                f"{info.path}: a single frame, so there is no neighbour for a flow to lead to; two "
                "frames or more are needed"
            )
        for note in info.notes:
            self._listener.note(note)
        if done:
            self._listener.note(f"resuming after {done} finished frames")

    def _record(self, t: int, kind: Kind, dt: int, flow: Tensor) -> FlowRecord:
        length = flow.double().square().sum(0).sqrt().flatten()
        near = max(1, round(0.99 * length.numel()))
        clean = self._window.picture(t).clean
        return FlowRecord(
            t=t,
            direction=kind,
            mean=float(length.mean()),
            p99=float(length.kthvalue(near).values),
            most=float(length.max()),
            psnr=psnr(clean, warp(self._window.picture(t + dt).clean, flow)),
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
                with self._timings.stage("pictures"):
                    draw_flows(path, self.scale, self._threads)
        if "npz" in self._options.formats() and not archived:
            with self._timings.stage("write"), storage_errors(path / NPZ_NAME):
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
