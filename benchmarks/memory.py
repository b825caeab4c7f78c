"""Peak memory: of the library forward and backward, and of the tool on a short and a long clip.

python benchmarks/memory.py [--device cpu|cuda] [--tool]

The library: alignment at 854x480, five frames, wt 2 (which the original cannot run), ws 9, ps 7,
three channels, K 1. "share" is the peak over the sum of inputs (both videos and the flow of four
slots) and outputs; 3 is the promise. The tool needs the shared footage: the first 30 and all 390
frames of one clip.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import stnls
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("STNLS_SHARED", ROOT.parent / "shared"))
MIB = 2**20


def inputs(device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames, height, width, wt = 5, 480, 854, 2
    videos = [255 * torch.rand(1, frames, 3, height, width, generator=generator) for _ in range(2)]
    flow = 3 * torch.randn(1, frames, 2 * wt, 2, 15, 27, generator=generator).flatten(0, 2)
    smooth = torch.nn.functional.interpolate(flow, (height, width), mode="bilinear")
    flows = smooth.unflatten(0, (1, frames, 2 * wt))
    return videos[0].to(device), videos[1].to(device), flows.to(device)


class Peak:
    """Bytes in use now, and the most since the start."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        self.start = torch.cuda.memory_allocated() if self.cuda else self._status("VmRSS")

    def above_start(self) -> int:
        top = torch.cuda.max_memory_allocated() if self.cuda else self._status("VmHWM")
        return int(top) - self.start

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def size(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def measure(device: str, itype: str) -> tuple[float, float, float]:
    """MiB of inputs, of outputs, and at the peak."""
    vid0, vid1, flows = inputs(device)
    given = size(vid0, vid1, flows)
    search = stnls.search.NonLocalSearch(9, 2, 7, 1, itype=itype)
    small = [x[..., :16, :16].clone() for x in (vid0, vid1)]
    search(*small, flows[..., :16, :16].contiguous())  # the kernels are loaded
    for x in (vid0, vid1, flows):
        x.requires_grad_(itype == "float" or x is not flows)
    peak = Peak(device)
    dists, inds = search(vid0, vid1, flows)
    made = size(dists, inds)
    dists.sum().backward()
    return given / MIB, made / MIB, (given + peak.above_start()) / MIB


def library(device: str) -> Table:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    table = Table("grid", "inputs MiB", "outputs MiB", "peak MiB", "share", title=name)
    for itype in ("int", "float"):
        # In a process of its own: memory that an earlier call freed would count as there already.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            given, made, peak = process.submit(measure, device, itype).result()
        table.add_row(
            itype, f"{given:.1f}", f"{made:.1f}", f"{peak:.1f}", f"{peak / (given + made):.2f}"
        )
    return table


def tool() -> Table:
    clip = next(SHARED.glob("data/**/torchcodec_nasa_13013.mp4"))
    table = Table("frames", "peak MB of all processes", title="stnls align --flow dis --wt 1")
    for frames in (30, 390):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "stnls_cli", "align", str(clip), "--flow", "dis"]
            command += ["--wt", "1", "--frames", str(frames), "-o", f"{folder}/out", "--quiet"]
            code = f"import subprocess, resource; subprocess.run({command!r}, check=True); " + (
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        table.add_row(str(frames), f"{int(done.stdout) * 1024 / 1e6:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tool", action="store_true", help="measure the tool as well")
    options = parser.parse_args()
    console = Console()
    console.print(library(options.device))
    if options.tool:
        console.print(tool())


if __name__ == "__main__":
    main()
