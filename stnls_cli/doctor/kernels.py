"""The compiled kernels of the CPU: what was built, what runs here, and on how many threads."""

from __future__ import annotations

import ctypes
import importlib
import os
from pathlib import Path
from typing import Any

from stnls_cli.cores import usable_cores
from stnls_cli.doctor.fact import Fact, one_line


def native() -> Any:
    """The library's module of compiled kernels; importing the library needs torch."""
    return importlib.import_module("stnls._native")


def check_cpu() -> Fact:
    """One library for each instruction set."""
    try:
        kernels = native()
    except Exception as error:
        return Fact("problem", f"the library cannot be imported: {one_line(error)}")
    built = _built(kernels)
    if "baseline" not in built:
        folders = ", ".join(str(folder) for folder in kernels.library_folders())
        return Fact("missing", f"not built (looked in {folders})", kernels.REBUILD)
    kernels.cpu_library()
    paths = {isa: str(path) for isa, path in built.items()}
    summary = f"kernels for {', '.join(built)} in {built['baseline'].parent}"
    return Fact("ok", summary, details={"libraries": paths})


def check_isa() -> Fact:
    """The instruction set in use, what the processor has, and what was built."""
    kernels = native()
    built = _built(kernels)
    if "baseline" not in built:
        return Fact("missing", "the CPU kernels are not built", kernels.REBUILD)
    supported = ctypes.CDLL(str(built["baseline"])).stnls_cpu_best_isa
    supported.restype = ctypes.c_char_p
    details = {
        "in_use": kernels.cpu_isa(),
        "supported": supported().decode(),
        "built": list(built),
    }
    asked = " as STNLS_CPU_ISA asks" if "STNLS_CPU_ISA" in os.environ else ""
    summary = (
        f"{details['in_use']} in use{asked} (the processor supports {details['supported']}; "
        f"built: {', '.join(built)})"
    )
    return Fact("ok", summary, details=details)


def check_threads() -> Fact:
    """Cores that this process may use, and the threads that each kernel takes."""
    cores = usable_cores()
    try:
        taken = importlib.import_module("torch").get_num_threads()
    except Exception:
        return Fact("ok", f"{cores} cores", details={"cores": cores, "torch": None})
    summary = f"{cores} cores; a kernel takes the number torch takes, {taken}"
    return Fact("ok", summary, details={"cores": cores, "torch": taken})


def _built(kernels: Any) -> dict[str, Path]:
    paths = {isa: kernels.find_library(isa) for isa in kernels.CPU_ISAS}
    return {isa: path for isa, path in paths.items() if path is not None}
