"""Python, and the packages that the tool imports."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from stnls_cli.doctor.fact import Fact, one_line, pip_install

PYTHONS = ((3, 10), (3, 13))
"""First and last Python that stnls was run with."""

ENCODERS = ("png", "ffv1")
"""What the tool writes frames and videos with."""


def check_stnls() -> Fact:
    """The tool itself."""
    place = str(Path(__file__).resolve().parents[1])
    try:
        version = metadata.version("stnls")
    except metadata.PackageNotFoundError:
        return Fact("missing", f"runs from {place}, not installed", pip_install(".", "--editable"))
    return Fact("ok", f"{version} in {place}", details={"version": version, "path": place})


def check_python() -> Fact:
    """The interpreter."""
    version = platform.python_version()
    details = {"version": version, "path": sys.executable}
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Fact("ok", f"{version} at {sys.executable}", details=details)
    first, last = (".".join(map(str, limit)) for limit in PYTHONS)
    remedy = f"use Python {first} to {last}"
    return Fact("problem", f"{version} was never tried with stnls", remedy, details)


def check_torch() -> Fact:
    """PyTorch, and the CUDA that it was built with."""

    def describe(torch: Any) -> str:
        cuda = torch.version.cuda
        return f"{torch.__version__}, built {f'with CUDA {cuda}' if cuda else 'without CUDA'}"

    return _check_package("torch", describe)


def check_numpy() -> Fact:
    """NumPy."""
    return _check_package("numpy", lambda numpy: str(numpy.__version__))


def check_kornia() -> Fact:
    """Kornia, which `stnls compare` takes for its maps of SSIM."""
    return _check_package("kornia", lambda kornia: str(kornia.__version__))


def check_rich() -> Fact:
    """Rich, which writes tables and progress bars."""
    return _check_package("rich", lambda rich: _version_of(rich, "rich"))


def check_page() -> Fact:
    """The packages that make report.html."""
    distributions = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
    checked = [
        _check_package(name, partial(_version_of, distribution=wheel), wheel)
        for name, wheel in distributions.items()
    ]
    names = ("Jinja2", "Matplotlib", "Pillow")
    for name, fact in zip(names, checked, strict=True):
        if not fact.ok:
            return Fact(fact.status, f"{name}: {fact.summary}", fact.remedy)
    told = [f"{name} {fact.summary}" for name, fact in zip(names, checked, strict=True)]
    return Fact("ok", ", ".join(told))


def check_av() -> Fact:
    """PyAV."""
    return _check_package("av", lambda av: f"PyAV {av.__version__}")


def check_ffmpeg() -> Fact:
    """FFmpeg as PyAV carries it, with the encoders that the tool writes with."""
    try:
        av: Any = importlib.import_module("av")
    except Exception:
        return Fact("missing", "comes with PyAV, which is not usable", pip_install("av"))
    version = str(getattr(av, "ffmpeg_version_info", "of unknown version"))
    libraries = {
        name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())
    }
    details = {"version": version, "libraries": libraries}
    listed = ", ".join(f"{name} {number}" for name, number in libraries.items())
    lacking = [name for name in ENCODERS if not _has_encoder(av, name)]
    if lacking:
        summary = f"{version} has no encoder for {' and '.join(lacking)} ({listed})"
        remedy = pip_install("av", "--force-reinstall", "--only-binary=av")
        return Fact("problem", summary, remedy, details)
    return Fact("ok", f"{version} ({listed})", details=details)


def _has_encoder(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except Exception:
        return False
    return True


def _check_package(
    name: str, describe: Callable[[Any], str], distribution: str | None = None
) -> Fact:
    """Whether a package can be imported; a broken one may raise anything. `distribution`: what pip
    calls it, where that is another name."""
    wheel = distribution or name
    try:
        package: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return Fact("missing", "not installed", pip_install(wheel))
        lacking = (error.name or name).partition(".")[0]
        return Fact("problem", f"cannot be imported: {one_line(error)}", pip_install(lacking))
    except Exception as error:
        remedy = pip_install(wheel, "--force-reinstall")
        return Fact("problem", f"cannot be imported: {one_line(error)}", remedy)
    return Fact("ok", describe(package), details={"version": _version_of(package, wheel)})


def _version_of(package: Any, distribution: str) -> str:
    """As the package says, which may be more than its metadata does; some say nothing."""
    return str(getattr(package, "__version__", None) or metadata.version(distribution))
