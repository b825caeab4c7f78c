"""One row of the result: who computed what, how long it took, and what that says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from stnls_cli.bench.ceilings import Ceilings
from stnls_cli.bench.cost import Cost
from stnls_cli.bench.problem import Problem

Status = Literal["ok", "error", "skipped", "planned"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Times in milliseconds. `spread_ms` is the median absolute deviation, `scale` how many times
    larger the problem is than what was timed, `checked` whether the result was compared with the
    reference. Shares are of the ceilings; `peak_share` is the peak over inputs and outputs."""

    preset: str
    problem: str
    parameters: dict[str, Any] = field(repr=False)
    flow: str
    dtype: str
    backend: str
    status: Status
    message: str = ""
    median_ms: float | None = None
    spread_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    runs: int = 0
    scale: float = 1.0
    checked: bool = False
    flops: int
    input_bytes: int
    output_bytes: int
    gb_s: float | None = None
    tflop_s: float | None = None
    share_of_copy: float | None = None
    share_of_fma: float | None = None
    peak_bytes: int | None = None
    peak_share: float | None = None
    original: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of one problem."""

    preset: str
    problem: Problem
    flow: str
    dtype: str
    cost: Cost
    original: dict[str, Any] | None

    def row(self, backend: str, status: Status, message: str = "", **values: Any) -> Row:
        """A row with or without figures."""
        return Row(
            preset=self.preset,
            problem=self.problem.name,
            parameters=self.problem.parameters(),
            flow=self.flow,
            dtype=self.dtype,
            backend=backend,
            status=status,
            message=message,
            flops=self.cost.flops,
            input_bytes=self.cost.input_bytes,
            output_bytes=self.cost.output_bytes,
            original=self.original if backend == "stnls" else None,
            **values,
        )

    def timed(
        self,
        backend: str,
        times: list[float],
        *,
        ceilings: Ceilings,
        median: float,
        spread: float,
        scale: float = 1.0,
        above: int | None = None,
        checked: bool = False,
        message: str = "",
    ) -> Row:
        """A row with figures; `above` is the peak above the memory in use before the call."""
        seconds = median * scale / 1e3
        peak = None if above is None or scale != 1 else self.cost.input_bytes + above
        gb_s, tflop_s = self.cost.bytes / seconds / 1e9, self.cost.flops / seconds / 1e12
        return self.row(
            backend,
            "ok",
            message,
            median_ms=median * scale,
            spread_ms=spread * scale,
            min_ms=min(times) * scale,
            max_ms=max(times) * scale,
            runs=len(times),
            scale=scale,
            checked=checked,
            gb_s=gb_s,
            tflop_s=tflop_s,
            share_of_copy=1e9 * gb_s / ceilings.copy_bytes,
            share_of_fma=1e12 * tflop_s / ceilings.fma_flops,
            peak_bytes=peak,
            peak_share=None if peak is None else peak / self.cost.bytes,
        )
