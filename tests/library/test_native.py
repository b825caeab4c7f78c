"""The compiled libraries: where they are found, and what is said when they do not fit."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import stnls
import torch
from compare import assert_same_bits, noise
from stnls import _native


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Forgets the opened libraries, now and after the test."""

    def clear() -> None:
        for function in (_native.cpu_isa, _native.cpu_library, _native.cuda_library):
            function.cache_clear()

    clear()
    yield clear
    clear()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forget: Callable[[], None]) -> Path:
    """An empty folder, the only one where libraries are looked for."""
    monkeypatch.setattr(_native, "library_folders", lambda: [tmp_path])
    return tmp_path


def compiled(name: str) -> Path:
    path = _native.find_library(name)
    assert path is not None
    return path


def test_every_instruction_set_of_this_architecture_is_there() -> None:
    built = [isa for isa in _native.CPU_ISAS if _native.find_library(isa) is not None]
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    assert built == (list(_native.CPU_ISAS) if x86 else ["baseline"])
    assert _native.cpu_isa() in built


def test_the_folder_of_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = compiled("baseline")
    monkeypatch.setenv("STNLS_LIBRARY_DIR", str(tmp_path))
    found = _native.find_library("baseline")
    assert found is None or found.parent != tmp_path  # elsewhere, while the folder is empty
    shutil.copy(usual, tmp_path)
    assert compiled("baseline") == tmp_path / usual.name


def test_wheels_hold_the_libraries_beside_the_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_installed(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    usual = compiled("baseline")
    monkeypatch.delenv("STNLS_LIBRARY_DIR", raising=False)
    monkeypatch.setattr(_native.metadata, "distribution", not_installed)
    monkeypatch.setitem(sys.modules, "stnls", SimpleNamespace(__path__=[str(tmp_path)]))
    assert _native.find_library("baseline") is None
    (tmp_path / "_lib").mkdir()
    shutil.copy(usual, tmp_path / "_lib")
    assert compiled("baseline") == tmp_path / "_lib" / usual.name


def test_editable_installs_hold_the_libraries_where_the_distribution_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = compiled("baseline")
    site = tmp_path / "site"
    (site / "stnls" / "_lib").mkdir(parents=True)
    distribution = SimpleNamespace(locate_file=lambda path: site / path)
    monkeypatch.delenv("STNLS_LIBRARY_DIR", raising=False)
    monkeypatch.setattr(_native.metadata, "distribution", lambda name: distribution)
    monkeypatch.setitem(sys.modules, "stnls", SimpleNamespace(__path__=[str(tmp_path / "src")]))
    assert _native.find_library("baseline") is None
    shutil.copy(usual, site / "stnls" / "_lib")
    assert compiled("baseline") == site / "stnls" / "_lib" / usual.name


def test_no_kernels_at_all(nowhere: Path) -> None:
    video = torch.zeros(1, 1, 1, 4, 4)
    with pytest.raises(stnls.StnlsLibraryError) as caught:
        stnls.search.NonLocalSearch(3, 0)(video, video)
    assert f"the CPU kernels are not built (looked in {nowhere})" in str(caught.value)
    assert "reinstall stnls" in str(caught.value)


def test_a_file_that_is_no_library(nowhere: Path) -> None:
    (nowhere / _native._file_name("baseline")).write_bytes(b"not a library")
    with pytest.raises(stnls.StnlsLibraryError, match=r"cannot load .*; reinstall stnls"):
        _native.cpu_isa()


def test_kernels_of_another_version_are_noticed(
    monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    class FlowProblem(_native.FlowProblem):
        _fields_ = (("one_more", ctypes.c_int64),)

    first, _, *others = _native._STRUCTURES
    monkeypatch.setattr(_native, "_STRUCTURES", (first, FlowProblem, *others))
    size = ctypes.sizeof(_native.FlowProblem)
    message = f"does not belong to this version .*: FlowProblem has {size} bytes .* {size + 8} here"
    with pytest.raises(stnls.StnlsLibraryError, match=message):
        _native.cpu_isa()


def test_structures_have_the_sizes_that_the_kernels_know() -> None:
    library = _native.cpu_library()
    for which, structure in enumerate(_native._STRUCTURES):
        assert library.stnls_cpu_struct_size(which) == ctypes.sizeof(structure)
    assert library.stnls_cpu_struct_size(len(_native._STRUCTURES)) == -1


def test_an_instruction_set_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    monkeypatch.setenv("STNLS_CPU_ISA", "sse9")
    with pytest.raises(
        stnls.StnlsLibraryError, match=r"STNLS_CPU_ISA=sse9 is not available.*: baseline"
    ):
        _native.cpu_isa()


def test_an_instruction_set_that_was_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forget: Callable[[], None]
) -> None:
    shutil.copy(compiled("baseline"), tmp_path)
    monkeypatch.setattr(_native, "library_folders", lambda: [tmp_path])
    monkeypatch.setenv("STNLS_CPU_ISA", "avx2")
    with pytest.raises(stnls.StnlsLibraryError, match=r"here there are: baseline$"):
        _native.cpu_isa()
    monkeypatch.delenv("STNLS_CPU_ISA")
    assert _native.cpu_isa() == "baseline"


def test_no_cuda_kernels(nowhere: Path) -> None:
    assert _native.cuda_build() is None
    with pytest.raises(
        stnls.StnlsLibraryError,
        match=r"the CUDA kernels are not built: install the CUDA toolkit .*STNLS_CUDA=ON, or move",
    ):
        _native.cuda_library()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (1, stnls.StnlsMemoryError, "not enough memory"),
        (2, stnls.StnlsRuntimeError, "an unexpected C"),
        (9, stnls.StnlsRuntimeError, "stnls_cpu_search failed: 9"),
    ],
)
def test_a_cpu_kernel_that_fails(
    monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception], message: str
) -> None:
    library = SimpleNamespace(stnls_cpu_search=lambda *_: status)
    monkeypatch.setattr(_native, "cpu_library", lambda: library)
    video = torch.zeros(1, 1, 1, 4, 4)
    with pytest.raises(error, match=message) as raised:
        stnls.search.NonLocalSearch(3, 0)(video, video)
    assert isinstance(raised.value, (MemoryError, RuntimeError))


