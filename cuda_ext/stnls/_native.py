"""The compiled kernels: where they are, which of them fit this machine, and how they are called.

The libraries are plain C behind ctypes, built without torch and without Python: one for each
instruction set of the CPU, and one for CUDA. They are opened at the first call.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from stnls._errors import StnlsLibraryError, StnlsMemoryError, StnlsRuntimeError

_I64 = ctypes.c_int64
_PTR = ctypes.c_void_p

CPU_ISAS = ("baseline", "avx2", "avx512")

REBUILD = "reinstall stnls with a C++ compiler on the PATH (pip install --force-reinstall .)"


class SearchProblem(ctypes.Structure):
    """Mirror of csrc/search/problem.h: every field is eight bytes wide."""

    _fields_ = (
        *((name, _PTR) for name in ("query", "key", "flow", "prior", "dists", "inds", "source")),
        ("query_stride", _I64 * 5),
        ("key_stride", _I64 * 5),
        *(
            (name, _I64)
            for name in (
                *("batch", "heads", "frames", "channels"),
                *("query_height", "query_width", "height", "width"),
                *("grid_height", "grid_width", "flow_heads", "flow_slots"),
                *("prior_entries", "windows"),
                *("wt", "first_slot", "ws", "ps", "patch_offset", "dilation"),
                *("stride0", "stride_query", "offset_height", "offset_width"),
                *("k", "keep", "self_action", "reflect_bounds", "full_window", "product"),
                *("float_grid", "dtype", "components"),
            )
        ),
        ("stride1", ctypes.c_double),
        ("charge", ctypes.c_double),
        ("scratch", _PTR),
    )


class SearchGradProblem(ctypes.Structure):
    """Mirror of SearchGradProblem in csrc/search/problem.h."""

    _fields_ = (
        ("search", SearchProblem),
        *(
            (name, _PTR)
            for name in (
                *("grad_dists", "grad_inds", "grad_query", "grad_key", "grad_flow", "grad_prior"),
                *("fixed_query", "fixed_key", "fixed_scale"),
            )
        ),
        ("grad_query_stride", _I64 * 5),
        ("grad_key_stride", _I64 * 5),
        ("k_agg", _I64),
        ("scratch", _PTR),
    )


class FlowProblem(ctypes.Structure):
    """Mirror of FlowProblem in csrc/flow/problem.h."""

    _fields_ = (
        *((name, _PTR) for name in ("forward", "backward", "out")),
        *(
            (name, _I64)
            for name in (
                *("batch", "frames", "height", "width", "grid_height", "grid_width"),
                *("wt", "slots", "stride0", "dtype"),
            )
        ),
    )


class ChainProblem(ctypes.Structure):
    """Mirror of ChainProblem in csrc/flow/problem.h."""

    _fields_ = (
        *((name, _PTR) for name in ("steps", "out")),
        *(
            (name, _I64)
            for name in (
                *("batch", "frames", "height", "width", "grid_height", "grid_width"),
                *("stride0", "dtype"),
            )
        ),
    )


class FlowGradProblem(ctypes.Structure):
    """Mirror of FlowGradProblem in csrc/flow/problem.h."""

    _fields_ = (
        ("flow", FlowProblem),
        *(
            (name, _PTR)
            for name in (
                *("grad_out", "grad_forward", "grad_backward"),
                *("fixed_forward", "fixed_backward", "fixed_scale"),
            )
        ),
    )


class ChainGradProblem(ctypes.Structure):
    """Mirror of ChainGradProblem in csrc/flow/problem.h."""

    _fields_ = (
        ("chain", ChainProblem),
        *((name, _PTR) for name in ("grad_out", "grad_steps", "fixed_steps", "fixed_scale")),
    )


class PatchProblem(ctypes.Structure):
    """Mirror of csrc/aggregate/problem.h."""

    _fields_ = (
        *(
            (name, _PTR)
            for name in (
                *("video", "own", "weights", "inds", "grad_weights", "grad_inds"),
                *("fixed_video", "fixed_scale"),
            )
        ),
        ("video_stride", _I64 * 5),
        ("own_stride", _I64 * 5),
        *(
            (name, _I64)
            for name in (
                "own_entry_stride",
                *("batch", "heads", "frames", "channels", "height", "width"),
                *("grid_height", "grid_width", "k", "ps", "patch_offset", "dilation"),
                *("stride0", "reflect_bounds", "float_grid", "dtype", "stacked", "normalize"),
            )
        ),
    )


class PackedPatchProblem(ctypes.Structure):
    """Mirror of csrc/aggregate/packed_cuda.h."""

    _fields_ = (
        ("patch", PatchProblem),
        ("grad_video", _PTR),
        ("grad_video_stride", _I64 * 5),
        *((name, _I64) for name in ("divide_own", "mirrors_own", "components")),
        ("scratch", _PTR),
    )


class BlendProblem(ctypes.Structure):
    """Mirror of csrc/aggregate/blend.h."""

    _fields_ = (
        *((name, _PTR) for name in ("video", "offset", "weight", "out")),
        *((name, _I64) for name in ("batch", "channels", "height", "width", "ps", "dtype")),
    )


class Tvl1Problem(ctypes.Structure):
    """Mirror of csrc/flow/tvl1.h."""

    _fields_ = (
        *((name, _PTR) for name in ("frame0", "frame1", "start", "flow")),
        *(
            (name, _I64)
            for name in ("batch", "height", "width", "warps", "outer", "inner", "median")
        ),
        *((name, ctypes.c_double) for name in ("tau", "lambda_", "theta", "epsilon")),
        ("scratch", _PTR),
    )


class SubpixelProblem(ctypes.Structure):
    """Mirror of csrc/search/subpixel.h."""

    _fields_ = (
        *((name, _PTR) for name in ("query", "key", "offsets", "moved")),
        *((name, _I64) for name in ("query_stride", "batch", "channels", "height", "width")),
        *((name, _I64) for name in ("ps", "dtype")),
        ("stride1", ctypes.c_double),
    )


class SubpixelSearchProblem(ctypes.Structure):
    """Mirror of SubpixelSearchProblem in csrc/search/subpixel.h."""

    _fields_ = (("search", SearchProblem), ("moved", _PTR))


class SsimProblem(ctypes.Structure):
    """Mirror of csrc/metrics/ssim.h."""

    _fields_ = (
        *((name, _PTR) for name in ("reference", "frames", "out")),
        *((name, _I64) for name in ("count", "references")),
        *((name, _I64) for name in ("channels", "height", "width", "bands")),
        ("taps", ctypes.c_float * 12),
        *((name, ctypes.c_float) for name in ("middle", "c1", "c2")),
    )


class MeanErrorsProblem(ctypes.Structure):
    """Mirror of csrc/metrics/mean_errors.h."""

    _fields_ = (
        *((name, _PTR) for name in ("reference", "frames", "out")),
        *((name, _I64) for name in ("count", "references", "size", "parts")),
    )


# In the order of stnls_*_struct_size.
_STRUCTURES = (
    *(SearchProblem, FlowProblem, ChainProblem, PatchProblem),
    *(SearchGradProblem, FlowGradProblem, ChainGradProblem, BlendProblem),
    *(Tvl1Problem, SubpixelProblem, SsimProblem, MeanErrorsProblem),
    SubpixelSearchProblem,
)
_FUNCTIONS = (
    *("search", "search_gradient", "compose_slots", "compose_slots_gradient"),
    *("compose_chain", "compose_chain_gradient", "patch_sum", "patch_scatter", "patch_dot"),
    *("patch_blend", "subpixel", "ssim", "mean_errors", "tvl1"),
)


def library_folders() -> list[Path]:
    """Folders that may hold the compiled libraries, for wheels and editable installs alike."""
    folders: list[Path] = []
    if "STNLS_LIBRARY_DIR" in os.environ:
        folders.append(Path(os.environ["STNLS_LIBRARY_DIR"]))
    package = sys.modules["stnls"]
    folders += [Path(path) / "_lib" for path in package.__path__]
    with contextlib.suppress(metadata.PackageNotFoundError):  # a source tree, not installed
        folders.append(Path(str(metadata.distribution("stnls").locate_file("stnls/_lib"))))
    return list(dict.fromkeys(folders))


def _file_name(name: str) -> str:
    return f"libstnls_{name}.dylib" if sys.platform == "darwin" else f"libstnls_{name}.so"


def find_library(name: str) -> Path | None:
    """Path of a compiled library ("baseline", "avx2", "avx512", "cuda"), or None if not built."""
    for folder in library_folders():
        path = folder / _file_name(name)
        if path.is_file():
            return path
    return None


def _open(name: str) -> ctypes.CDLL | None:
    path = find_library(name)
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise StnlsLibraryError(f"cannot load {path}: {error}; {REBUILD}") from error
    backend = "cuda" if name == "cuda" else "cpu"
    size = getattr(library, f"stnls_{backend}_struct_size")
    size.restype = _I64
    for which, structure in enumerate(_STRUCTURES):
        if size(which) != ctypes.sizeof(structure):
            raise StnlsLibraryError(
                f"{path} does not belong to this version of stnls: {structure.__name__} has "
                f"{size(which)} bytes there and {ctypes.sizeof(structure)} here; {REBUILD}"
            )
    return library


@functools.cache
def cpu_isa() -> str:
    """Instruction set of the CPU kernels in use: the best that was built and that runs here.

    The environment variable STNLS_CPU_ISA asks for a certain one.
    """
    baseline = _open("baseline")
    if baseline is None:
        folders = ", ".join(str(folder) for folder in library_folders())
        raise StnlsLibraryError(f"the CPU kernels are not built (looked in {folders}); {REBUILD}")
    baseline.stnls_cpu_best_isa.restype = ctypes.c_char_p
    best = CPU_ISAS.index(baseline.stnls_cpu_best_isa().decode())
    runnable = [isa for isa in CPU_ISAS[: best + 1] if find_library(isa) is not None]
    wanted = os.environ.get("STNLS_CPU_ISA")
    if wanted is None:
        return runnable[-1]
    if wanted not in runnable:
        raise StnlsLibraryError(
            f"STNLS_CPU_ISA={wanted} is not available; here there are: {', '.join(runnable)}"
        )
    return wanted


@functools.cache
def cpu_library() -> ctypes.CDLL:
    """The CPU kernels for `cpu_isa()`."""
    library = _open(cpu_isa())
    assert library is not None  # cpu_isa names only libraries that are there
    for function in _FUNCTIONS:
        getattr(library, f"stnls_cpu_{function}").argtypes = (_PTR, _I64)
    for function in ("search", "subpixel_search"):
        getattr(library, f"stnls_cpu_{function}").argtypes = (_PTR, _I64, ctypes.c_int)
    return library


@functools.cache
def cuda_library() -> ctypes.CDLL:
    """The CUDA kernels; StnlsLibraryError if they were not built."""
    library = _open("cuda")
    if library is None:
        raise StnlsLibraryError(
            "the CUDA kernels are not built: install the CUDA toolkit (nvcc) and reinstall with "
            "STNLS_CUDA=ON, or move the tensors to the CPU"
        )
    for function in (*_FUNCTIONS, "patch_packed_sum", "patch_packed_gradient"):
        arguments = (_PTR, ctypes.c_int, _PTR, ctypes.c_char_p, _I64)
        getattr(library, f"stnls_cuda_{function}").argtypes = arguments
    for function in ("search_scratch", "search_gradient_scratch", "tvl1_scratch"):
        getattr(library, f"stnls_cuda_{function}").argtypes = (_PTR,)
        getattr(library, f"stnls_cuda_{function}").restype = _I64
    library.stnls_cuda_patch_packed_scratch.argtypes = (_PTR, _I64)
    library.stnls_cuda_patch_packed_scratch.restype = _I64
    return library


class CudaBuild(NamedTuple):
    """How the CUDA kernels were compiled."""

    toolkit: str
    architectures: str


def cuda_build() -> CudaBuild | None:
    """Toolkit and architectures of the CUDA kernels, or None if they were not built."""
    if find_library("cuda") is None:
        return None
    library = cuda_library()
    library.stnls_cuda_architectures.restype = ctypes.c_char_p
    version = library.stnls_cuda_version()
    return CudaBuild(
        f"{version // 1000}.{version % 1000 // 10}", library.stnls_cuda_architectures().decode()
    )


def i64_array(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    """Five strides for a structure."""
    return (_I64 * 5)(*values)


_STATUS = {1: "out of memory", 2: "an unexpected C++ exception"}


def call_cpu(function: str, problem: ctypes.Structure, threads: int, *more: int) -> None:
    """Runs a CPU kernel; StnlsRuntimeError or StnlsMemoryError if it fails."""
    status = getattr(cpu_library(), function)(ctypes.byref(problem), threads, *more)
    if status == 1:
        raise StnlsMemoryError(f"{function}: not enough memory for its scratch space")
    if status != 0:
        raise StnlsRuntimeError(f"{function} failed: {_STATUS.get(status, status)}")


def cuda_search_scratch(problem: SearchProblem) -> int:
    """32-bit words of scratch memory that a search on the GPU wants."""
    return int(cuda_library().stnls_cuda_search_scratch(ctypes.byref(problem)))


def cuda_search_gradient_scratch(problem: SearchGradProblem) -> int:
    """Floats of scratch memory for the gradient of a search on the GPU; 0: none is needed."""
    return int(cuda_library().stnls_cuda_search_gradient_scratch(ctypes.byref(problem)))


def cuda_tvl1_scratch(problem: Tvl1Problem) -> int:
    """Floats of scratch memory that a scale of TV-L1 on the GPU takes."""
    return int(cuda_library().stnls_cuda_tvl1_scratch(ctypes.byref(problem)))


def cuda_patch_packed_scratch(problem: PackedPatchProblem, copies: int) -> int:
    """Floats of scratch memory for packed copies of a video on the GPU; 0: not in this form."""
    return int(cuda_library().stnls_cuda_patch_packed_scratch(ctypes.byref(problem), copies))


class _Message(threading.local):
    """Room for what the CUDA library says about an error, for each thread."""

    def __init__(self) -> None:
        self.text = ctypes.create_string_buffer(256)


_message = _Message()


def call_cuda(function: str, problem: ctypes.Structure, device: int, stream: int) -> None:
    """Launches a CUDA kernel on a device and stream; StnlsRuntimeError if the launch fails."""
    message = _message.text
    status = getattr(cuda_library(), function)(
        ctypes.byref(problem), device, stream, message, len(message)
    )
    if status != 0:
        raise StnlsRuntimeError(f"{function} failed on cuda:{device}: {message.value.decode()}")
