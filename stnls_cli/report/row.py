"""One measurement: an aligned neighbour against its reference frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from stnls_cli.report.plain import from_plain, plain

METHODS = ("none", "flow", "nls", "shifted-nls")
SETTINGS = (
    "flow", "ws", "wt", "ps", "stride1", "k", "dist", "grid", "aggregate", "sigma", "seed",
    "weights", "bandwidth", "prior", "subpixel", "patch_weights", "sampling",
)  # fmt: skip
SCORES = (
    "psnr", "ssim", "mae", "out_of_frame", "psnr_visible", "ssim_visible", "mae_visible", "visible",
    "epe", "at_edge",
)  # fmt: skip

_SEARCH = frozenset(SETTINGS) - {"flow"}
USED: dict[str, frozenset[str]] = {
    "none": frozenset(),
    # The flow is computed from the noisy frames, so the noise is one of its settings.
    "flow": frozenset({"flow", "sigma", "seed"}),
    "nls": _SEARCH,
    "shifted-nls": _SEARCH | {"flow"},
}
"""The settings that have an influence on each method; the others are empty in its rows."""


@dataclass(frozen=True)
class Row:
    """A row of report.csv; the fields are its columns, in order. `None` is an empty cell.

    Frame `t + dt` aligned to frame `t` (indices of the source clip) by `method`. `psnr` in dB,
    `mae` on the 0-255 scale, `epe` in pixels; `out_of_frame`, `visible` and `at_edge` are shares in
    0..1. From `psnr_visible` on, only `stnls compare` measures them.
    """

    clip: str
    t: int
    dt: int
    method: str
    flow: str | None = None
    ws: int | None = None
    wt: int | None = None
    ps: int | None = None
    stride1: float | None = None
    k: int | None = None
    dist: str | None = None
    grid: str | None = None
    aggregate: str | None = None
    sigma: float | None = None
    seed: int | None = None
    psnr: float | None = None
    ssim: float | None = None
    mae: float | None = None
    out_of_frame: float | None = None
    weights: str | None = None
    bandwidth: float | None = None
    psnr_visible: float | None = None
    ssim_visible: float | None = None
    mae_visible: float | None = None
    visible: float | None = None
    epe: float | None = None
    at_edge: float | None = None
    prior: float | None = None
    subpixel: str | None = None
    patch_weights: str | None = None
    sampling: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: one of {', '.join(METHODS)}")
        for name in SCORES:
            score = getattr(self, name)
            if score is not None and math.isnan(score):
                # No number: left out here, so that it cannot spoil a mean.
                object.__setattr__(self, name, None)

    def to_json(self) -> dict[str, Any]:
        """All columns, unused ones as None, infinity as "inf"."""
        # Long clips have tens of thousands of rows, and most values are plain already.
        return {
            name: value if _is_plain(value) else plain(value)
            for name, value in self.__dict__.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The inverse of `to_json`; keys that are no column are passed over."""
        values = {name: data.get(name) for name in COLUMNS}
        return cls(**{**values, **{name: from_plain(values[name]) for name in SCORES}})


COLUMNS = tuple(field.name for field in fields(Row))


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is int or (kind is str and value.isascii())


@dataclass(frozen=True)
class RowSettings:
    """The settings of one run, from which each method's rows take those that it uses.

    `flow` is the flow's name or the file it was read from.
    """

    flow: str
    ws: int
    wt: int
    ps: int
    stride1: float
    k: int
    dist: str
    grid: str
    aggregate: str
    sigma: float
    seed: int
    weights: str
    bandwidth: float
    prior: float
    subpixel: str
    patch_weights: str
    sampling: str

    def named(self, clip: str, row: Row) -> Row:
        """The row of an earlier run with the same settings, whose files may have been renamed."""
        flow = self.flow if row.flow is not None else None
        return row if (row.clip, row.flow) == (clip, flow) else replace(row, clip=clip, flow=flow)

    def row(
        self, clip: str, t: int, dt: int, method: str, scores: Mapping[str, float | None]
    ) -> Row:
        """A row with this method's settings; `out_of_frame` is kept where a flow was used."""
        if method not in METHODS:
            raise ValueError(f"method {method!r}: one of {', '.join(METHODS)}")
        used = USED[method]
        cells: dict[str, Any] = {name: getattr(self, name) for name in SETTINGS if name in used}
        if self.k == 1:  # one match has no weight, and softmax wants several
            cells.pop("weights", None)
        if self.weights != "softmax":
            cells.pop("bandwidth", None)
        if self.aggregate == "pixel":
            cells.pop("patch_weights", None)
        cells.update({name: score for name, score in scores.items() if name in SCORES})
        if "flow" not in used:
            cells.pop("out_of_frame", None)
        return Row(clip, t, dt, method, **cells)
