"""Importing cv2, and saying what is wrong with an installation that lacks something.

Every OpenCV wheel unpacks into the same folder `cv2`. A second wheel overwrites the first in part:
`cv2.optflow` stays visible but empty, and removing either wheel leaves the other gutted. So what
counts is whether the function itself is there, and the only cure is to remove all and start again.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from stnls_cli.errors import UserError

WHEEL = re.compile(r"opencv-(contrib-)?python(-[a-z0-9-]+)?")


@dataclass(frozen=True)
class OpenCVStatus:
    """What there is of OpenCV: for `stnls doctor`."""

    version: str | None
    """None when cv2 cannot be imported."""
    wheels: tuple[str, ...]
    """Wheels that claim the folder cv2, as "name version"; none for a build of one's own."""
    tvl1: bool
    system_libraries: bool
    """False when one that cv2 links to, such as libGL.so.1, is missing."""
    problem: str | None
    remedy: str | None
    """One shell command, or None when nothing is wrong."""


class OpenCVError(UserError):
    """OpenCV cannot be used as installed: the problem and the command against it, in one line."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; run: {remedy}")
        self.problem = problem
        self.remedy = remedy


def import_cv2() -> Any:
    """The module cv2, or an OpenCVError that says how to get it."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise OpenCVError(f"cv2 cannot be imported ({error})", reinstall_command()) from error
        raise OpenCVError("OpenCV (the module cv2) is not installed", reinstall_command()) from None
    except ImportError as error:
        library = _missing_library(str(error))
        if library is None:
            raise OpenCVError(f"cv2 cannot be imported ({error})", reinstall_command()) from error
        raise OpenCVError(
            f"OpenCV needs the system library {library}, which is missing{_package(library)}",
            reinstall_command(headless=True),
        ) from None
    if not hasattr(cv2, "DISOpticalFlow_create"):
        # What is left when one of two wheels was removed: a folder without its binary.
        raise OpenCVError(_broken("cv2 is only in part installed"), reinstall_command())
    return cv2


def require_contrib(name: str, purpose: str) -> Any:
    """The function `cv2.optflow.<name>`, which only the opencv-contrib wheels have."""
    cv2 = import_cv2()
    function = getattr(getattr(cv2, "optflow", None), name, None)
    if function is None:
        raise OpenCVError(
            _broken(f"{purpose} needs cv2.optflow.{name}, which this OpenCV lacks"),
            reinstall_command(),
        )
    return function


def require_tvl1() -> Any:
    """OpenCV's factory of TV-L1 objects."""
    return require_contrib("DualTVL1OpticalFlow_create", "TV-L1 flow")


def opencv_status() -> OpenCVStatus:
    """Look at the installation without raising."""
    wheels = tuple(f"{name} {version}" for name, version in installed_wheels())
    version: str | None = None
    try:
        version = str(import_cv2().__version__)
        require_tvl1()
    except OpenCVError as error:
        libraries = version is not None or _missing_library(error.problem) is None
        return OpenCVStatus(version, wheels, False, libraries, error.problem, error.remedy)
    return OpenCVStatus(version, wheels, True, True, None, None)


def installed_wheels() -> list[tuple[str, str]]:
    """Name and version of every installed wheel that owns the folder cv2, sorted."""
    found = {}
    for distribution in metadata.distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if WHEEL.fullmatch(name):
            found[name] = str(distribution.version)
    return sorted(found.items())


def reinstall_command(*, headless: bool | None = None) -> str:
    """One command that removes every OpenCV wheel found and installs the contrib wheel.

    A headless wheel is replaced by a headless one, unless `headless` says otherwise.
    """
    wheels = [name for name, _ in installed_wheels()]
    if headless is None:
        headless = any(name.endswith("headless") for name in wheels)
    wanted = "opencv-contrib-python-headless" if headless else "opencv-contrib-python"
    pip = f"{shlex.quote(sys.executable)} -m pip"
    uninstall = f"{pip} uninstall -y {' '.join(wheels)} && " if wheels else ""
    return f"{uninstall}{pip} install {shlex.quote(wanted + _tested_range())}"


def _tested_range() -> str:
    """The versions of OpenCV that stnls names as its own; "" where it is not installed."""
    try:
        needed = metadata.requires("stnls") or []
    except metadata.PackageNotFoundError:
        return ""
    for requirement in needed:
        name = re.match(r"[\w-]+", requirement)
        if name is not None and name[0] == "opencv-contrib-python":
            return requirement[name.end() :].partition(";")[0].strip()
    return ""


def _package(library: str) -> str:
    package = {"libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0"}.get(library)
    if package is None:
        return ""
    return f" (apt-get install {package} brings it; opencv-contrib-python-headless needs none)"


def _missing_library(message: str) -> str | None:
    found = re.search(r"\blib[\w.+-]+\.so(\.\d+)*", message)
    return found.group(0) if found else None


def _broken(what: str) -> str:
    wheels = [name for name, _ in installed_wheels()]
    if not wheels:
        return what
    several = ", which overwrite one another" if len(wheels) > 1 else ""
    return f"{what} (installed: {', '.join(wheels)}{several})"


_lock = threading.Lock()
_users = 0
_threads_before = 0


@contextlib.contextmanager
def opencv_single_threaded() -> Iterator[None]:
    """OpenCV's own threads off, process-wide, until the last user leaves.

    Pairs run side by side instead. It also makes DIS repeatable: its stripes, one for each of
    OpenCV's threads, would otherwise change the result from machine to machine.
    """
    global _users, _threads_before
    cv2 = import_cv2()
    with _lock:
        if _users == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                cv2.setNumThreads(_threads_before)
