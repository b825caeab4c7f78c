"""CUDA: the compiler, the kernels that were built, the GPUs, and whether all that fits together."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from typing import Any

from stnls_cli.architectures import serves
from stnls_cli.doctor.fact import Fact
from stnls_cli.doctor.gpus import Gpu, driver_gpus, torch_gpus
from stnls_cli.doctor.kernels import native


def rebuild() -> str | None:
    """What brings the CUDA kernels; None where there is no GPU to use them."""
    if not _present_gpus():
        return None
    again = "reinstall stnls with STNLS_CUDA=ON"
    return again if find_nvcc() is not None else f"install the CUDA toolkit and {again}"


def check_nvcc() -> Fact:
    """The CUDA compiler that a build would take."""
    path = find_nvcc()
    if path is None:
        name = os.environ.get("CUDACXX", "nvcc")
        return Fact("missing", f"{name} was not found; only building the CUDA kernels needs it")
    version = _nvcc_version(path)
    details = {"path": path, "version": version}
    if version is None:
        return Fact("problem", f"{path} does not run", "set CUDACXX to the path of nvcc", details)
    return Fact("ok", f"CUDA {version} at {path}", details=details)


def check_cuda_kernels() -> Fact:
    """The CUDA library: toolkit and architectures that it was compiled with."""
    kernels = native()
    path = kernels.find_library("cuda")
    if path is None:
        unused = "" if _present_gpus() else "; there is no GPU here to use them"
        return Fact("missing", f"not built{unused}", rebuild())
    build = kernels.cuda_build()
    details = {
        "path": str(path),
        "toolkit": build.toolkit,
        "architectures": build.architectures.split(),
    }
    summary = f"CUDA {build.toolkit} for architectures {build.architectures}, {path}"
    return Fact("ok", summary, details=details)


def check_gpu() -> Fact:
    """The GPUs, and whether the kernels were built for them."""
    gpus = _usable_gpus()
    seen = _present_gpus()
    if not seen:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f" (CUDA_VISIBLE_DEVICES={hidden})" if hidden is not None else ""
        return Fact("missing", f"none found{why}", details={"gpus": []})
    architectures = _architectures()
    listed = [
        {"name": gpu.name, "capability": list(gpu.capability), "served": _served(gpu)}
        for gpu in seen
    ]
    details = {"gpus": listed}
    summary = ", ".join(str(gpu) for gpu in seen)
    if not gpus:
        return Fact("problem", f"{summary}: seen by the driver, not by torch", details=details)
    unserved = [str(gpu) for gpu in gpus if not _served(gpu)]
    if architectures is not None and unserved:
        why = f"{', '.join(unserved)}: the kernels were built for {architectures} only"
        return Fact("problem", why, _rebuild_for(gpus), details)
    return Fact("ok", summary, details=details)


def check_cuda() -> Fact:
    """Whether `--device cuda` works, and if not, the first thing in its way."""
    torch = _torch()
    if torch is None:
        return Fact("missing", "off: torch cannot be imported")
    if _architectures() is None:
        return Fact("missing", "off: the CUDA kernels are not built", rebuild())
    if torch.version.cuda is None:
        why = f"off: torch {torch.__version__} is built without CUDA"
        return Fact("missing", why, "install a CUDA build of torch, where there is a GPU")
    gpus = torch_gpus(torch)
    if not gpus:
        return Fact("missing", "off: torch sees no GPU")
    if not _served(gpus[0]):
        why = f"off: the kernels do not run on {gpus[0]}"
        return Fact("problem", why, _rebuild_for(gpus))
    return Fact("ok", f"on, with {sum(map(_served, gpus))} GPU(s)")


def find_nvcc() -> str | None:
    """Path of nvcc, looked for where cuda_ext/CMakeLists.txt looks."""
    name = os.environ.get("CUDACXX", "nvcc")
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    hints = os.pathsep.join(os.path.join(home, "bin") for home in homes)
    return (
        (shutil.which(name, path=hints) if hints else None)
        or shutil.which(name)
        or shutil.which(name, path="/usr/local/cuda/bin")
    )


def _nvcc_version(path: str) -> str | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"release (\d+\.\d+)", done.stdout)
    return match[1] if match else None


def _usable_gpus() -> list[Gpu]:
    """What torch can compute on."""
    torch = _torch()
    return [] if torch is None else torch_gpus(torch)


def _present_gpus() -> list[Gpu]:
    """The same, or else what the driver lists."""
    return _usable_gpus() or driver_gpus()


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except Exception:
        return None


def _architectures() -> str | None:
    try:
        build = native().cuda_build()
    except ImportError:
        return None
    return None if build is None else str(build.architectures)


def _served(gpu: Gpu) -> bool:
    architectures = _architectures()
    return architectures is not None and serves(architectures, gpu.capability)


def _rebuild_for(gpus: list[Gpu]) -> str:
    wanted = ";".join(dict.fromkeys(f"{gpu.capability[0]}{gpu.capability[1]}" for gpu in gpus))
    return f'reinstall stnls with STNLS_CUDA=ON STNLS_CUDA_ARCHITECTURES="{wanted}"'
