"""The GPUs of this machine, as torch sees them or, where torch cannot, the driver."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


def torch_gpus(torch: Any) -> list[Gpu]:
    """What torch can compute on, in the order of its device numbers."""
    if not torch.cuda.is_available():
        return []
    return [
        Gpu(torch.cuda.get_device_name(i), tuple(torch.cuda.get_device_capability(i)))
        for i in range(torch.cuda.device_count())
    ]


def driver_gpus() -> list[Gpu]:
    """What the driver's nvidia-smi lists; none without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "--query-gpu=name,compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = re.findall(r"^(.+?),\s*(\d+)\.(\d+)\s*$", done.stdout, re.MULTILINE)
    return [Gpu(name, (int(major), int(minor))) for name, major, minor in found]
