"""The job of `stnls align`: video in, flow, search, aggregate, frames and report out."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stnls_cli.cores import usable_cores
from stnls_cli.devices import resolve_device
from stnls_cli.errors import StorageError, UserError
from stnls_cli.flow import FLOW_METHODS, FlowSource, open_flow_source
from stnls_cli.job import Job
from stnls_cli.options import AlignOptions
from stnls_cli.page.build import write_align_page
from stnls_cli.progress import Listener
from stnls_cli.report import InputRecord, Report, read_report, write_reports
from stnls_cli.rundir import Finished, RunDirectory
from stnls_cli.speed import Speed
from stnls_cli.storage import storage_errors
from stnls_cli.stored import check_damage, check_files, check_pages, saved_files
from stnls_cli.video import Clip, ClipInfo, clip_digest, open_clip

PAGE_PACKAGES = ("jinja2", "matplotlib", "PIL")
"""What makes the page at the end: missed before the work, not after it."""


@dataclass(frozen=True)
class Aligned:
    """What became of one input."""

    folder: Path
    report: Report
    already_done: bool
    speed: Speed | None = None
    """Of this run; None where nothing was left to do."""


def check_machine(options: AlignOptions) -> None:
    """Raises UserError where this machine lacks what the options ask for, whatever the input."""
    resolve_device(options.device)
    for name in PAGE_PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if options.needs_flow() and options.flow in FLOW_METHODS:
        FLOW_METHODS[options.flow].check()


def align_clip(
    path: Path, folder: Path, options: AlignOptions, listener: Listener | None = None
) -> Aligned:
    """Aligns one clip into `folder`. Raises UserError for what the user can put right."""
    listener = listener or Listener()
    device = resolve_device(options.device)
    threads = options.threads or usable_cores()
    # Threads inside operators would only get in the way of those that have whole tasks.
    with torch_threads(1), contextlib.ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        clip = stack.enter_context(_open_clip(path, options))
        source = None
        if options.needs_flow():
            source = stack.enter_context(open_flow(clip.info, options, threads))
        parameters = {
            **options.parameters(),
            "flow": source.describe() if source is not None else None,
        }
        digest = clip_digest(path)
        fingerprint = {
            "input": digest,
            "device": device.type,
            **known_by(parameters),
        }
        run = RunDirectory.open(folder, fingerprint, overwrite=options.overwrite)
        if isinstance(run, Finished):
            return Aligned(run.path, _stored_report(run, path, options), already_done=True)
        stack.enter_context(run)
        job = stack.enter_context(Job(clip, source, run, options, device, threads, listener))
        try:
            rows = job.work()
            speed = job.speed()
        except StorageError:
            raise
        except UserError:
            # Nothing that these parameters allow will finish it.
            run.give_up()
            raise
        report = Report(
            input=InputRecord.of_clip(clip.info, digest, job.frames, clip.damage, job.notes),
            parameters={**parameters, "threads": threads},
            device=device_name(device),
            metrics=options.metric_names(),
            rows=tuple(rows),
            timings=job.stage_seconds(),
        )
        with storage_errors(run.path):
            write_align_page(run.path, report)
            write_reports(run.path, report)
        return Aligned(run.finish(), report, already_done=False, speed=speed)


def _open_clip(path: Path, options: AlignOptions) -> Clip:
    clip = open_clip(
        path,
        start=options.start,
        frames=options.frames,
        size=options.frame_size(),
        stream=options.stream,
        allow_damaged=options.allow_damaged,
    )
    width, height = clip.info.width, clip.info.height
    if min(width, height) < options.ps:
        clip.close()
        raise UserError(
            f"{path}: frames of {width}x{height} are smaller than the patch "
            f"(--ps {options.ps}); give a smaller --ps or a larger --size"
        )
    return clip


def open_flow(info: ClipInfo, options: AlignOptions, threads: int) -> FlowSource:
    """The flows of a clip; those of files are looked for at once."""
    # The headers of a damaged clip promise frames that it has not, nor their flows.
    expected = None if options.allow_damaged else info.frames_expected
    return open_flow_source(
        options.flow,
        height=info.height,
        width=info.width,
        threads=threads,
        start=options.start,
        stop=None if expected is None else options.start + expected,
    )


def known_by(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters by which a run is known again.

    `allow_damaged` only decides whether a damaged clip is an error, and flow files are told by
    their digest, wherever they lie.
    """
    known = {name: value for name, value in parameters.items() if name != "allow_damaged"}
    if known["flow"] is not None:
        known["flow"] = {name: value for name, value in known["flow"].items() if name != "path"}
    return known


def _stored_report(run: Finished, path: Path, options: AlignOptions) -> Report:
    report = read_report(run.document_path)
    check_files(run, list(saved_files(report, options.saved(), options.format)))
    check_pages(run)
    check_damage(run, report.input, path, allowed=options.allow_damaged)
    return report


def device_name(device: torch.device) -> str:
    """What a report says of the device."""
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return "cpu"


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """The number of threads of PyTorch's operators, within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
