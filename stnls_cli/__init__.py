"""The tool on top of the library: align video, compare alignment errors, compute flow."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

# Loaded before the function of that name: a package that is loaded later takes its place here.
import stnls_cli.compare  # noqa: F401
from stnls_cli.errors import UserError, WorkerError

if TYPE_CHECKING:
    from stnls_cli.compare.document import ComparisonDocument
    from stnls_cli.flow_run.document import FlowDocument
    from stnls_cli.report import Report

__all__ = ["UserError", "WorkerError", "align", "compare", "compute_flow"]

AnyPath = str | PathLike[str]


@overload
def align(inputs: AnyPath, output: AnyPath | None = None, **options: Any) -> Report: ...
@overload
def align(
    inputs: Sequence[AnyPath], output: Sequence[AnyPath] | AnyPath | None = None, **options: Any
) -> list[Report]: ...
def align(
    inputs: AnyPath | Sequence[AnyPath],
    output: Sequence[AnyPath] | AnyPath | None = None,
    **options: Any,
) -> Report | list[Report]:
    """Aligns the frames of one or several clips: the job of `stnls align`, called from Python.

    Args:
        inputs: a video file or a folder of frames, or several.
        output: the folder of the results (default: the input's name with ".stnls", in the current
            folder); for several inputs a folder for all of them, or one for each.
        options: those of `stnls align`, with underscores; lists may be lists, a size (width,
            height): ``align("in.mp4", ws=9, flow="dis", size=(640, 360), save=["aligned"])`` (see
            `stnls_cli.options.AlignOptions`).

    Returns:
        The report, or one for each input.

    Raises:
        UserError: for what the caller can put right, with one line that says what. Inputs after
            the one that failed are not begun, but for those under way in other processes.
        WorkerError: where such a process fails for another reason (see `workers`).
        TypeError: for an option that does not exist, or a value of the wrong type.

    """
    from stnls_cli.folders import check_pictures, given_path, output_folders
    from stnls_cli.options import align_options
    from stnls_cli.pipeline import align_clip, check_machine
    from stnls_cli.progress import Listener
    from stnls_cli.workers import align_side_by_side, worker_options

    settings = align_options(options)
    single = isinstance(inputs, (str, PathLike))
    paths = _input_paths(inputs)
    check_pictures(paths)
    folders = output_folders(paths, [given_path(path, "-o") for path in _listed(output)])
    check_machine(settings)
    jobs = list(zip(paths, folders, strict=True))
    each = worker_options(settings, len(jobs))
    if not each:
        reports = [align_clip(path, folder, settings).report for path, folder in jobs]
        return reports[0] if single else reports
    outcomes = align_side_by_side(
        jobs, each, lambda _: contextlib.nullcontext(Listener()), stop_at_error=True
    )
    found = {outcome.number: outcome for outcome in outcomes}
    for number in sorted(found):
        if error := found[number].error:
            raise error
    return [found[number].aligned().report for number in sorted(found)]


def compare(
    inputs: AnyPath | Sequence[AnyPath],
    output: AnyPath = "comparison.stnls",
    **options: Any,
) -> ComparisonDocument:
    """Compares alignment errors over a grid: the job of `stnls compare`, called from Python.

    Args:
        inputs: videos, folders of frames, folders of such folders, or earlier runs of `align`.
        output: the folder of the results, and of what is kept for the next time.
        options: those of `stnls compare`, with underscores; lists may be lists:
            ``compare("davis", flow=["dis", "tvl1"], ws=[3, 9], sigma=15)``.

    Returns:
        The comparison: settings with their scores, clip by clip. `failed` names the inputs that
        were left out, and why.

    Raises:
        UserError: for what the caller can put right, with one line that says what; also where every
            input failed.
        TypeError: for an option that does not exist, or a value of the wrong type.

    """
    from stnls_cli.compare.options import compare_options
    from stnls_cli.compare.run import prepare, run
    from stnls_cli.folders import given_path

    paths = _input_paths(inputs)
    folder = given_path(output, "-o")
    job = prepare(paths, compare_options(options), folder)
    document = run(job, folder)
    if not document.clips:
        raise UserError("; ".join(document.failed.values()))
    return document


def compute_flow(clip: AnyPath, output: AnyPath | None = None, **options: Any) -> FlowDocument:
    """Computes the flow between neighbouring frames: the job of `stnls flow`, called from Python.

    Args:
        clip: a video file or a folder of frames.
        output: the folder of the results (default: the clip's name with ".flow", in the current
            folder), which `align(..., flow=folder)` reads.
        options: those of `stnls flow`, with underscores: ``compute_flow("in.mp4", flow="dis")``.

    Returns:
        What flow.json holds: a record of every flow, and the settings.

    Raises:
        UserError: for what the caller can put right, with one line that says what.
        TypeError: for an option that does not exist, or a value of the wrong type.

    """
    from stnls_cli.flow_run.job import compute_clip_flow
    from stnls_cli.flow_run.options import flow_options
    from stnls_cli.folders import FLOW_SUFFIX, given_path, output_folders
    from stnls_cli.pipeline import check_machine

    settings = flow_options(options)
    path = given_path(clip, "INPUT")
    outputs = [] if output is None else [given_path(output, "-o")]
    (folder,) = output_folders([path], outputs, FLOW_SUFFIX)
    check_machine(settings.base)
    return compute_clip_flow(path, folder, settings).document


def _input_paths(inputs: AnyPath | Sequence[AnyPath]) -> list[Path]:
    from stnls_cli.folders import given_path

    paths = [given_path(path, "INPUT") for path in _listed(inputs)]
    if not paths:
        raise UserError("no INPUT: give a video file or a folder of frames, or several")
    return paths


def _listed(given: AnyPath | Sequence[AnyPath] | None) -> Sequence[AnyPath]:
    if given is None:
        return []
    if isinstance(given, (str, PathLike)):
        return [given]
    if not isinstance(given, Sequence):
        raise TypeError(f"inputs and output must be paths or lists of them, not {type(given)}")
    return given
