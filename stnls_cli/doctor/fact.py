"""One finding of `stnls doctor`."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

Status = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Fact:
    """What there is of one thing that the tool runs on, and what to do where it is not right."""

    status: Status
    """`missing`: not there; `problem`: there, and does not work as it should."""
    summary: str
    """One line: version and place, or why it is off."""
    remedy: str | None = None
    """What to do, one line."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The same as JSON values, for `--json`."""

    @property
    def ok(self) -> bool:
        """Whether `--require` is content."""
        return self.status == "ok"


def one_line(error: BaseException) -> str:
    """An error's message on one line, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def pip_install(package: str, *options: str) -> str:
    """The remedy that installs a package for the Python that runs, in a version that was tried."""
    command = [sys.executable, "-m", "pip", "install", *options, _requirement(package)]
    return f"run: {shlex.join(command)}"


def _requirement(package: str) -> str:
    """The requirement as in the metadata of stnls, e.g. "av<19,>=17.1"; else the bare name."""
    try:
        requirements = metadata.requires("stnls") or []
    except metadata.PackageNotFoundError:
        requirements = []
    of_this = re.compile(rf"{re.escape(package)}(?![\w.-])[^;]*$", re.IGNORECASE)
    return next((text.strip() for text in requirements if of_this.match(text)), package)
