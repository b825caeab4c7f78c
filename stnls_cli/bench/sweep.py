"""Cost against one parameter at a time, and the power that it grows with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from stnls_cli.bench.backends import Session
from stnls_cli.bench.calls import bound, operator
from stnls_cli.bench.inputs import InputMaker
from stnls_cli.bench.problem import Problem
from stnls_cli.bench.timer import measure


@dataclass(frozen=True)
class Axis:
    """A parameter, its values, and the measure of size that cost should be proportional to."""

    name: str
    label: str
    values: tuple[int, ...]
    problem: Callable[[Problem, int], Problem]
    size: Callable[[Problem], int]


def _square(p: Problem, side: int) -> Problem:
    return replace(p, height=side, width=side)


AXES = (
    Axis(
        "ws",
        "positions of the window, ws²",
        (3, 5, 7, 9, 13, 19, 27),
        lambda p, n: replace(p, ws=n),
        lambda p: p.ws**2,
    ),
    Axis(
        "wt",
        "temporal slots, 2 wt + 1",
        (0, 1, 2, 3),
        lambda p, n: replace(p, wt=n, frames=7),
        lambda p: p.slots,
    ),
    Axis(
        "frames",
        "frames",
        (3, 4, 6, 8, 12),
        lambda p, n: replace(p, frames=n),
        lambda p: p.frames,
    ),
    Axis(
        "pixels",
        "pixels of a frame",
        (64, 96, 128, 192, 256, 384, 512),
        _square,
        lambda p: p.height * p.width,
    ),
    Axis(
        "channels",
        "channels",
        (1, 2, 3, 6, 12, 24),
        lambda p, n: replace(p, channels=n),
        lambda p: p.channels,
    ),
    Axis(
        "K", "matches kept, K", (1, 2, 5, 10, 20, 40), lambda p, n: replace(p, k=n), lambda p: p.k
    ),
)


def base_problem(grid: str, *, cuda: bool, quick: bool) -> Problem:
    """The problem that one parameter at a time is changed of; large enough to keep a GPU busy."""
    side = 24 if quick else (384 if cuda else 128)
    return Problem(
        operator="NonLocalSearch",
        frames=3,
        channels=3,
        height=side,
        width=side,
        ws=9,
        wt=1,
        ps=7,
        grid="int" if grid == "int" else "float",
    )


def problems_of(axis: Axis, base: Problem, *, cuda: bool, quick: bool) -> Iterator[Problem]:
    """One for each value."""
    values = axis.values[:3] if quick else axis.values
    for value in values:
        if axis.name == "pixels":
            value = value // 4 if quick else value * (4 if cuda else 1)
        yield axis.problem(base, value)


def run_sweeps(
    maker: InputMaker, session: Session, listen: Callable[[dict[str, Any]], None]
) -> None:
    """Hands over each line of a picture when it is measured."""
    cuda = session.device.type == "cuda"
    for axis in AXES:
        for grid in ("int", "float"):
            base = base_problem(grid, cuda=cuda, quick=session.quick)
            points = []
            for problem in problems_of(axis, base, cuda=cuda, quick=session.quick):
                inputs = maker.make(problem)
                call = bound(problem, operator(problem), inputs)
                timing, _ = measure(call, session.device, session.plan)
                points.append(
                    {
                        "problem": problem.name,
                        "size": axis.size(problem),
                        "median_ms": timing.median,
                        "spread_ms": timing.spread,
                    }
                )
            listen(as_line(axis, grid, points))


def as_line(axis: Axis, grid: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """The points of one axis, with the power fitted to all and the one of the last step."""
    sizes, times = [p["size"] for p in points], [p["median_ms"] for p in points]
    return {
        "axis": axis.name,
        "label": axis.label,
        "grid": grid,
        # As they are said: what is kept does not round to another number.
        "exponent": round(exponent(sizes, times), 2),
        "last_exponent": round(exponent(sizes[-2:], times[-2:]), 2),
        "points": points,
    }


def exponent(sizes: list[float], times: list[float]) -> float:
    """a of time ~ size^a, by least squares of the logarithms."""
    x, y = [math.log(v) for v in sizes], [math.log(v) for v in times]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def exponent_line(line: dict[str, Any]) -> str:
    """For a person."""
    sizes = [p["size"] for p in line["points"]]
    return (
        f"  {line['label']:<30} {line['grid']:<6} {sizes[0]:>6} to {sizes[-1]:<8}"
        f" time ~ x^{line['exponent']:.2f} (last step x^{line['last_exponent']:.2f})"
    )
