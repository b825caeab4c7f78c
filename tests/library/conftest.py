"""Devices for the library's tests, whose helpers (`reference`, `golden`, ...) import by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from stnls import _native

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> str:
    """Every device that the kernels serve."""
    name: str = request.param
    return name


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The tensors are too small for more; tests of threads ask for them."""
    torch.set_num_threads(1)


@pytest.fixture
def use_isa(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`use_isa(name)`: the CPU kernels of that instruction set, until the test ends."""
    functions = _native.cpu_isa, _native.cpu_library

    def forget() -> None:
        for function in functions:
            function.cache_clear()

    def use(isa: str) -> None:
        monkeypatch.delenv("STNLS_CPU_ISA", raising=False)
        forget()
        runnable = _native.CPU_ISAS[: _native.CPU_ISAS.index(_native.cpu_isa()) + 1]
        if isa not in runnable:
            pytest.skip(f"this processor has no {isa}")
        monkeypatch.setenv("STNLS_CPU_ISA", isa)
        forget()
        assert _native.cpu_isa() == isa

    yield use
    forget()
