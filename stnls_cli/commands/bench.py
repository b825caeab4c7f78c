"""`stnls bench`: how fast the operators are on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from stnls_cli.errors import UserError


def bench(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Processor threads (default: all cores).")
    ] = None,
    repeat: Annotated[int, typer.Option(help="Runs of each operator.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Small frames.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures on standard output.")
    ] = False,
) -> None:
    """Time the operators on named problems: median, fastest and slowest run in milliseconds."""
    import torch
    from rich.table import Table
    from stnls import _native

    from stnls_cli.bench import measure, problems
    from stnls_cli.console import console_for, print_data
    from stnls_cli.cores import usable_cores
    from stnls_cli.devices import resolve_device

    if repeat < 1:
        raise UserError(f"--repeat must be at least 1, not {repeat}")
    if threads is not None and threads < 1:
        raise UserError(f"--threads must be at least 1, not {threads}")
    place = resolve_device(device)
    torch.set_num_threads(threads or usable_cores())
    if place.type == "cuda":
        machine = torch.cuda.get_device_name(place)
    else:
        machine = f"CPU, {torch.get_num_threads()} threads, {_native.cpu_isa()}"
    table = Table(title=f"{machine}; torch {torch.__version__}", title_justify="left")
    table.add_column("operator")
    for name in ("median ms", "low", "high", "peak MiB"):
        table.add_column(name, justify="right")
    figures = []
    for problem in problems(place, quick):
        timing = measure(problem, place, repeat)
        figures.append(asdict(timing))
        peak = "" if timing.peak_mib is None else f"{timing.peak_mib:.1f}"
        table.add_row(
            timing.problem,
            *(f"{value:.2f}" for value in (timing.median, timing.low, timing.high)),
            peak,
        )
    console_for().print(table)
    if as_json:
        document = {"machine": machine, "torch": torch.__version__, "figures": figures}
        print_data(json.dumps(document, indent=2) + "\n")
