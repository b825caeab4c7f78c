"""What every test may use: the shared data, and the marks that need hardware."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """Folder of the footage and golden outputs that are not part of the repository."""
    return Path(os.environ.get("STNLS_SHARED", ROOT.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` skip, and are seen to skip, where there is no CUDA device.

    STNLS_EVERY=8 keeps every eighth test: for tools that make each a hundred times slower.
    """
    items[:] = items[:: int(os.environ.get("STNLS_EVERY", "1"))]
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _cuda_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _cuda_available() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set STNLS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
