"""Where the search runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stnls_cli.architectures import serves
from stnls_cli.errors import UserError

if TYPE_CHECKING:
    import torch


def resolve_devices(name: str) -> list[torch.device]:
    """All the devices that `--device` names: every GPU that the kernels serve for "cuda", and for
    "auto" where it takes CUDA."""
    import torch

    first = resolve_device(name)
    if first.type != "cuda" or ":" in name:
        return [first]
    return [torch.device("cuda", number) for number in _served()]


def resolve_device(name: str) -> torch.device:
    """The device that `--device` names; "auto" takes CUDA where a GPU and kernels for it are there.
    Of several GPUs the current one is taken, or the first of the others that the kernels serve.
    UserError where it cannot be had, or where there are no kernels at all."""
    import torch
    from stnls import StnlsLibraryError, _native

    try:
        _native.cpu_isa()
    except StnlsLibraryError as error:
        raise UserError(str(error)) from None
    built = _native.find_library("cuda") is not None
    if name == "auto":
        if not (built and torch.cuda.is_available()):
            return torch.device("cpu")
        served = _served()
        return torch.device("cuda", served[0]) if served else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, separator, index = name.partition(":")
    if kind != "cuda" or (separator and not index.isdecimal()):
        raise UserError(f"--device must be auto, cpu, cuda or cuda:N, not {name!r}")
    if not torch.cuda.is_available():
        raise UserError(
            f"--device {name}: no CUDA device is available to PyTorch {torch.__version__}; "
            "use --device cpu, and see `stnls doctor`"
        )
    if not built:
        raise UserError(
            f"--device {name}: stnls was built without its CUDA kernels; reinstall it with nvcc on "
            "the PATH and STNLS_CUDA=ON, or use --device cpu"
        )
    count = torch.cuda.device_count()
    number = int(index) if index else next(iter(_served()), torch.cuda.current_device())
    if number >= count:
        raise UserError(f"--device {name}: there are {count} CUDA devices, numbered from 0")
    build = _native.cuda_build()
    capability = torch.cuda.get_device_capability(number)
    if build is not None and not serves(build.architectures, capability):
        raise UserError(
            f"--device {name}: the CUDA kernels were built for {build.architectures}, not for this "
            f"GPU (compute capability {capability[0]}.{capability[1]}); reinstall stnls here with "
            "STNLS_CUDA_ARCHITECTURES=native, or use --device cpu"
        )
    return torch.device("cuda", number)


def begin_with(name: str) -> None:
    """Makes a device ready for its first use, which takes a second. Raises UserError as
    `resolve_device` does."""
    import torch

    torch.empty(1, device=resolve_device(name))


def _served() -> list[int]:
    """The GPUs that the kernels were built for, the current one first."""
    import torch
    from stnls import _native

    build = _native.cuda_build()
    if build is None:
        return []
    current = torch.cuda.current_device()
    numbers = sorted(range(torch.cuda.device_count()), key=lambda number: number != current)
    return [
        number
        for number in numbers
        if serves(build.architectures, torch.cuda.get_device_capability(number))
    ]
