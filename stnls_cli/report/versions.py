"""Versions of what a run was computed with, read from the installed metadata, importing nothing."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES: dict[str, tuple[str, ...]] = {
    "stnls": ("stnls",),
    "torch": ("torch",),
    "numpy": ("numpy",),
    "av": ("av",),
    # All four install the same module, `cv2`; two of them at once are a fault `doctor` finds.
    "opencv": (
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
        "opencv-python",
        "opencv-python-headless",
    ),
    "kornia": ("kornia",),
}


def tool_versions() -> dict[str, str | None]:
    """Name to version, `None` where it is not installed; `python` is the interpreter's."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, distributions in _PACKAGES.items():
        found[name] = next((v for d in distributions if (v := _version(d)) is not None), None)
    return found


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
