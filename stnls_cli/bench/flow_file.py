"""The flow of a clip, from files: a second row for the searches whose frames have its size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stnls_cli.bench.problem import Problem
from stnls_cli.errors import UserError

if TYPE_CHECKING:
    from stnls_cli.flow import FlowFiles

FILE = "file"
"""What rows call the flow of a clip; which clip that is, the settings say."""


@dataclass(frozen=True)
class FlowFile:
    """Flows of a clip, (height, width) in pixels. `digest` is the SHA-256 of what they hold."""

    path: Path
    height: int
    width: int
    digest: str

    @property
    def size(self) -> str:
        """As options say it: "854x480"."""
        return f"{self.width}x{self.height}"

    def settings(self) -> dict[str, str]:
        """What the result says of it: no path, which is of one machine."""
        name = Path(os.path.abspath(self.path)).name
        return {"name": name, "size": self.size, "digest": self.digest}

    def beside(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Every problem, those that fit a second time with the flow of this clip."""
        for problem in problems:
            yield problem
            if self._fits(problem):
                yield replace(problem, flow=FILE)

    def check(self, problems: Sequence[Problem], *, quick: bool) -> None:
        """UserError where none of the problems fits, one that does needs more frames, or the flow
        of a pixel that it needs is unknown; `quick`: their frames were made small."""
        fitting = [problem for problem in problems if self._fits(problem)]
        if not fitting:
            raise UserError(self._fits_none(problems, quick=quick))
        longest = max(fitting, key=_frames)
        count = _frames(longest)
        try:
            files = self._open(longest)
        except UserError as error:
            raise UserError(f"--flow-file: {error}: {longest.name} needs {count} frames") from None
        try:
            for t in range(count - 1):
                files.forward(t)
                files.backward(t + 1)
        except UserError as error:
            raise UserError(f"--flow-file: {error}") from None
        finally:
            files.close()

    def flows(self, problem: Problem) -> Tensor:
        """(frames, slots, 2, height, width), composed along the clip; where wt is 0 one slot, to
        the next frame. UserError where the flow of a pixel is unknown."""
        import stnls

        count = _frames(problem)
        shape = 1, count, 2, self.height, self.width
        forward, backward = (torch.zeros(shape) for _ in range(2))
        files = self._open(problem)
        try:
            for t in range(count - 1):
                forward[0, t] = torch.from_numpy(files.forward(t)).permute(2, 0, 1)
                backward[0, t + 1] = torch.from_numpy(files.backward(t + 1)).permute(2, 0, 1)
        finally:
            files.close()
        if problem.wt == 0:
            return forward[0, : problem.frames, None]
        composed: Tensor = stnls.nn.search_flow(forward, backward, problem.wt)
        return composed[0]

    def _open(self, problem: Problem) -> FlowFiles:
        from stnls_cli.flow import open_flow_files

        stop = _frames(problem)
        return open_flow_files(self.path, height=self.height, width=self.width, stop=stop)

    def _fits(self, problem: Problem) -> bool:
        return _takes(problem) and (problem.height, problem.width) == (self.height, self.width)

    def _fits_none(self, problems: Sequence[Problem], *, quick: bool) -> str:
        sizes = list(dict.fromkeys(f"{p.width}x{p.height}" for p in problems if _takes(p)))
        if not sizes:
            return (
                "--flow-file gives searches of pictures a second row, and there are none here: "
                "name an alignment preset with --preset"
            )
        remedy = "leave out --quick" if quick else f"`stnls flow CLIP --size {sizes[0]}` makes one"
        return (
            f"--flow-file: the flow of {self.path} is {self.size}, the frames to search are "
            f"{', '.join(sizes)}: {remedy}"
        )


def open_flow_file(path: str) -> FlowFile:
    """UserError for what holds no flow."""
    from stnls_cli.flow import open_flow_files

    try:
        files = open_flow_files(path, height=None, width=None)
        try:
            digest = files.digest()
        finally:
            files.close()
    except UserError as error:
        raise UserError(f"--flow-file: {error}") from None
    assert files.height is not None
    assert files.width is not None
    return FlowFile(Path(path), files.height, files.width, digest)


def _takes(problem: Problem) -> bool:
    """A search of pictures that has no flow of its own."""
    return "Search" in problem.operator and problem.is_image and problem.flow is None


def _frames(problem: Problem) -> int:
    """Of the clip; a pair is a frame and the next one."""
    return max(problem.frames, 2)
