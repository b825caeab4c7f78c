"""Where and with what the figures were measured."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch


def machine_of(device: torch.device) -> str:
    """The GPU's name, or the processor with threads and instruction set of the kernels."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    from stnls import _native

    threads = torch.get_num_threads()
    words = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{_processor()}, {words}, {_native.cpu_isa()}"


def load_of_machine() -> float | None:
    """Processes that ran or waited to run in the last minute, on average; None if unknown."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions(device: torch.device) -> dict[str, Any]:
    """Of what the figures depend on."""
    import stnls

    found: dict[str, Any] = {
        "stnls": stnls.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        from stnls import _native

        build = _native.cuda_build()
        found["cuda_toolkit"] = None if build is None else build.toolkit
        found["cuda_architectures"] = None if build is None else build.architectures
    return found


def free_memory(device: torch.device) -> int | None:
    """Bytes that a problem may take, or None where that is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + int(kept)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or os.name
