"""Devices for the library's tests, whose helpers (`reference`, `golden`, ...) import by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> str:
    """Every device that the kernels serve; skips visibly where it is not there."""
    name: str = request.param
    if name == "cuda":
        need_cuda()
    return name


@pytest.fixture
def cuda() -> str:
    need_cuda()
    return "cuda"


def need_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


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
