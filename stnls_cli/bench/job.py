"""The whole job of `stnls bench`: what is timed, in which order, and where it goes."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from stnls_cli.bench import words
from stnls_cli.bench.backends import Backend, Case, Outcome, Session, make_backend
from stnls_cli.bench.calls import operator, search_before
from stnls_cli.bench.ceilings import measure_ceilings
from stnls_cli.bench.check import mismatch
from stnls_cli.bench.cost import cost_of
from stnls_cli.bench.document import Document
from stnls_cli.bench.earlier import figures, original_of
from stnls_cli.bench.flow_file import FILE, FlowFile, open_flow_file
from stnls_cli.bench.inputs import InputMaker
from stnls_cli.bench.machine import free_memory, load_of_machine, machine_of, now, versions
from stnls_cli.bench.options import DTYPES, BenchOptions
from stnls_cli.bench.presets import problems
from stnls_cli.bench.problem import Problem
from stnls_cli.bench.row import Row, RowMaker
from stnls_cli.bench.timer import Plan
from stnls_cli.console import EXIT_INTERRUPTED, EXIT_PARTIAL, print_data
from stnls_cli.cores import usable_cores
from stnls_cli.devices import resolve_device
from stnls_cli.errors import UserError
from stnls_cli.storage import check_writable, storage_errors, write_text

SECONDS = {"cpu": 4.0, "cuda": 2.0}
"""After which a call is repeated no more."""
REPEATS = {"cpu": 7, "cuda": 15}
HEADROOM = 1.5
"""How much more than inputs and outputs a problem may take."""


def run_bench(options: BenchOptions) -> int:
    """Does it all; returns the exit code: 1 when a result of ours is wrong or fails."""
    if options.plot is not None:
        from stnls_cli.bench.plot import check_matplotlib

        check_matplotlib()
    flow_file = None if options.flow_file is None else open_flow_file(options.flow_file)
    if options.csv is not None:
        check_writable(Path(options.csv))
    if options.plot is not None:
        folder = Path(options.plot)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / "sweep.png")
    device = _device(options)
    torch.set_num_threads(options.threads or usable_cores())
    job = Job(options, device, flow_file)
    try:
        with contextlib.closing(job):
            job.run()
    except KeyboardInterrupt:
        job.document.interrupted = True
        words.say("interrupted: these are the figures so far")
    job.write()
    if job.document.interrupted:
        return EXIT_INTERRUPTED
    ours = [row for row in job.document.rows if row.backend == "stnls"]
    return EXIT_PARTIAL if any(row.status == "error" for row in ours) else 0


def _device(options: BenchOptions) -> torch.device:
    """A plan can be made for a GPU that is elsewhere."""
    if options.dry_run and options.device.partition(":")[0] == "cuda":
        return torch.device("cuda")
    return resolve_device(options.device)


class Job:
    """One run. `document` holds what there is at any time."""

    def __init__(
        self, options: BenchOptions, device: torch.device, flow_file: FlowFile | None = None
    ) -> None:
        self.options = options
        self.device = device
        self.flow_file = flow_file
        self.dtype_name = DTYPES[options.dtype]
        self.dtype: torch.dtype = getattr(torch, self.dtype_name)
        seconds = 0.5 if options.quick else SECONDS[device.type]
        repeat = options.repeat or (2 if options.quick else REPEATS[device.type])
        self.session = Session(device, Plan(repeat, seconds), options.quick, options.peer_path)
        self.maker = InputMaker(device, self.dtype, options.flow, flow_file)
        self._backends: list[Backend] = []
        self.document = Document(
            now(),
            "" if options.dry_run else machine_of(device),
            device.type,
            {} if options.dry_run else versions(device),
            _settings(options, flow_file, repeat),
            load=None if options.dry_run else load_of_machine(),
        )

    def run(self) -> None:
        """Everything that was asked for. UserError, before anything is timed, for flow of a clip
        that no problem can have."""
        if self.flow_file is not None:
            asked = [problem for _, named in self._named() for problem in named]
            self.flow_file.check(asked, quick=self.options.quick)
        began = time.perf_counter()
        try:
            if self.options.dry_run:
                self._plan()
            else:
                self._measure()
        finally:
            self.document.seconds = time.perf_counter() - began

    def write(self) -> None:
        """Standard output and files."""
        if self.options.csv is not None and (self.document.rows or not self.document.interrupted):
            write_text(Path(self.options.csv), self.document.to_csv())
        if self.options.plot is not None and self.document.sweeps:
            self._draw(Path(self.options.plot))
        if self.options.as_json:
            print_data(self.document.to_text())

    def close(self) -> None:
        """Ends processes of backends."""
        for backend in self._backends:
            backend.close()

    def _named(self) -> Iterator[tuple[str, list[Problem]]]:
        """The problems of each preset."""
        for preset in self.options.presets:
            cuda = self.device.type == "cuda"
            yield preset, problems(preset, cuda=cuda, quick=self.options.quick)

    def _problems(self) -> Iterator[tuple[str, list[Problem]]]:
        """The same, with those that have the flow of a clip."""
        for preset, named in self._named():
            yield preset, named if self.flow_file is None else list(self.flow_file.beside(named))

    def _plan(self) -> None:
        # Whether they are there says nothing of the machine that the plan may be for.
        self._backends = [make_backend(name) for name in self.options.backend or ("stnls",)]
        self._refuse_nothing(self._backends)
        for preset, found in self._problems():
            words.say(f"{preset} ({self.device.type}), flow: {self._flow_words(found)}")
            for problem in found:
                maker = self._row_maker(preset, problem)
                backends = [b for b in self._backends if self._covers(b, problem)]
                if backends:
                    words.say(f"  {problem.name}")
                for backend in backends:
                    row = maker.row(backend.name, "planned", self._too_large(maker) or "")
                    self.document.rows.append(row)
                    words.say(words.plan_line(row))

    def _measure(self) -> None:
        document, options = self.document, self.options
        about = ", ".join(f"{name} {value}" for name, value in document.versions.items())
        words.say(f"{document.machine}; {about}")
        if document.load is not None and document.load > 0.5:
            words.say(words.load_line(document.load))
        document.ceilings = measure_ceilings(self.device, options.quick)
        words.say(words.ceiling_line(document.ceilings))
        words.say(words.legend(self.device.type == "cuda"))
        self._find_backends()
        for preset, found in self._problems():
            words.say(f"\n{preset}, {self.dtype_name}, flow: {self._flow_words(found)}")
            for number, problem in enumerate(found):
                self._problem(preset, problem, found[number + 1 :])
            self.maker.forget()
        if any(row.original is not None for row in document.rows):
            words.say(f"\noriginal (H200): {figures()['source']}")
        if options.sweeps:
            self._sweep()

    def _flow_words(self, found: list[Problem]) -> str:
        if self.flow_file is None or all(problem.flow != FILE for problem in found):
            return self.options.flow
        return f"{self.options.flow}; flow=file is that of {self.flow_file.path}"

    def _find_backends(self) -> None:
        if not self.options.presets:
            return
        for name in self.options.backends:
            backend = make_backend(name)
            self._backends.append(backend)
            reason = backend.available(self.session)
            self.document.backends[name] = reason
            if reason is not None:
                words.say(f"left out: {name} ({reason})")
        if self.options.backend and all(self.document.backends.values()):
            raise UserError(
                "nothing to time: "
                + "; ".join(f"{name}: {reason}" for name, reason in self.document.backends.items())
            )
        there = [b for b in self._backends if not self.document.backends[b.name]]
        self._refuse_nothing(there)
        asked = [problem for _, found in self._problems() for problem in found]
        for backend in there:
            if not any(self._covers(backend, problem) for problem in asked):
                reason = "it computes none of these problems"
                self.document.backends[backend.name] = reason
                words.say(f"left out: {backend.name} ({reason})")

    def _covers(self, backend: Backend, problem: Problem) -> bool:
        """Before there are inputs."""
        return backend.covers(Case(problem, (), self.maker.flow_name(problem)))

    def _refuse_nothing(self, backends: list[Backend]) -> None:
        """Where none of them computes any of the problems."""
        asked = [problem for _, found in self._problems() for problem in found]
        if any(self._covers(backend, problem) for backend in backends for problem in asked):
            return
        names, presets = (", ".join(n) for n in ([b.name for b in backends], self.options.presets))
        raise UserError(
            f"nothing to time: no problem of {presets} with flow {self.options.flow} is one that "
            f"{names} can compute; name another --preset, --flow or --backend"
        )

    def _row_maker(self, preset: str, problem: Problem) -> RowMaker:
        original = original_of(preset, problem, self.document.machine, self.dtype_name)
        if self.options.quick:
            original = None
        cost = cost_of(problem, self.dtype)
        flow = self.maker.flow_name(problem)
        return RowMaker(preset, problem, flow, self.dtype_name, cost, original)

    def _too_large(self, maker: RowMaker) -> str | None:
        if self.options.dry_run and self.device.type == "cuda":
            return None
        free, need = free_memory(self.device), HEADROOM * maker.cost.bytes
        if free is None or need < free:
            return None
        return f"needs some {need / 2**30:.1f} GiB, {free / 2**30:.1f} are free"

    def _problem(self, preset: str, problem: Problem, later: list[Problem]) -> None:
        """All backends on one problem."""
        words.say(f"  {problem.name}")
        maker = self._row_maker(preset, problem)
        too_large = self._too_large(maker)
        if too_large is not None:
            self._add(maker.row("stnls", "skipped", too_large))
            return
        try:
            case = Case(problem, self.maker.make(problem), maker.flow)
        except UserError as error:  # a flow file whose frames are damaged
            self._add(maker.row("stnls", "error", str(error)))
            return
        follows = any(_sums(p) and search_before(p) == problem for p in later)
        for backend in self._backends:
            if self.document.backends[backend.name] is None and backend.covers(case):
                row, outcome = self._backend(backend, case, maker)
                self._add(row)
                if follows and backend.name == "stnls" and outcome is not None and outcome.results:
                    self.maker.keep(problem, outcome.results)
                del outcome
                self._tidy()

    def _backend(self, backend: Backend, case: Case, maker: RowMaker) -> tuple[Row, Outcome | None]:
        """One row; whatever goes wrong is a row as well."""
        try:
            outcome = backend.run(case, self.session)
            wrong = None
            if outcome.results is not None:
                run = operator(case.problem)
                wrong = mismatch(
                    case.problem, run, case.inputs, outcome.results, quick=self.options.quick
                )
        except (RuntimeError, ValueError, TypeError, MemoryError, OSError) as error:
            text = str(error).strip().splitlines() or [type(error).__name__]
            return maker.row(backend.name, "error", text[0]), None
        if wrong is not None:
            return maker.row(backend.name, "error", f"not the reference's result: {wrong}"), None
        assert self.document.ceilings is not None
        timing = outcome.timing
        row = maker.timed(
            backend.name,
            timing.times,
            ceilings=self.document.ceilings,
            median=timing.median,
            spread=timing.spread,
            scale=outcome.scale,
            above=timing.peak_bytes,
            checked=outcome.results is not None,
            message=outcome.note,
        )
        return row, outcome

    def _add(self, row: Row) -> None:
        self.document.rows.append(row)
        words.say(words.row_line(row))

    def _tidy(self) -> None:
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _sweep(self) -> None:
        from stnls_cli.bench.sweep import exponent_line, run_sweeps

        words.say(f"\nsweeps, {self.dtype_name}, flow: {self.options.flow}")

        def listen(line: dict[str, Any]) -> None:
            self.document.sweeps.append(line)
            words.say(exponent_line(line))

        run_sweeps(self.maker, self.session, listen)

    def _draw(self, folder: Path) -> None:
        from stnls_cli.bench.plot import draw

        title = f"NonLocalSearch on {self.document.machine}, flow {self.options.flow}"
        draw(self.document.sweeps, title, folder / "sweep.png")
        write_text(folder / "sweep.json", self.document.to_text())
        words.say(f"drawn: {folder / 'sweep.png'}")


def _sums(problem: Problem) -> bool:
    return problem.operator == "WeightedPatchSum"


def _settings(options: BenchOptions, flow_file: FlowFile | None, repeat: int) -> dict[str, Any]:
    """What influences the figures; no paths."""
    kept = ("preset", "backend", "flow", "dtype", "quick")
    found = {f.name: getattr(options, f.name) for f in fields(options) if f.name in kept}
    found["flow_file"] = None if flow_file is None else flow_file.settings()
    return {**found, "threads": torch.get_num_threads(), "repeat": repeat}
