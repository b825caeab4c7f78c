"""`stnls align`: from the command line to the job and its outcome."""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stnls_cli.commands.each import exit_code
from stnls_cli.commands.parameters import (
    other_spelling,
    parameter,
    table_parameters,
    with_parameters,
)
from stnls_cli.console import console_for, described, print_data, print_error
from stnls_cli.errors import StorageError, UserError
from stnls_cli.options import AlignOptions, CommandOptions, align_options

if TYPE_CHECKING:
    from rich.console import Console
    from torch.profiler import profile

    from stnls_cli.pipeline import Aligned
    from stnls_cli.workers import WorkerProcess

# Typer keeps line breaks within a paragraph, so each is one line.
HELP = "\n\n".join(
    (
        "Align the neighbours of every frame of a video and report the alignment error.",
        "Decodes each INPUT (a video file, or a folder of frames), computes optical flow between "
        "neighbouring frames, refines it by the Shifted Non-Local Search, and writes the aligned "
        "frames and an error report to a folder named like INPUT with the suffix .stnls, in the "
        "current folder.",
        "The same command again does nothing where that folder is complete, and goes on where a "
        "run stopped.",
    )
)


def run_align(names: list[str], options: AlignOptions, command: CommandOptions) -> int:
    """Aligns every input; returns the exit code."""
    from stnls_cli.folders import check_pictures, given_path, output_folders
    from stnls_cli.workers import head_start

    console = console_for(quiet=command.quiet)
    inputs = [given_path(name, "INPUT") for name in names]
    check_pictures(inputs)
    folders = output_folders(inputs, [given_path(name, "-o") for name in command.output or []])
    jobs = list(zip(inputs, folders, strict=True))
    done = 0
    documents: dict[int, Any] = {}
    with head_start(options, len(jobs)) as early, _traced(command.trace, jobs, console) as trace:
        for number, aligned in _run_all(jobs, options, early, console, quiet=command.quiet):
            if isinstance(aligned, Exception):
                if len(inputs) == 1:
                    raise aligned
                print_error(described(aligned))
            else:
                _tell(aligned, console, verbose=command.verbose)
                done += 1
                trace.wanted = not aligned.already_done
                if command.as_json:
                    documents[number] = aligned.report.to_json()
    if documents:
        document = [documents[number] for number in sorted(documents)]
        one = document[0] if len(inputs) == 1 else document
        print_data(json.dumps(one, indent=2, allow_nan=False) + "\n")
    return exit_code(len(inputs) - done, len(inputs))


Jobs = list[tuple[Path, Path]]


def _run_all(
    jobs: Jobs,
    options: AlignOptions,
    early: deque[WorkerProcess],
    console: Console,
    *,
    quiet: bool,
) -> Iterator[tuple[int, Aligned | Exception]]:
    """What became of each input, by its number; as they are there where several processes work."""
    from stnls_cli.pipeline import check_machine
    from stnls_cli.workers import worker_options

    check_machine(options)
    each = worker_options(options, len(jobs))
    if each:
        yield from _run_side_by_side(jobs, each, early, console, quiet=quiet)
        return
    for number, (path, folder) in enumerate(jobs):
        try:
            yield number, _run_one(path, folder, options, console, quiet=quiet)
        except BrokenPipeError:
            raise
        except Exception as error:
            yield number, error


def _run_side_by_side(
    jobs: Jobs,
    each: list[AlignOptions],
    early: deque[WorkerProcess],
    console: Console,
    *,
    quiet: bool,
) -> Iterator[tuple[int, Aligned | Exception]]:
    from stnls_cli.progress import SharedProgress
    from stnls_cli.workers import align_side_by_side

    with SharedProgress(console, notes=not quiet) as progress:
        listener = lambda path: progress.listener(path.name or str(path))  # noqa: E731
        for outcome in align_side_by_side(jobs, each, listener, early=early):
            yield outcome.number, outcome.error or outcome.aligned()


@dataclass
class Trace:
    """`wanted`: whether there was work to be traced."""

    wanted: bool = False


@contextlib.contextmanager
def _traced(name: str | None, jobs: Jobs, console: Console) -> Iterator[Trace]:
    """Writes a trace of the block to the file `name`, if there is one, and the block wants it."""
    wish = Trace()
    if name is None:
        yield wish
        return
    if len(jobs) > 1:
        raise UserError(f"--trace {name} takes one input, not {len(jobs)}")
    from stnls_cli.folders import given_path
    from stnls_cli.storage import check_writable

    path = given_path(name, "--trace")
    check_writable(path)
    # The profiler's messages, which it reads when it is first used: none.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    # PyTorch has no public name yet for a look at every thread.
    config = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=activities, experimental_config=config) as trace:
        yield wish
    if wish.wanted:
        _write_trace(trace, path)
    else:
        console.print(
            f"{path} is not written: there was nothing left to do", markup=False, soft_wrap=True
        )


def _write_trace(trace: profile, path: Path) -> None:
    """PyTorch raises no error where it cannot write, and leaves what it had begun."""
    import tempfile

    from stnls_cli.storage import storage_errors

    with storage_errors(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        # The same name: it says whether the trace is compressed.
        written = Path(folder) / path.name
        trace.export_chrome_trace(str(written))
        if not (written.is_file() and written.stat().st_size):
            raise StorageError(f"cannot write {path}: PyTorch's profiler gave no trace")
        written.replace(path)


def _run_one(
    path: Path, folder: Path, options: AlignOptions, console: Console, *, quiet: bool
) -> Aligned:
    from stnls_cli.pipeline import align_clip
    from stnls_cli.progress import ConsoleListener

    with ConsoleListener(console, path.name or str(path), notes=not quiet) as listener:
        return align_clip(path, folder, options, listener)


def _tell(aligned: Aligned, console: Console, *, verbose: bool) -> None:
    from stnls_cli.report import summary_table, timings_table

    if aligned.already_done:
        console.print(
            f"{aligned.folder} is complete already, with the same input and parameters",
            markup=False,
            soft_wrap=True,
        )
        if verbose:
            console.print(timings_table(aligned.report.timings))
        return
    console.print(summary_table(aligned.report))
    if verbose:
        console.print(timings_table(aligned.report.timings))
        if aligned.speed is not None:
            console.print(aligned.speed.told(), highlight=False, soft_wrap=True)
    for line in aligned.report.input.damage:
        console.print(f"damage: {line}", markup=False, soft_wrap=True)
    # A name with a line break stays on its line.
    page = " ".join(str(aligned.folder / "report.html").splitlines())
    console.print(f"report: {page}", markup=False, soft_wrap=True)


def align_command() -> Callable[..., None]:
    """The function that Typer reads: its parameters come from the tables in options.py."""

    def align(**values: Any) -> None:
        inputs = values.pop("inputs")
        command = CommandOptions(**{f.name: values.pop(f.name) for f in fields(CommandOptions)})
        if values["method"] is None:
            del values["method"]
        elif values["methods"] == AlignOptions.methods:
            del values["methods"]
        code = run_align(inputs, align_options(values), command)
        if code:
            raise typer.Exit(code)

    argument = typer.Argument(metavar="INPUT", help="Video files or folders of frames.")
    parameters = [
        parameter("inputs", Annotated[list[str], argument]),
        *table_parameters(AlignOptions, fields(AlignOptions)),
        other_spelling("method", "--method"),
        *table_parameters(CommandOptions, fields(CommandOptions)),
    ]
    return with_parameters(align, parameters, HELP)
