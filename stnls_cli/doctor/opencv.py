"""OpenCV: the module, the system libraries it links to, and the flow that only contrib has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stnls_cli.doctor.fact import Fact, Status

if TYPE_CHECKING:
    from stnls_cli.flow.opencv import OpenCVStatus


def check_opencv() -> Fact:
    """The module cv2 and the wheels that claim it."""
    status = _status()
    details = {"version": status.version, "wheels": list(status.wheels)}
    if status.version is None:
        kind: Status = "problem" if status.wheels else "missing"
        return Fact(kind, str(status.problem), _remedy(status), details)
    wheels = ", ".join(status.wheels) or "not from a wheel"
    if len(status.wheels) > 1:
        summary = f"{status.version}, from wheels that overwrite one another: {wheels}"
        return Fact("problem", summary, _remedy(status), details)
    return Fact("ok", f"{status.version} ({wheels})", details=details)


def check_libgl() -> Fact:
    """The libraries of a screen, which opencv-contrib-python needs and the headless wheel not."""
    status = _status()
    if not status.system_libraries:
        return Fact("missing", str(status.problem), _remedy(status))
    if status.version is None:
        return Fact("missing", "not looked at, because OpenCV cannot be imported")
    headless = any("headless" in wheel for wheel in status.wheels)
    return Fact("ok", "not needed by the headless wheel" if headless else "found")


def check_tvl1() -> Fact:
    """OpenCV's TV-L1, which any other opencv wheel takes away when installed over contrib."""
    status = _status()
    name = "cv2.optflow.DualTVL1OpticalFlow_create"
    if status.tvl1:
        return Fact("ok", f"{name} is there, for --flow tvl1-opencv and tvl1-paper")
    summary = f"{status.problem} (--flow tvl1, the default, does without)"
    return Fact("missing", summary, _remedy(status))


def _status() -> OpenCVStatus:
    # Imported here: the package around it needs NumPy, which may be what is missing.
    from stnls_cli.flow.opencv import opencv_status

    return opencv_status()


def _remedy(status: OpenCVStatus) -> str | None:
    return f"run: {status.remedy}" if status.remedy else None
