"""What computes: a digest that changes with the code and the kernels, where a version would not."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NO_RESULT = ("bench", "commands", "doctor", "flow_run", "page")
"""Packages of the tool that have no influence on a score."""


@functools.cache
def library_digest() -> str:
    """Of the library: its modules and its compiled kernels."""
    import stnls
    from stnls import _native

    names = (*_native.CPU_ISAS, "cuda")
    kernels = [path for name in names if (path := _native.find_library(name)) is not None]
    return _digest([*_modules(Path(stnls.__file__).parent), *kernels])


@functools.cache
def tool_digest() -> str:
    """Of the modules of the tool that have an influence on scores."""
    folder = Path(__file__).parent
    return _digest(
        path for path in _modules(folder) if path.relative_to(folder).parts[0] not in NO_RESULT
    )


def computed_by() -> dict[str, Any]:
    """Everything that scores are computed with but the flow: versions, and both digests."""
    from stnls_cli.report.versions import tool_versions

    # The interpreter has no influence, and the flow says by which OpenCV it is.
    versions = {k: v for k, v in tool_versions().items() if k not in ("python", "opencv")}
    return {**versions, "library": library_digest(), "tool": tool_digest()}


def _modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
