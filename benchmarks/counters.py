"""What Nsight Compute counts of each kernel: the table of docs/guide/kernels.md.

Every problem is one call, after one that is not counted, with the clocks left as they are. Kernels
of one name are added up; shares are means, weighted by time.

    python benchmarks/counters.py --json benchmarks/results/counters-h200.json
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stnls_cli.bench.calls import bound, operator
from stnls_cli.bench.inputs import InputMaker
from stnls_cli.bench.presets import problems
from stnls_cli.bench.problem import Problem

SUMS = {
    "gpu__time_duration.sum": "nanoseconds",
    "smsp__inst_executed.sum": "instructions",
    "dram__bytes.sum": "bytes",
}
SHARES = {
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps",
    "l1tex__data_pipe_lsu_wavefronts.avg.pct_of_peak_sustained_elapsed": "L1",
    "lts__t_sectors.avg.pct_of_peak_sustained_elapsed": "L2",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory",
    "sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active": "ALU",
    "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active": "XU",
}
MARK = "spin_kernel"
"""Of PyTorch's: launched between two problems, so that their kernels can be told apart."""


def chosen() -> Iterator[tuple[str, Problem]]:
    """The problems of the README's table, by the names that the guide gives them."""
    presets = ("alignment-480p", "readme-attention", "attention-256")
    rows = [p for preset in presets for p in problems(preset, cuda=True)]
    searches = [p for p in rows if p.operator == "NonLocalSearch" and p.flow is None]
    forward = [p for p in searches if p.gradients == "none" and p.stride0 == 1 and p.k > 0]
    for p in forward:
        if p.channels == 3 and p.wt == 1:
            yield f"alignment, {p.grid}, step {p.stride1:g}, K {p.k}", p
            if p.stride1 == 0.5:
                yield f"alignment, {p.grid}, step {p.stride1:g}, K 10", replace(p, k=10)
        elif p.channels == 64 and p.grid == "float":
            yield f"attention, ps {p.ps}", p
        elif p.channels == 16 and p.grid == "float":
            yield "README attention", p
    for p in rows:
        if p.operator == "WeightedPatchSum" and p.channels == 64:
            ways = "" if p.gradients == "none" else ", both ways"
            yield f"patch sum, ps {p.ps}, {p.grid}{ways}", p


def flow_call(device: torch.device) -> Callable[[], object]:
    """One linearisation, ten iterations and their medians, of the finest scale of 16 pairs."""
    from stnls.flow import tvl1

    generator = torch.Generator().manual_seed(0)
    frames = [torch.rand(16, 1, 480, 854, generator=generator).to(device) for _ in range(2)]
    only = {"nscales": 1, "warps": 1, "outerIterations": 1, "innerIterations": 10, "epsilon": 0}
    return lambda: tvl1(*frames, **only)


def drive() -> None:
    """Runs under Nsight Compute."""
    device = torch.device("cuda")
    maker = InputMaker(device, torch.float32, "edges")
    profiler = torch.cuda.profiler

    def counted(call: Callable[[], object]) -> None:
        call()
        torch.cuda.synchronize()
        profiler.start()
        call()
        torch.cuda._sleep(1)
        torch.cuda.synchronize()
        profiler.stop()

    for _, problem in chosen():
        inputs: tuple[Tensor, ...] = maker.make(problem)
        counted(bound(problem, operator(problem), inputs))
        del inputs
    counted(flow_call(device))


def kernel_name(demangled: str) -> str:
    """tiles_kernel, of stnls::(anonymous namespace)::tiles_kernel<7, true>(...)."""
    bare = re.sub(r"\(anonymous namespace\)|<unnamed>", "", demangled.removeprefix("void "))
    return re.split(r"[<(]", bare)[0].split("::")[-1]


def read_counts(path: Path) -> list[list[dict[str, float | str]]]:
    """By problem, its kernels in the order of their launches."""
    lines = [line for line in path.read_text().splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))[1:]  # the first has the units
    found: list[list[dict[str, float | str]]] = [[]]
    for row in rows:
        name = kernel_name(row["Kernel Name"])
        if name == MARK:
            found.append([])
            continue
        numbers = {
            told: float(row[metric].replace(",", "")) for metric, told in (SUMS | SHARES).items()
        }
        found[-1].append({"kernel": name, **numbers})
    return found[:-1]


def added_up(kernels: list[dict[str, float | str]]) -> list[dict[str, float | str]]:
    """Those of one name together."""
    names = dict.fromkeys(str(kernel["kernel"]) for kernel in kernels)
    rows: list[dict[str, float | str]] = []
    for name in names:
        same = [kernel for kernel in kernels if kernel["kernel"] == name]
        times = [float(kernel["nanoseconds"]) for kernel in same]
        row: dict[str, float | str] = {"kernel": name, "calls": len(same)}
        row |= {told: sum(float(kernel[told]) for kernel in same) for told in SUMS.values()}
        for told in SHARES.values():
            weighted = (float(k[told]) * t for k, t in zip(same, times, strict=True))
            row[told] = round(sum(weighted) / sum(times), 1)
        rows.append(row)
    return rows


def refusal(ncu: str, target: Path | None) -> str | None:
    """What is missing here, before anything is counted."""
    if target is not None and not target.absolute().parent.is_dir():
        return f"--json: there is no folder {target.parent}"
    if shutil.which(ncu) is None:
        return f"{ncu} was not found: install Nsight Compute, or name its ncu with --ncu"
    if not torch.cuda.is_available():
        return f"no CUDA device is available to PyTorch {torch.__version__}; see `stnls doctor`"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ncu", default="ncu")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive()
        return
    missing = refusal(options.ncu, options.json)
    if missing is not None:
        sys.exit(f"counters.py: {missing}")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        command = [options.ncu, "--csv", "--page", "raw", "--print-units", "base"]
        command += ["--clock-control", "none", "--profile-from-start", "off"]
        command += ["--kernel-name-base", "demangled", "--kernel-name", f"regex:stnls::|{MARK}"]
        command += ["--metrics", ",".join(SUMS | SHARES), "--log-file", str(log)]
        ended = subprocess.run([*command, sys.executable, __file__, "--drive"], check=False)
        if ended.returncode != 0:
            print(log.read_text()[-2000:] if log.exists() else "", file=sys.stderr)
            sys.exit(ended.returncode)
        counts = read_counts(log)
    names = [name for name, _ in chosen()] + ["TV-L1, 16 pairs"]
    problems_found = dict(zip(names, map(added_up, counts), strict=True))
    shares = list(SHARES.values())
    print("| problem | kernel | calls | ms | M instructions | MB | " + " | ".join(shares) + " |")
    print("|" + "---|" * (6 + len(shares)))
    for name, kernels in problems_found.items():
        for k in kernels:
            cells = [name, k["kernel"], k["calls"], f"{float(k['nanoseconds']) / 1e6:.3f}"]
            cells += [f"{float(k['instructions']) / 1e6:.0f}", f"{float(k['bytes']) / 1e6:.0f}"]
            print("| " + " | ".join(map(str, [*cells, *(k[told] for told in shares)])) + " |")
    if options.json is not None:
        machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__.split("+")[0]}
        date = datetime.date.today().isoformat()
        text = json.dumps({**machine, "date": date, "problems": problems_found}, indent=1)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