def test_a_cuda_kernel_that_does_not_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(problem: object, device: int, stream: int, text: ctypes.Array, size: int) -> int:
        text.value = b"cudaErrorNoKernelImageForDevice: no kernel image"
        return 3

    library = SimpleNamespace(stnls_cuda_search=launch)
    monkeypatch.setattr(_native, "cuda_library", lambda: library)
    with pytest.raises(stnls.StnlsRuntimeError, match="failed on cuda:1: cudaErrorNoKernelImage"):
        _native.call_cuda("stnls_cuda_search", _native.SearchProblem(), 1, 0)


VIDEO, FLOW = noise(1, 3, 2, 6, 7), noise(1, 3, 2, 2, 6, 7)
BY_HEAD = VIDEO.unflatten(2, (2, 1)).transpose(1, 2)
TAIL = ("l2", 1, True, True, False, 0, 0)
WEIGHTS, INDS = noise(1, 2, 3, 6, 7, 4), noise(1, 2, 3, 6, 7, 4, 3)
OPERATORS = [
    ("search", (BY_HEAD, BY_HEAD, None, 3, 1, 3, 4, "all", "none", 0, 1, 1.0, 0.5, 1, *TAIL)),
    (
        "search",
        (BY_HEAD, BY_HEAD, FLOW[:, None], 3, 1, 3, 2, "each", "none", 1, 1, 0.5, 0.0, 1, *TAIL),
    ),
    ("search", (BY_HEAD, BY_HEAD, None, 3, 1, 1, 0, "every", "remove", 0, 2, 1.0, 0.0, 2, *TAIL)),
    ("compose_slots", (FLOW[:, :, 0], FLOW[:, :, 1], 1, 2, 2)),
    ("compose_chain", (FLOW[:, :, 0], 1)),
    ("patch_sum", (BY_HEAD, WEIGHTS, INDS, 3, 1, 1, True, False, True, False, True, True)),
    ("patch_sum", (BY_HEAD, WEIGHTS, INDS.int(), 3, 1, 1, True, False, False, True, True, False)),
]


def complete(name: str, arguments: tuple[object, ...], float_grid: bool) -> tuple[object, ...]:
    return (*arguments, float_grid, True, -1, False) if name == "search" else arguments


@pytest.mark.parametrize(("name", "arguments"), OPERATORS)
@pytest.mark.parametrize("float_grid", [True, False])
def test_operators_are_what_pytorch_expects(
    name: str, arguments: tuple[object, ...], float_grid: bool
) -> None:
    operator = getattr(torch.ops.stnls, name)
    torch.library.opcheck(
        operator.default,
        complete(name, arguments, float_grid),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize(("name", "arguments"), OPERATORS)
def test_meta_tensors_have_the_shapes_of_real_ones(
    name: str, arguments: tuple[object, ...]
) -> None:
    operator = getattr(torch.ops.stnls, name)
    arguments = complete(name, arguments, True)
    there = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]
    real, meta = (
        result if isinstance(result, tuple) else (result,)
        for result in (operator(*arguments), operator(*there))
    )
    for a, b in zip(real, meta, strict=True):
        assert b.is_meta
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


def test_modules_take_meta_tensors() -> None:
    video = torch.empty(1, 3, 4, 8, 9, device="meta")
    dists, inds = stnls.search.NonLocalSearch(3, 1, 3, 5, nheads=2)(video, video)
    out = stnls.agg.WeightedPatchSum(3, 1)(video, dists, inds)
    assert (dists.shape, inds.shape) == ((1, 2, 3, 8, 9, 5), (1, 2, 3, 8, 9, 5, 3))
    assert out.shape == video.shape


def test_results_do_not_depend_on_when_the_library_is_opened(forget: Callable[[], None]) -> None:
    search = stnls.search.NonLocalSearch(3, 1, 3, 2)
    before = search(VIDEO, VIDEO)
    forget()
    assert_same_bits(before, search(VIDEO, VIDEO))


def test_printing_a_search_names_its_parameters() -> None:
    assert "ws=5, wt=2, ps=3, k=10" in repr(stnls.search.NonLocalSearch(5, 2, 3, 10))
    assert "stride0=4" in repr(stnls.search.PairedSearch(5, 3, 10))
    assert "ps=3, stride0=1" in repr(stnls.agg.WeightedPatchSum(3, 1))
    for kind in (stnls.agg.NonLocalGatherAdd, stnls.agg.NonLocalScatterAdd):
        shown = repr(kind(3, 2, 2, outH=8))
        assert "(ps=3, strideIn=2, strideOut=2, outH=8, outW=0, dilation=1, " in shown
        assert "stride0" not in shown
