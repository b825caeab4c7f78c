"""One finding of `stnls doctor`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
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


def pip_install(requirements: str) -> str:
    """The remedy that installs something with the Python that runs."""
    return f"run: {sys.executable} -m pip install {requirements}"
