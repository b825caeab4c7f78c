"""What this installation has and lacks; nothing that is missing makes the examination fail."""

from __future__ import annotations

from collections.abc import Callable

from stnls_cli.doctor import cuda, kernels, opencv, packages
from stnls_cli.doctor.fact import Fact, one_line

CHECKS: dict[str, Callable[[], Fact]] = {
    "stnls": packages.check_stnls,
    "python": packages.check_python,
    "torch": packages.check_torch,
    "numpy": packages.check_numpy,
    "kornia": packages.check_kornia,
    "rich": packages.check_rich,
    "page": packages.check_page,
    "av": packages.check_av,
    "ffmpeg": packages.check_ffmpeg,
    "opencv": opencv.check_opencv,
    "libgl": opencv.check_libgl,
    "tvl1": opencv.check_tvl1,
    "cpu": kernels.check_cpu,
    "isa": kernels.check_isa,
    "threads": kernels.check_threads,
    "nvcc": cuda.check_nvcc,
    "cuda-kernels": cuda.check_cuda_kernels,
    "gpu": cuda.check_gpu,
    "cuda": cuda.check_cuda,
}
"""By the name that `stnls doctor --require` takes, each after what it rests on."""


def examine() -> dict[str, Fact]:
    """Every fact by its name, in the order of CHECKS."""
    return {name: _examine_one(check) for name, check in CHECKS.items()}


def _examine_one(check: Callable[[], Fact]) -> Fact:
    """A check that fails in a way nobody thought of is a finding, not the end of the doctor."""
    try:
        return check()
    except Exception as error:
        return Fact("problem", f"cannot be looked at: {one_line(error)}")
