"""What every backend offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stnls_cli.bench.problem import Problem
from stnls_cli.bench.timer import Plan, Timing, measure

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Session:
    """What holds for all rows."""

    device: torch.device
    plan: Plan
    quick: bool = False
    peer_path: str | None = None


@dataclass(frozen=True)
class Case:
    """A problem with its tensors; `flow` is the name of the flow it has."""

    problem: Problem
    inputs: Tensors
    flow: str


@dataclass(frozen=True)
class Outcome:
    """A timing; `scale`: how many times larger the problem is than what was timed; `results`: of
    one call, where they can be compared with the reference; `note`: what a reader must know."""

    timing: Timing
    scale: float = 1.0
    results: Tensors | None = None
    note: str = ""


class Backend(ABC):
    """One that computes problems. `name` is what `--backend` calls it."""

    name: ClassVar[str]

    @abstractmethod
    def available(self, session: Session) -> str | None:
        """None, or why it cannot be asked here."""

    @abstractmethod
    def covers(self, case: Case) -> bool:
        """Whether it computes something that can be compared with the problem."""

    @abstractmethod
    def run(self, case: Case, session: Session) -> Outcome:
        """Times the problem."""

    def close(self) -> None:
        """Lets go of what it holds."""
        return


def time_call(call: Callable[[], Tensors], session: Session, note: str = "") -> Outcome:
    """Times a call of this process, whose results can be compared."""
    timing, results = measure(call, session.device, session.plan)
    return Outcome(timing, results=results, note=note)
