"""What flow files of every layout have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stnls_cli.errors import UserError
from stnls_cli.flow.flo import UNKNOWN, Flow

Kind = Literal["forward", "backward"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEADS_TO = {"forward": "t -> t+1", "backward": "t -> t-1"}


class FlowFiles(ABC):
    """Flows of a clip of height x width pixels; safe to read from several threads.

    Where the size is None, it is that of the first flow.
    """

    layout: str

    def __init__(self, path: Path, height: int | None, width: int | None) -> None:
        self.path = path
        self.height = height
        self.width = width

    def forward(self, t: int) -> Flow:
        """Flow from frame t to frame t+1, (H, W, 2) float32."""
        return self.read("forward", t)

    def backward(self, t: int) -> Flow:
        """Flow from frame t to frame t-1, (H, W, 2) float32."""
        return self.read("backward", t)

    def read(self, kind: Kind, t: int) -> Flow:
        """One flow by its direction, checked."""
        flow, where = self._load(kind, t)
        # A comparison with NaN is false, so this finds NaN, infinities and Middlebury's mark.
        unusable = int(np.count_nonzero(~(np.abs(flow) <= UNKNOWN).all(axis=2)))
        if unusable:
            raise UserError(
                f"{where}: {unusable} pixel{'' if unusable == 1 else 's'} of unknown or non-finite "
                "flow; the search needs a flow at every pixel"
            )
        return flow

    @abstractmethod
    def require(self, start: int, stop: int) -> None:
        """Refuse at once when a flow between the frames start <= t < stop is missing."""

    @abstractmethod
    def _load(self, kind: Kind, t: int) -> tuple[Flow, str]:
        """The flow and the words that say where it is from."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over names and contents, as "sha256:...": reads everything."""

    @abstractmethod
    def close(self) -> None:
        """Let go of open files."""

    def check_size(self, width: int, height: int, where: str) -> None:
        """Refuse a flow that does not fit the frames; both sizes are said."""
        if self.height is None or self.width is None:
            self.height, self.width = height, width
        if (width, height) != (self.width, self.height):
            raise UserError(
                f"{where}: the flow is {width}x{height}, the frames are {self.width}x{self.height}"
            )


def needed(start: int, stop: int) -> tuple[tuple[Kind, int, int], ...]:
    """Direction, first and last frame whose flow lies between frames start <= t < stop."""
    return (("forward", start, stop - 2), ("backward", start + 1, stop - 1))


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        total = hashlib.sha256()
        while block := file.read(1 << 20):
            total.update(block)
        return total.hexdigest()
